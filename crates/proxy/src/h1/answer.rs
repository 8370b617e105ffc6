//! What Handover answers itself: a status, one sentence for people, and whether the connection goes on.

/// A refusal or an answer of our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Status code.
    pub(crate) status: u16,
    /// What is wrong, for people.
    pub(crate) why: &'static str,
}

impl Answer {
    /// An answer with that status and reason.
    pub(crate) const fn new(status: u16, why: &'static str) -> Self {
        Self { status, why }
    }
}

/// How an answer is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnswerForm {
    /// To a HEAD request: no body.
    pub(crate) is_head: bool,
    /// The connection goes on after it.
    pub(crate) keep_alive: bool,
    /// The client speaks HTTP/1.0 and has to be told that it goes on.
    pub(crate) is_1_0: bool,
}

/// What an answer says besides its reason.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Extras<'a> {
    /// Of the request, for people to quote; empty for none.
    pub(crate) request_id: &'a [u8],
    /// Where the client is to go instead: nothing but characters of a URL.
    pub(crate) location: &'a [u8],
    /// When to come again, with 503; a second where nothing is said.
    pub(crate) retry_after_s: Option<u64>,
    /// A page as HTML, in place of the sentence.
    pub(crate) page: Option<&'a str>,
}

/// Appends `answer` to `out`; returns the length of its body.
pub(crate) fn write_answer(answer: Answer, form: AnswerForm, out: &mut Vec<u8>) -> usize {
    write_answer_with(answer, form, Extras::default(), out)
}

/// Appends `answer` with `extras` to `out`; returns the length of its body.
pub(crate) fn write_answer_with(
    answer: Answer,
    form: AnswerForm,
    extras: Extras<'_>,
    out: &mut Vec<u8>,
) -> usize {
    let mut number = itoa::Buffer::new();
    let status = number.format(answer.status).to_owned();
    let body_len = extras.page.map_or(status.len() + 2 + answer.why.len() + 1, str::len);
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(reason(answer.status).as_bytes());
    out.extend_from_slice(match extras.page {
        Some(_) => b"\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: ",
        None => b"\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ",
    });
    out.extend_from_slice(number.format(body_len).as_bytes());
    if answer.status == 503 {
        out.extend_from_slice(b"\r\nRetry-After: ");
        out.extend_from_slice(number.format(extras.retry_after_s.unwrap_or(1)).as_bytes());
    }
    if answer.status == 405 {
        out.extend_from_slice(b"\r\nAllow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    }
    for (name, value) in
        [(&b"\r\nLocation: "[..], extras.location), (b"\r\nX-Request-Id: ", extras.request_id)]
    {
        if !value.is_empty() {
            out.extend_from_slice(name);
            out.extend_from_slice(value);
        }
    }
    out.extend_from_slice(match (form.keep_alive, form.is_1_0) {
        (false, _) => &b"\r\nConnection: close\r\n\r\n"[..],
        (true, true) => b"\r\nConnection: keep-alive\r\n\r\n",
        (true, false) => b"\r\n\r\n",
    });
    if form.is_head {
        return 0;
    }
    if let Some(page) = extras.page {
        out.extend_from_slice(page.as_bytes());
    } else {
        out.extend_from_slice(status.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(answer.why.as_bytes());
        out.extend_from_slice(b"\n");
    }
    body_len
}

/// The address of the same by https on `port`, for a request for `host` that goes on as `head`. `None` when the
/// client named no host.
pub(crate) fn https_location(head: &[u8], host: &[u8], port: u16) -> Option<Vec<u8>> {
    if host.is_empty() {
        return None;
    }
    let mut location = [&b"https://"[..], host].concat();
    if port != 443 {
        location.push(b':');
        location.extend_from_slice(itoa::Buffer::new().format(port).as_bytes());
    }
    // A head of ours: method, target and version with one space between them.
    match head.split(|byte| *byte == b' ').nth(1) {
        Some(target) if target.starts_with(b"/") => {
            for byte in target {
                match byte {
                    b'!'..=b'~' if !b"\"<>\\^`{|}".contains(byte) => location.push(*byte),
                    _ => location.extend_from_slice(format!("%{byte:02X}").as_bytes()),
                }
            }
        }
        _ => location.push(b'/'),
    }
    Some(location)
}

fn reason(status: u16) -> &'static str {
    match status {
        308 => "Permanent Redirect",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_announces_the_body_it_has() {
        let mut out = Vec::new();
        let form = AnswerForm { is_head: false, keep_alive: false, is_1_0: false };
        let len = write_answer(Answer::new(503, "no instance is ready"), form, &mut out);
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "503: no instance is ready\n");
        assert_eq!(len, body.len());
        assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
        assert!(head.contains("\r\nRetry-After: 1\r\n") && head.contains(&format!("Content-Length: {len}")));
        assert!(head.ends_with("Connection: close"));
    }

    #[test]
    fn an_answer_to_head_has_no_body() {
        let mut out = Vec::new();
        let form = AnswerForm { is_head: true, keep_alive: true, is_1_0: true };
        assert_eq!(write_answer(Answer::new(404, "no"), form, &mut out), 0);
        assert!(out.ends_with(b"Connection: keep-alive\r\n\r\n"));
    }

    #[test]
    fn a_page_stands_in_for_the_sentence_and_says_when_to_come_again() {
        let form = AnswerForm { is_head: false, keep_alive: true, is_1_0: false };
        let extras = Extras {
            request_id: b"r-1",
            retry_after_s: Some(120),
            page: Some("<p>soon"),
            ..Extras::default()
        };
        let mut out = Vec::new();
        assert_eq!(write_answer_with(Answer::new(503, "no"), form, extras, &mut out), 7);
        let text = String::from_utf8(out).unwrap();
        assert!(text.ends_with("\r\n\r\n<p>soon") && text.contains("\r\nRetry-After: 120\r\n"));
        assert!(text.contains("text/html") && text.contains("\r\nX-Request-Id: r-1\r\n"));
        let mut out = Vec::new();
        write_answer_with(Answer::new(503, "no"), AnswerForm { is_head: true, ..form }, extras, &mut out);
        let head = String::from_utf8(out).unwrap();
        assert!(head.contains("\r\nContent-Length: 7\r\n") && head.ends_with("\r\n\r\n"));
    }

    #[test]
    fn a_redirect_goes_to_the_same_place_and_splits_nothing() {
        let location = |head: &str, port| {
            https_location(head.as_bytes(), b"a.example", port).map(|it| String::from_utf8(it).unwrap())
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(location("GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n", 443), some("https://a.example/a?b=c"));
        assert_eq!(location("GET / HTTP/1.1\r\n\r\n", 8443), some("https://a.example:8443/"));
        assert_eq!(location("OPTIONS * HTTP/1.1\r\n\r\n", 443), some("https://a.example/"));
        assert_eq!(location("GET /ä\"<\r\n: HTTP/1.1", 443), some("https://a.example/%C3%A4%22%3C%0D%0A:"));
        assert_eq!(https_location(b"GET / HTTP/1.1\r\n", b"", 443), None);
    }
}
