//! One line of the access log, as JSON or in the combined format.

use std::time::Duration;

use model::time::WallTime;
use wire::routes::AccessLogFormat;

use super::dates::Dates;
use super::escape::{Style, escape};
use crate::engine::entry::micros;

/// Longest path in a line, and longest query.
const PATH_BYTES_MAX: usize = 2_048;
/// Longest value of a header field in a line.
const VALUE_BYTES_MAX: usize = 1_024;

/// What one line says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    /// When the request's head was there.
    pub(crate) time: WallTime,
    /// Ready field of the listener.
    pub(crate) listener_field: &'a str,
    /// TLS was spoken.
    pub(crate) is_tls: bool,
    /// Address of the client.
    pub(crate) client: &'a str,
    /// Empty when the request could not be read.
    pub(crate) method: &'a [u8],
    /// Without port; empty when there was none.
    pub(crate) host: &'a [u8],
    /// Without query.
    pub(crate) path: &'a [u8],
    /// Only there when lines are to have it.
    pub(crate) extra: Option<&'a Extra>,
    /// HTTP/1.0 rather than 1.1.
    pub(crate) is_1_0: bool,
    /// What was answered; 0 for nothing.
    pub(crate) status: u16,
    /// Body bytes sent.
    pub(crate) bytes: u64,
    /// Body bytes received.
    pub(crate) bytes_in: u64,
    /// From the head to the last byte handed to the system.
    pub(crate) duration: Duration,
    /// From the last attempt's beginning to its answer's head.
    pub(crate) first_byte: Option<Duration>,
    /// Further attempts.
    pub(crate) retries: u32,
    /// The request's id; empty without one.
    pub(crate) request_id: &'a [u8],
    /// The trace's id; empty without one.
    pub(crate) trace_id: &'a [u8],
    /// Bytes that went through a tunnel, up and down.
    pub(crate) tunnel: Option<(u64, u64)>,
    /// Ready fields of service, release and instance, as far as known.
    pub(crate) fields: &'a str,
    /// Ready field of the endpoint group, where there is one.
    pub(crate) group_field: &'a str,
}

/// What only some settings ask for, read from the head as it came.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    query: Vec<u8>,
    has_query: bool,
    referer: Vec<u8>,
    agent: Vec<u8>,
}

impl Extra {
    /// Takes from `head`, a whole request head, what lines are to have.
    pub(crate) fn read(&mut self, head: &[u8], wants_query: bool) {
        self.clear();
        let mut lines = head.split(|byte| *byte == b'\n');
        let first = lines.next().unwrap_or_default();
        if wants_query && let Some(at) = memchr::memchr(b'?', first) {
            let query = first[at + 1..].split(|byte| *byte == b' ').next().unwrap_or_default();
            self.query.extend_from_slice(query);
            self.has_query = true;
        }
        for line in lines {
            let Some(colon) = memchr::memchr(b':', line) else { continue };
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            let (known, wanted) = match colon {
                7 => (&mut self.referer, name.eq_ignore_ascii_case(b"referer")),
                10 => (&mut self.agent, name.eq_ignore_ascii_case(b"user-agent")),
                _ => continue,
            };
            if wanted && known.is_empty() {
                known.extend_from_slice(&value[..value.len().min(VALUE_BYTES_MAX)]);
            }
        }
    }

    /// Forgets it.
    pub(crate) fn clear(&mut self) {
        self.query.clear();
        self.has_query = false;
        self.referer.clear();
        self.agent.clear();
    }
}

impl Line<'_> {
    /// Appends it.
    pub(super) fn write(&self, format: AccessLogFormat, dates: &mut Dates, out: &mut Vec<u8>) {
        match format {
            AccessLogFormat::Json => self.write_json(dates, out),
            AccessLogFormat::Combined => self.write_combined(dates, out),
        }
    }

    fn write_json(&self, dates: &mut Dates, out: &mut Vec<u8>) {
        let text = |before: &[u8], value: &[u8], bytes_max: usize, out: &mut Vec<u8>| {
            out.extend_from_slice(before);
            escape(value, bytes_max, Style::Percent, out);
        };
        let mut digits = itoa::Buffer::new();
        let mut number = |before: &[u8], value: u64, out: &mut Vec<u8>| {
            out.extend_from_slice(before);
            out.extend_from_slice(digits.format(value).as_bytes());
        };
        out.extend_from_slice(b"{\"time\":\"");
        dates.write_rfc3339(self.time, out);
        out.extend_from_slice(b"\",");
        out.extend_from_slice(self.listener_field.as_bytes());
        text(b",\"client\":\"", self.client.as_bytes(), VALUE_BYTES_MAX, out);
        out.extend_from_slice(if self.is_tls { b"\",\"tls\":true" } else { b"\",\"tls\":false" });
        text(b",\"method\":\"", self.method, VALUE_BYTES_MAX, out);
        text(b"\",\"host\":\"", self.host, VALUE_BYTES_MAX, out);
        text(b"\",\"path\":\"", self.path, PATH_BYTES_MAX, out);
        if let Some(extra) = self.extra.filter(|extra| extra.has_query) {
            text(b"\",\"query\":\"", &extra.query, PATH_BYTES_MAX, out);
        }
        number(b"\",\"status\":", u64::from(self.status), out);
        number(b",\"bytes\":", self.bytes, out);
        number(b",\"bytes_in\":", self.bytes_in, out);
        number(b",\"duration_us\":", micros(self.duration), out);
        if let Some(time) = self.first_byte {
            number(b",\"upstream_us\":", micros(time), out);
        }
        number(b",\"retries\":", u64::from(self.retries), out);
        if let Some((up, down)) = self.tunnel {
            number(b",\"tunnel_bytes_in\":", up, out);
            number(b",\"tunnel_bytes_out\":", down, out);
        }
        if !self.request_id.is_empty() {
            text(b",\"request_id\":\"", self.request_id, VALUE_BYTES_MAX, out);
            out.push(b'"');
        }
        if !self.trace_id.is_empty() {
            text(b",\"trace_id\":\"", self.trace_id, VALUE_BYTES_MAX, out);
            out.push(b'"');
        }
        for fields in [self.fields, self.group_field] {
            if !fields.is_empty() {
                out.push(b',');
                out.extend_from_slice(fields.as_bytes());
            }
        }
        out.extend_from_slice(b"}\n");
    }

    fn write_combined(&self, dates: &mut Dates, out: &mut Vec<u8>) {
        let text = |value: &[u8], bytes_max: usize, out: &mut Vec<u8>| {
            escape(value, bytes_max, Style::Backslash, out);
        };
        let or_dash = |value: &[u8], out: &mut Vec<u8>| {
            out.extend_from_slice(b" \"");
            text(if value.is_empty() { b"-" } else { value }, VALUE_BYTES_MAX, out);
            out.push(b'"');
        };
        let mut digits = itoa::Buffer::new();
        text(self.client.as_bytes(), VALUE_BYTES_MAX, out);
        out.extend_from_slice(b" - - [");
        dates.write_common(self.time, out);
        out.extend_from_slice(b"] \"");
        if self.method.is_empty() {
            out.push(b'-');
        } else {
            text(self.method, VALUE_BYTES_MAX, out);
            out.push(b' ');
            text(self.path, PATH_BYTES_MAX, out);
            if let Some(extra) = self.extra.filter(|extra| extra.has_query) {
                out.push(b'?');
                text(&extra.query, PATH_BYTES_MAX, out);
            }
            out.extend_from_slice(if self.is_1_0 { b" HTTP/1.0" } else { b" HTTP/1.1" });
        }
        out.extend_from_slice(b"\" ");
        // 499 is what nginx writes for a client that left without an answer; 000 is no status anywhere.
        let status = if self.status == 0 { 499 } else { self.status };
        out.extend_from_slice(digits.format(status).as_bytes());
        out.push(b' ');
        out.extend_from_slice(digits.format(self.bytes).as_bytes());
        or_dash(self.extra.map_or(b"", |extra| &extra.referer), out);
        or_dash(self.extra.map_or(b"", |extra| &extra.agent), out);
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::line;
    use super::*;

    fn written(line: &Line<'_>, format: AccessLogFormat) -> String {
        let mut out = Vec::new();
        line.write(format, &mut Dates::default(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_json_line_has_every_field_that_is_known() {
        let whole = Line {
            is_tls: true,
            bytes_in: 3,
            first_byte: Some(Duration::from_micros(300)),
            request_id: b"0af7",
            trace_id: b"4bf9",
            tunnel: Some((6, 7)),
            group_field: r#""group":"/api/{id}""#,
            ..line(b"/a")
        };
        assert_eq!(
            written(&whole, AccessLogFormat::Json),
            concat!(
                r#"{"time":"2026-01-31T12:00:00.042Z","listener":"web","client":"10.0.0.1","tls":true,"#,
                r#""method":"GET","host":"shop.example.com","path":"/a","status":200,"bytes":5,"bytes_in":3,"#,
                r#""duration_us":321,"upstream_us":300,"retries":1,"tunnel_bytes_in":6,"tunnel_bytes_out":7,"#,
                r#""request_id":"0af7","trace_id":"4bf9","service":"web","release":"1","group":"/api/{id}"}"#,
                "\n"
            )
        );
        assert!(!written(&line(b"/a"), AccessLogFormat::Json).contains("upstream_us"));
    }

    #[test]
    fn hostile_bytes_stay_inside_their_quotes_in_both_formats() {
        let mut extra = Extra::default();
        extra.read(b"GET /?a=\"\x1b HTTP/1.1\r\nUser-Agent: x\"\xff\ty\r\nReferer:\r\n\r\n", true);
        let hostile = Line { host: b"a\"b", extra: Some(&extra), ..line(b"/\"\\\r\n\xff") };
        let json = written(&hostile, AccessLogFormat::Json);
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((read["path"].as_str(), read["host"].as_str()), (Some("/\"\\%0D%0A%FF"), Some("a\"b")));
        assert_eq!(read["query"].as_str(), Some("a=\"%1B"));
        assert_eq!(json.matches('\n').count(), 1);
        assert_eq!(
            written(&hostile, AccessLogFormat::Combined),
            concat!(
                r#"10.0.0.1 - - [31/Jan/2026:12:00:00 +0000] "GET /\"\\\x0D\x0A\xFF?a=\"\x1B HTTP/1.1" 200 5 "-" "x\"\xFF\x09y""#,
                "\n"
            )
        );
    }

    #[test]
    fn a_request_that_could_not_be_read_has_a_combined_line_too() {
        let bad = Line { method: b"", path: b"", status: 400, ..line(b"") };
        let end = "\"-\" 400 5 \"-\" \"-\"\n";
        assert!(written(&bad, AccessLogFormat::Combined).ends_with(end));
    }

    #[test]
    fn the_query_is_read_only_when_it_is_wanted_and_credentials_never() {
        let head = b"GET http://a/b?c=d HTTP/1.1\r\nAuthorization: Basic eA==\r\nCookie: a=b\r\nReferer: r\r\nReferer: s\r\n\r\n";
        let mut extra = Extra::default();
        extra.read(head, false);
        assert!(!extra.has_query && extra.referer == b"r" && extra.agent.is_empty());
        extra.read(head, true);
        assert_eq!(extra.query, b"c=d");
        extra.clear();
        assert!(!extra.has_query && extra.referer.is_empty());
    }
}
