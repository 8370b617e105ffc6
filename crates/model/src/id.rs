//! Names of services, releases, instances and listeners: checked once, then passed around as types.

use std::fmt;
use std::str::FromStr;

/// Longest name of a service or listener, in bytes. Keeps every path made from it under the
/// 107 bytes of a Unix socket address.
pub const NAME_BYTES_MAX: usize = 40;
/// Longest version, in bytes.
pub const VERSION_BYTES_MAX: usize = 64;

/// Why a text is not a name, version or id. The text says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// A service's or listener's name with a forbidden character or length.
    #[error(
        "`{0}` is not a name: use 1 to {NAME_BYTES_MAX} of a-z, 0-9 and `-`, starting with a letter or digit"
    )]
    Name(String),
    /// A version with a forbidden character or length.
    #[error(
        "`{0}` is not a version: use 1 to {VERSION_BYTES_MAX} of a-z, A-Z, 0-9, `.`, `_` and `-`, starting with a letter or digit"
    )]
    Version(String),
    /// A release id that is not `VERSION` or `VERSION+cN`.
    #[error("`{0}` is not a release: write VERSION or VERSION+cN")]
    Release(String),
    /// An instance id that is not `SERVICE@RELEASE/NUMBER`.
    #[error("`{0}` is not an instance: write SERVICE@VERSION/NUMBER")]
    Instance(String),
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= NAME_BYTES_MAX
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_version(text: &str) -> bool {
    text.len() <= VERSION_BYTES_MAX
        && text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $check:ident, $error:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                if $check(text) { Ok(Self(text.to_owned())) } else { Err(IdError::$error(text.to_owned())) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

text_id!(
    /// Name of a service in the manifest.
    ServiceName, is_name, Name
);
text_id!(
    /// Name of a listener in the manifest.
    ListenerName, is_name, Name
);
text_id!(
    /// Version of a release, as the user gives it.
    Version, is_version, Version
);

/// A release of a service: the immutable artifact (by version) with one configuration of it.
///
/// Shown as `1.4.1`, and `1.4.1+c2` for the second configuration of the same version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseId {
    /// The artifact.
    pub version: Version,
    /// Which configuration of it, from 1.
    pub configuration: u32,
}

impl ReleaseId {
    /// The first configuration of `version`.
    pub fn first(version: Version) -> Self {
        Self { version, configuration: 1 }
    }
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.configuration == 1 {
            f.pad(self.version.as_str())
        } else {
            f.pad(&format!("{}+c{}", self.version, self.configuration))
        }
    }
}

impl FromStr for ReleaseId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bad = || IdError::Release(text.to_owned());
        let (version, configuration) = match text.split_once("+c") {
            None => (text, 1),
            Some((version, number)) => (version, number.parse().ok().filter(|n| *n > 1).ok_or_else(bad)?),
        };
        Ok(Self { version: version.parse().map_err(|_inner: IdError| bad())?, configuration })
    }
}

/// One slot for an OS process of a release. The slot, and so the id, stays through restarts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId {
    /// The service it belongs to.
    pub service: ServiceName,
    /// The release it runs.
    pub release: ReleaseId,
    /// Its number among the living slots of that release, from 0.
    pub number: u32,
}

impl InstanceId {
    /// The id as one path component: `service@release.number` (the last `.` splits it again).
    pub fn file_name(&self) -> String {
        format!("{}@{}.{}", self.service, self.release, self.number)
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}@{}/{}", self.service, self.release, self.number))
    }
}

impl FromStr for InstanceId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bad = || IdError::Instance(text.to_owned());
        let (service, rest) = text.split_once('@').ok_or_else(bad)?;
        let (release, number) = rest.rsplit_once('/').ok_or_else(bad)?;
        Ok(Self {
            service: service.parse().map_err(|_inner: IdError| bad())?,
            release: release.parse().map_err(|_inner: IdError| bad())?,
            number: number.parse().map_err(|_not_a_number| bad())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_id_reads_back_what_it_shows() {
        for text in ["web@1.4.1/0", "web@1.4.1+c2/17", "a-b@0_x.y-z/3"] {
            assert_eq!(text.parse::<InstanceId>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn names_that_could_leave_a_folder_are_refused() {
        for text in ["", "..", "a/b", "A", "-a", "a b", "ä", &"x".repeat(41)] {
            assert!(text.parse::<ServiceName>().is_err(), "{text}");
        }
        for text in ["", ".", "..", ".1", "1/2", "1+c2", "1 2"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_first_configuration_has_one_spelling_only() {
        assert!("1.0+c1".parse::<ReleaseId>().is_err());
        assert!("1.0+c0".parse::<ReleaseId>().is_err());
        assert_eq!("1.0+c2".parse::<ReleaseId>().unwrap().configuration, 2);
    }
}
