//! GetDiskFreeSpaceExW.
#![expect(unsafe_code, reason = "a call of the Windows API")]

use std::io;
use std::os::windows::ffi::OsStrExt;
use std::path::Path;

use windows_sys::Win32::Storage::FileSystem::GetDiskFreeSpaceExW;

pub(super) fn free_bytes(path: &Path) -> io::Result<u64> {
    let name: Vec<u16> = path.as_os_str().encode_wide().chain([0]).collect();
    let mut free = 0;
    // SAFETY: the name ends with a zero, `free` is valid for the write, and the other results are not asked for.
    let done = unsafe {
        GetDiskFreeSpaceExW(name.as_ptr(), &raw mut free, std::ptr::null_mut(), std::ptr::null_mut())
    };
    if done == 0 { Err(io::Error::last_os_error()) } else { Ok(free) }
}
