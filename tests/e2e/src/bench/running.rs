//! A program of ours that ends with the value that started it.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::peers::program_path;
use crate::system::{self, Signal};

/// A process that is stopped when this is dropped.
#[derive(Debug)]
pub(super) struct Running(Child);

impl Running {
    /// Starts nginx or HAProxy with a configuration of ours, which is written into the folder.
    pub(super) fn peer(folder: &Path, name: &str, program: &str, text: &str) -> Result<Self, String> {
        let file = folder.join(format!("{name}.conf"));
        std::fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
        let log = std::fs::File::create(folder.join(format!("{name}.out"))).map_err(|e| e.to_string())?;
        let mut command = Command::new(program_path(program));
        match program {
            "nginx" => command.arg("-p").arg(folder).arg("-c").arg(&file),
            _ => command.args(["-db", "-f"]).arg(&file),
        };
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        child.map(Self).map_err(|error| format!("{program} could not be started: {error}"))
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        system::send(self.0.id(), Signal::Term);
        // It may have ended by itself.
        let _status = self.0.wait();
    }
}
