//! The holder's few lines: all in `logs/handover.log`, what people should see on standard error too.
//!
//! Neither failing to write nor nobody reading stops it from working. The agent says in `run/log` whether lines are
//! JSON, as it says to every role.

use std::fmt::Display;
use std::fs::File;
use std::io::Write;

use host::paths::Layout;
use model::time::WallTime;

/// Where the lines go.
#[derive(Debug)]
pub(crate) struct Log {
    file: Option<File>,
    form: std::path::PathBuf,
    pid: u32,
}

impl Log {
    pub(crate) fn open(layout: &Layout) -> Self {
        let file = host::file::append_private(&layout.own_log()).ok();
        Self { file, form: layout.run_dir.join("log"), pid: host::process::current_pid() }
    }

    /// For who looks later.
    pub(crate) fn info(&mut self, text: impl Display) {
        self.write("INFO", &text);
    }

    /// For people, now.
    pub(crate) fn warn(&mut self, text: impl Display) {
        self.write("WARN", &text);
        // In the background this is the same file: one line with a time is enough there.
        if !self.file.as_ref().is_some_and(host::file::is_standard_error) {
            let _ = writeln!(std::io::stderr(), "handover: {text}");
        }
    }

    fn write(&mut self, severity: &str, text: &dyn Display) {
        let Some(file) = &mut self.file else { return };
        let (at, pid) = (WallTime(host::clock::wall_ms()), self.pid);
        let mut line = format!("{at} {severity:>5} holder[{pid}]: {text}\n");
        if std::fs::read(&self.form).is_ok_and(|form| form.starts_with(b"json ")) {
            let (at, level, said) = (at.to_string(), severity.to_lowercase(), text.to_string());
            let form = serde_json::json!({ "at": at, "level": level, "role": "holder", "pid": pid, "message": said });
            line = form.to_string() + "\n";
        }
        let _ = file.write_all(line.as_bytes());
    }
}
