//! Values that are text in the file and more than text in meaning: durations, sizes, ports, paths, addresses.

use std::net::SocketAddr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use toml::Spanned;
use toml::de::DeValue;

use super::error::Problem;
use super::read::{Problems, Read, last, not_a};
use super::units::{UnitError, parse_duration, parse_percent, parse_ports, parse_size};

/// A duration: `"30s"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

/// A size in bytes: `"64KiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

/// A range of ports: `"20000-29999"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ports(pub(super) (u16, u16));

/// A share in basis points: `"20%"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Percent(pub(super) u32);

/// A path, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PathText(pub(super) String);

/// A file mode creation mask: `"027"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Umask(pub(super) u32);

/// An address to listen on: `"0.0.0.0:8080"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Address(pub(super) SocketAddr);

/// A mask has no bits beyond the permissions.
const UMASK_MAX: u32 = 0o777;

/// Gives a value type its place in the schema: a string with a pattern.
macro_rules! text_schema {
    ($name:ident, $description:literal, $pattern:literal) => {
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": $description, "pattern": $pattern })
            }
        }
    };
}

text_schema!(Span, "duration with units", r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$");
text_schema!(Size, "size with a unit", "^[0-9]+ ?(B|KiB|MiB|GiB|TiB)?$");
text_schema!(Percent, "share of a hundred", r"^[0-9]+(\.[0-9]{1,2})?%$");
text_schema!(Ports, "range of ports", "^[0-9]+ ?- ?[0-9]+$");
text_schema!(PathText, "path", "^[^\\u0000-\\u001f]+$");
text_schema!(Umask, "octal digits", "^(0o)?[0-7]{1,4}$");
text_schema!(Address, "IP:PORT", r"^(\[[0-9a-fA-F:.]+\]|[0-9.]+):[0-9]+$");

/// Reads text by `parse`; a bare number gets told what to write.
fn read_unit<T>(
    value: &Spanned<DeValue<'_>>,
    key: &str,
    problems: &mut Problems<'_>,
    what: &str,
    parse: fn(&str) -> Result<T, UnitError>,
) -> Option<T> {
    let Some(text) = value.get_ref().as_str() else {
        let written = problems.text(&value.span()).to_owned();
        let problem = not_a(value, key, what);
        let is_number = value.get_ref().is_integer() || value.get_ref().is_float();
        problems.push(if is_number { problem.help(quoted_number_help(what, &written)) } else { problem });
        return None;
    };
    match parse(text) {
        Ok(read) => Some(read),
        Err(why) => {
            let message = format!("`{}` is not {what}", last(key));
            problems.push(Problem::error(key, value.span(), message).help(why.to_string()));
            None
        }
    }
}

fn quoted_number_help(what: &str, written: &str) -> String {
    match what {
        DURATION => {
            format!("write the unit too: \"{written}s\" for seconds, \"{written}ms\" for milliseconds")
        }
        PERCENT => format!("write it as text with its sign: \"{written}%\""),
        SIZE => format!("write it as text: \"{written}\" for bytes, or with a unit such as \"64KiB\""),
        _ => format!("write it as text, such as \"{written}-{written}\""),
    }
}

const DURATION: &str = "a duration with its unit";
const SIZE: &str = "a size";
const PERCENT: &str = "a share of a hundred";
const PORTS: &str = "a range of ports";

impl Read for Percent {
    fn read(value: &Spanned<DeValue<'_>>, key: &str, problems: &mut Problems<'_>) -> Option<Self> {
        read_unit(value, key, problems, PERCENT, parse_percent).map(Self)
    }
}

impl Read for Span {
    fn read(value: &Spanned<DeValue<'_>>, key: &str, problems: &mut Problems<'_>) -> Option<Self> {
        read_unit(value, key, problems, DURATION, parse_duration).map(Self)
    }
}

impl Read for Size {
    fn read(value: &Spanned<DeValue<'_>>, key: &str, problems: &mut Problems<'_>) -> Option<Self> {
        read_unit(value, key, problems, SIZE, parse_size).map(Self)
    }
}

impl Read for Ports {
    fn read(value: &Spanned<DeValue<'_>>, key: &str, problems: &mut Problems<'_>) -> Option<Self> {
        read_unit(value, key, problems, PORTS, parse_ports).map(Self)
    }
}

impl Read for PathText {
    fn read(value: &Spanned<DeValue<'_>>, key: &str, problems: &mut Problems<'_>) -> Option<Self> {
        let text = String::read(value, key, problems)?;
        if text.is_empty() {
            let message = format!("`{}` is empty", last(key));
            problems.push(Problem::error(key, value.span(), message).help("write a path"));
            return None;
        }
        if let Some(control) = text.chars().find(|c| c.is_control()) {
            let message = format!("`{}` has the character {} in it", last(key), control.escape_default());
            let problem = Problem::error(key, value.span(), message);
            problems.push(problem.label("read as an escape").help(WINDOWS_PATH_HELP));
            return None;
        }
        Some(Self(text))
    }
}

impl Read for Umask {
    fn read(value: &Spanned<DeValue<'_>>, key: &str, problems: &mut Problems<'_>) -> Option<Self> {
        let text = String::read(value, key, problems)?;
        let digits = text.strip_prefix("0o").unwrap_or(&text);
        let is_octal = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        let mask = u32::from_str_radix(digits, 8).ok().filter(|mask| is_octal && *mask <= UMASK_MAX);
        if mask.is_none() {
            let message = format!("`{}` cannot be \"{text}\"", last(key));
            let help = "write one to three octal digits, such as \"027\": nothing for others, no writing for the group";
            problems.push(Problem::error(key, value.span(), message).label("no file mode mask").help(help));
        }
        mask.map(Self)
    }
}

/// For backslashes that TOML took as escapes.
pub(super) const WINDOWS_PATH_HELP: &str = "in double quotes a backslash begins an escape, such as \\n; write a \
     Windows path in single quotes, 'C:\\new\\app', or with slashes, \"C:/new/app\"";

impl Read for Address {
    fn read(value: &Spanned<DeValue<'_>>, key: &str, problems: &mut Problems<'_>) -> Option<Self> {
        let what = "an address with a port, such as \"127.0.0.1:8080\"";
        if let Some(port) = value.get_ref().as_integer() {
            let help = format!(
                "write \"0.0.0.0:{port}\" for all interfaces, \"127.0.0.1:{port}\" for this machine only"
            );
            problems.push(not_a(value, key, what).help(help));
            return None;
        }
        let text = String::read(value, key, problems)?;
        let Ok(address) = text.parse() else {
            problems.push(wrong_address(&text, value, key));
            return None;
        };
        Some(Self(address))
    }
}

fn wrong_address(text: &str, value: &Spanned<DeValue<'_>>, key: &str) -> Problem {
    if text.starts_with("unix:") {
        return Problem::error(key, value.span(), "a Unix socket as listener is not served yet")
            .label("refused, so that nothing is silently ignored")
            .help("use an address with a port for now, such as \"127.0.0.1:8080\"");
    }
    let problem = Problem::error(key, value.span(), format!("`{}` is not an address with a port", last(key)));
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let help = if text.parse::<u16>().is_ok() || (host.is_empty() && port.parse::<u16>().is_ok()) {
        let port = text.trim_start_matches(':');
        format!("write \"0.0.0.0:{port}\" for all interfaces, \"127.0.0.1:{port}\" for this machine only")
    } else if text.parse::<std::net::Ipv6Addr>().is_ok() || text.contains("::") && !text.starts_with('[') {
        "write an IPv6 address in brackets and with its port, such as \"[::]:8080\"".to_owned()
    } else if text.parse::<std::net::IpAddr>().is_ok() {
        format!("write its port too, such as \"{text}:8080\"")
    } else if host == "localhost" {
        format!("write \"127.0.0.1:{port}\"")
    } else if port.parse::<u64>().is_ok_and(|port| port > u64::from(u16::MAX)) {
        "ports end at 65535".to_owned()
    } else {
        "write an IP address and a port, such as \"127.0.0.1:8080\" or \"[::]:8080\"; names are not looked up"
            .to_owned()
    };
    problem.help(help)
}
