//! What sources and command lines say about the port a program listens on; by their text alone.
//!
//! It reads no program: what is computed at run time is not seen, and nothing is guessed for it.

use regex_lite::Regex;

/// Where the port comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Port {
    /// From the variable PORT.
    Variable,
    /// From these arguments, `${PORT}` in them.
    Arguments(Vec<String>),
    /// That one, written into the program.
    Fixed(u16),
    /// It listens, but on what is not to be seen.
    Unseen,
    /// Nothing in it looks like a server.
    None,
}

/// Options of programs that take a port or an address, and whether it is an address.
const OPTIONS: [(&str, bool); 5] =
    [("port", false), ("listen", true), ("addr", true), ("address", true), ("bind", true)];

/// Words that a server has somewhere.
const SERVER_WORDS: [&str; 9] =
    ["listen", "serve", "server", "http", "socket", "flask", "fastapi", "express", "axum"];

/// Paths by which programs commonly tell that they are well, the plainest first.
const HEALTH_PATHS: [&str; 6] = ["/healthz", "/readyz", "/health", "/ready", "/livez", "/ping"];

/// What ways of writing a literal port look like; the first group is the port.
const LITERALS: [&str; 8] = [
    r#"(?i)listen(?:AndServe)?(?:TLS)?\(\s*"[^":]*:([0-9]{2,5})""#,
    r#"(?i)listen\(\s*"tcp[46]?",\s*"[^":]*:([0-9]{2,5})""#,
    r#"(?i)addr(?:ess)?\s*[:=]+\s*"[^":]*:([0-9]{2,5})""#,
    r"(?i)\.listen\(\s*([0-9]{2,5})\b",
    r"(?i)\bport\s*[:=]+\s*([0-9]{2,5})\b",
    r#"\(\s*\(?\s*["'][^"']*["']\s*,\s*([0-9]{2,5})\s*\)"#,
    r"(?:0\.0\.0\.0|127\.0\.0\.1|localhost|\[::1?\]):([0-9]{2,5})\b",
    r"\[\s*(?:0,\s*0,\s*0,\s*0|127,\s*0,\s*0,\s*1)\s*\]\s*,\s*([0-9]{2,5})\b",
];

/// What a program's sources say.
pub(super) fn of_sources<'s>(sources: impl Iterator<Item = &'s str> + Clone) -> Port {
    let variable = expression(
        r#"(?i:env|environ|getenv|var|var_os|lookupenv)[.(\[{ ]*["']?PORT\b|["']PORT["']|\$\{?PORT\b"#,
    );
    if sources.clone().any(|text| variable.is_match(text)) {
        return Port::Variable;
    }
    for (name, is_address) in OPTIONS {
        // A flag package of Go names it without dashes, argparse and most others with them.
        let long = expression(&format!(r#"["']--{name}["']"#));
        let go = expression(&format!(r#"flag\.\w+\((?:&\w+,\s*)?"{name}""#));
        if sources.clone().any(|text| long.is_match(text) || go.is_match(text)) {
            let value = if is_address { "127.0.0.1:${PORT}" } else { "${PORT}" };
            return Port::Arguments(vec![format!("--{name}"), value.to_owned()]);
        }
    }
    for literal in LITERALS {
        let literal = expression(literal);
        if let Some(port) = sources.clone().find_map(|text| port_in(text, &literal)) {
            return Port::Fixed(port);
        }
    }
    let is_server = |text: &str| {
        let text = text.to_ascii_lowercase();
        SERVER_WORDS.iter().any(|word| text.contains(word))
    };
    if sources.clone().any(is_server) { Port::Unseen } else { Port::None }
}

/// What a command line says; `Unseen` if nothing.
pub(super) fn of_command(line: &str) -> Port {
    if expression(r"\$\{?PORT\b").is_match(line) {
        return Port::Variable;
    }
    let options = r"(?:--port|-p|--bind|-b|--listen|--addr|--address|-l)[ =](?:[^ :]*:)?([0-9]{2,5})\b";
    let literals =
        [options, r"\bPORT=([0-9]{2,5})\b", r"\b(?:0\.0\.0\.0|127\.0\.0\.1|localhost):([0-9]{2,5})\b"];
    let found = literals.iter().find_map(|literal| port_in(line, &expression(literal)));
    found.map_or(Port::Unseen, Port::Fixed)
}

/// The path by which a program tells that it is well.
pub(super) fn health_path<'s>(sources: impl Iterator<Item = &'s str> + Clone) -> Option<&'static str> {
    HEALTH_PATHS.into_iter().find(|path| {
        let quoted = expression(&format!(r#"["'`](?:GET )?{path}["'`]"#));
        sources.clone().any(|text| quoted.is_match(text))
    })
}

fn port_in(text: &str, literal: &Regex) -> Option<u16> {
    let ports = literal.captures_iter(text).filter_map(|found| found.get(1)?.as_str().parse().ok());
    ports.into_iter().find(|port| *port > 0)
}

fn expression(text: &str) -> Regex {
    Regex::new(text).expect("invariant: an expression of this module")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Port {
        of_sources([text].into_iter())
    }

    #[test]
    fn a_program_that_reads_port_is_recognised_in_each_language() {
        for text in [
            "const port = process.env.PORT || 3000; app.listen(port)",
            "port = int(os.environ.get('PORT', 8000))",
            "port := os.Getenv(\"PORT\")",
            "let port = std::env::var(\"PORT\").unwrap();",
            "const { PORT = 3000 } = process.env; x = process.env['PORT']",
        ] {
            assert_eq!(of(text), Port::Variable, "{text}");
        }
    }

    #[test]
    fn a_literal_port_is_found_in_each_language() {
        for (text, port) in [
            ("http.ListenAndServe(\":8080\", nil)", 8080),
            ("net.Listen(\"tcp\", \"127.0.0.1:9000\")", 9000),
            ("srv := &http.Server{Addr: \":7000\"}", 7000),
            ("app.listen(3000, () => {})", 3000),
            ("server.listen({ port: 4000 })", 4000),
            ("app.run(port=5000)", 5000),
            ("HTTPServer((\"\", 8000), Handler)", 8000),
            ("TcpListener::bind(\"0.0.0.0:3001\")", 3001),
            ("SocketAddr::from(([127, 0, 0, 1], 3002))", 3002),
        ] {
            assert_eq!(of(text), Port::Fixed(port), "{text}");
        }
    }

    #[test]
    fn an_option_for_the_port_is_used() {
        assert_eq!(
            of("parser.add_argument('--port', type=int)"),
            Port::Arguments(vec!["--port".into(), "${PORT}".into()])
        );
        assert_eq!(
            of("addr := flag.String(\"addr\", \":8080\", \"\")"),
            Port::Arguments(vec!["--addr".into(), "127.0.0.1:${PORT}".into()])
        );
    }

    #[test]
    fn what_is_no_server_has_no_port() {
        assert_eq!(of("while True: work(queue.get())"), Port::None);
        assert_eq!(of("app.listen(config.port)"), Port::Unseen);
    }

    #[test]
    fn a_command_line_names_its_port() {
        assert_eq!(of_command("gunicorn -b 0.0.0.0:$PORT app:app"), Port::Variable);
        assert_eq!(of_command("next start -p 3000"), Port::Fixed(3000));
        assert_eq!(of_command("uvicorn main:app --port=8001"), Port::Fixed(8001));
        assert_eq!(of_command("./serve --bind 0.0.0.0:8002"), Port::Fixed(8002));
        assert_eq!(of_command("./serve"), Port::Unseen);
    }

    #[test]
    fn a_path_for_health_is_found_only_as_a_whole() {
        assert_eq!(health_path(["mux.HandleFunc(\"GET /healthz\", f)"].into_iter()), Some("/healthz"));
        assert_eq!(health_path(["'/health-insurance'"].into_iter()), None);
    }
}
