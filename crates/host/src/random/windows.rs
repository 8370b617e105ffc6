//! `BCryptGenRandom` with the system's generator.
#![expect(unsafe_code, reason = "one call of the Windows API")]

use windows_sys::Win32::Security::Cryptography::{BCRYPT_USE_SYSTEM_PREFERRED_RNG, BCryptGenRandom};

pub(super) fn fill(bytes: &mut [u8]) {
    let length = u32::try_from(bytes.len()).expect("invariant: a few bytes");
    // SAFETY: the buffer is valid for `length` bytes, and a null algorithm goes with this flag.
    let status = unsafe {
        BCryptGenRandom(std::ptr::null_mut(), bytes.as_mut_ptr(), length, BCRYPT_USE_SYSTEM_PREFERRED_RNG)
    };
    assert!(status == 0, "the system gives no random bytes: status {status:#x}");
}
