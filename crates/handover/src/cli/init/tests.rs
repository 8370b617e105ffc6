use std::path::Path;

use super::guess::guess;
use super::look::{Facts, look};
use super::text;
use crate::config;

/// A folder with these files; a name that ends with `*` is a program.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("shop").tempdir().unwrap();
    for (name, text) in files {
        let program = name.strip_suffix('*');
        let path = folder.path().join(program.unwrap_or(name));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = if program.is_some() { "#!/bin/sh\n" } else { text };
        std::fs::write(&path, text).unwrap();
        host::folder::set_rights(&path, program.is_some()).unwrap();
    }
    folder
}

/// What is written for it, which holds; without comments and what depends on the machine.
fn written_with(folder: &Path, change: impl FnOnce(Facts) -> Facts) -> String {
    let facts = change(Facts { listener_port: 8080, ..look(folder, None) });
    let guesses = guess(&facts).unwrap_or_else(|nothing| panic!("{nothing:?}"));
    let text = text::text(&facts, &guesses);
    let checked = config::check_text(&folder.join("handover.toml"), text.clone());
    checked.unwrap_or_else(|error| panic!("{error:?}\n{text}"));
    let is_said = |line: &&str| !line.starts_with('#') && !line.is_empty() && !line.starts_with("state_dir");
    text.lines().filter(is_said).collect::<Vec<_>>().join("\n")
}

fn written(files: &[(&str, &str)]) -> String {
    written_with(folder(files).path(), |facts| facts)
}

#[track_caller]
fn says(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|said| said == *line), "{line} is missing in\n{text}");
    }
}

#[test]
fn a_cargo_package_is_its_program() {
    let text = written(&[
        ("Cargo.toml", "[package]\nname = \"shop\"\n"),
        ("src/main.rs", "let port = std::env::var(\"PORT\"); Router::new().route(\"/healthz\", get(ok))"),
        ("target/release/shop*", ""),
        ("target/release/other*", ""),
    ]);
    assert_eq!(
        text,
        "[listener.web]\nbind = \"127.0.0.1:8080\"\n[[route]]\nlistener = \"web\"\nservice = \"shop\"\n[service.shop]\nrelease = \
         \"target/release/shop\"\ncommand = [\"./shop\"]\ninstances = 2\n[service.shop.readiness]\nhttp = \"/healthz\""
    );
}

#[test]
fn what_is_not_built_is_told_how_to_build_it() {
    for (files, hint) in [
        (("Cargo.toml", "[package]\nname = \"shop\"\n"), "cargo build --release, then handover init again"),
        (("go.mod", "module example.com/x/shop\n"), "go build -o bin/shop . and then handover init again"),
        (("package.json", "{}"), "add a script `start`, then handover init again"),
    ] {
        let folder = folder(&[files]);
        assert_eq!(guess(&look(folder.path(), None)).unwrap_err().hint, hint);
    }
}

#[test]
fn a_go_module_with_a_port_in_its_source_gets_that_port() {
    let text = written(&[
        ("go.mod", "module example.com/shop\n\ngo 1.22\n"),
        ("main.go", "http.ListenAndServe(\":9090\", nil)"),
        ("bin/shop*", ""),
    ]);
    says(&text, &["release = \"bin/shop\"", "command = [\"./shop\"]", "port = 9090"]);
    assert!(!text.contains("instances"), "{text}");
}

#[test]
fn a_go_module_with_an_option_is_given_it() {
    let text = written(&[
        ("go.mod", "module shop\n"),
        ("main.go", "addr := flag.String(\"addr\", \":8080\", \"where\")"),
        ("shop*", ""),
    ]);
    says(&text, &["command = [\"./shop\", \"--addr\", \"127.0.0.1:${PORT}\"]", "instances = 2"]);
}

#[test]
fn a_node_package_is_its_start_script() {
    let start = r#"{"name": "@acme/Shop", "scripts": {"start": "node server.js --quiet"}}"#;
    let text = written(&[("package.json", start), ("server.js", "app.listen(process.env.PORT || 3000)")]);
    says(
        &text,
        &[
            "[service.acme-shop]",
            "release = \".\"",
            "command = [\"node\", \"server.js\", \"--quiet\"]",
            "instances = 2",
        ],
    );
    let text = written(&[("package.json", "{}"), ("index.js", "http.createServer(f).listen(3000)")]);
    says(&text, &["command = [\"node\", \"index.js\"]", "port = 3000"]);
    let shell = r#"{"scripts": {"start": "NODE_ENV=production node a.js && echo ${DONE}"}}"#;
    let text = written(&[("package.json", shell), ("a.js", "listen(process.env.PORT)")]);
    says(&text, &["command = [\"sh\", \"-c\", \"NODE_ENV=production node a.js && echo $DONE\"]"]);
}

#[test]
fn python_is_served_as_its_framework_wants() {
    for (needs, source, command) in [
        (
            "flask\ngunicorn\n",
            "app = Flask(__name__)\n",
            r#"command = ["python3", "-m", "gunicorn", "--bind", "127.0.0.1:${PORT}", "app:app"]"#,
        ),
        (
            "fastapi\nuvicorn\n",
            "api = FastAPI()\n",
            r#"command = ["python3", "-m", "uvicorn", "app:api", "--host", "127.0.0.1", "--port", "${PORT}"]"#,
        ),
        (
            "flask\n",
            "app = flask.Flask(__name__)\n",
            r#"command = ["python3", "-m", "flask", "--app", "app:app", "run", "--port", "${PORT}"]"#,
        ),
        ("", "HTTPServer(('', int(os.environ['PORT'])), H)", r#"command = ["python3", "app.py"]"#),
    ] {
        let text = written(&[("requirements.txt", needs), ("app.py", source)]);
        says(&text, &[command, "instances = 2"]);
    }
    let text = written(&[("serve.py", "HTTPServer(('0.0.0.0', 8000), H).serve_forever()")]);
    says(&text, &["command = [\"python3\", \"serve.py\"]", "port = 8000"]);
}

#[test]
fn a_virtual_environment_that_leads_out_of_the_folder_cannot_be_released() {
    let facts = Facts {
        folder: "/srv/shop".into(),
        texts: [("app.py".to_owned(), "app = Flask(x)".to_owned())].into(),
        python: Some(".venv/bin/python".into()),
        python_is_outside: true,
        ..Facts::default()
    };
    let nothing = guess(&facts).unwrap_err();
    assert!(nothing.hint.contains("python3 -m venv --clear --copies .venv"), "{nothing:?}");
    let whole = Facts { python_is_outside: false, ..facts };
    assert_eq!(guess(&whole).unwrap()[0].command[..2], ["./.venv/bin/python", "-m"]);
}

#[test]
fn a_procfile_is_a_service_for_web_and_workers_for_the_rest() {
    let text = written(&[
        ("Procfile", "release: ./migrate\nweb: sh serve.sh --port ${PORT}\nworker: sh work.sh\n"),
        ("serve.sh", ""),
    ]);
    says(
        &text,
        &[
            "service = \"web\"",
            "command = [\"sh\", \"serve.sh\", \"--port\", \"${PORT}\"]",
            "[service.worker]",
            "command = [\"sh\", \"work.sh\"]",
            "mode = \"worker\"",
        ],
    );
}

#[test]
fn a_program_by_itself_is_given_port_and_takes_a_named_one() {
    let folder = folder(&[("wiki*", ""), ("notes.txt", "")]);
    let text = written_with(folder.path(), |facts| facts);
    says(
        &text,
        &[
            "[service.wiki]",
            "release = \"wiki\"",
            "instances = 2",
            "tcp = true      # its port accepts connections; better: http = \"/healthz\"",
        ],
    );
    let text = written_with(folder.path(), |facts| Facts { port: Some(9000), ..facts });
    says(&text, &["port = 9000"]);
}

#[test]
fn several_programs_or_none_are_asked_about() {
    let several = folder(&[("one*", ""), ("two*", "")]);
    let nothing = guess(&look(several.path(), None)).unwrap_err();
    assert_eq!(
        (nothing.why.as_str(), nothing.hint.as_str()),
        ("there are several programs: one, two", "name one: handover init one")
    );
    let none = folder(&[("notes.txt", "")]);
    assert!(guess(&look(none.path(), None)).unwrap_err().why.starts_with("there is nothing in "));
    let named = written_with(several.path(), |facts| Facts { program: Some("two".into()), ..facts });
    says(&named, &["[service.two]", "release = \"two\""]);
}

#[test]
fn a_script_that_serves_nothing_is_a_worker() {
    let text = written(&[("main.py", "while True:\n    work()\n")]);
    says(&text, &["mode = \"worker\"", "command = [\"python3\", \"main.py\"]"]);
    assert!(!text.contains("[listener"), "{text}");
}

#[test]
fn a_manifest_that_is_there_stays() {
    let folder = folder(&[("wiki*", ""), ("handover.toml", "# mine\n")]);
    let args = |force: bool| super::Args {
        path: folder.path().to_owned(),
        port: None,
        pid: None,
        force,
        print: false,
    };
    let global = super::Global::default();
    let refused = super::run(&args(false), &global).unwrap_err();
    assert!(refused.message.ends_with("handover.toml is there already"), "{}", refused.message);
    super::run(&args(true), &global).unwrap();
    let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(text("handover.toml.old"), "# mine\n");
    assert!(text("handover.toml").contains("[service.wiki]"));
}

#[test]
fn names_become_names_of_services() {
    for (text, name) in [("@acme/Shop", "acme-shop"), ("my_app", "my-app"), ("--", "app"), ("ä", "app")] {
        assert_eq!(super::guess::name_of(text), name);
    }
}
