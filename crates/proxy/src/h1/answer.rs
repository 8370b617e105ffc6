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

/// Appends `answer` to `out`; returns the length of its body.
pub(crate) fn write_answer(answer: Answer, form: AnswerForm, out: &mut Vec<u8>) -> usize {
    let mut number = itoa::Buffer::new();
    let status = number.format(answer.status).to_owned();
    let body_len = status.len() + 2 + answer.why.len() + 1;
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(reason(answer.status).as_bytes());
    out.extend_from_slice(b"\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ");
    out.extend_from_slice(number.format(body_len).as_bytes());
    if answer.status == 503 {
        out.extend_from_slice(b"\r\nRetry-After: 1");
    }
    if answer.status == 405 {
        out.extend_from_slice(b"\r\nAllow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    }
    out.extend_from_slice(match (form.keep_alive, form.is_1_0) {
        (false, _) => &b"\r\nConnection: close\r\n\r\n"[..],
        (true, true) => b"\r\nConnection: keep-alive\r\n\r\n",
        (true, false) => b"\r\n\r\n",
    });
    if form.is_head {
        return 0;
    }
    out.extend_from_slice(status.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(answer.why.as_bytes());
    out.extend_from_slice(b"\n");
    body_len
}

fn reason(status: u16) -> &'static str {
    match status {
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
}
