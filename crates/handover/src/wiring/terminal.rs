//! Whether services' lines are shown on the terminal of `up`: kept for the agents that follow the first one.
//!
//! A file in the run directory, because it holds for as long as the processes do that have that terminal.

use std::io;
use std::path::PathBuf;

use host::paths::Layout;
use telemetry::console::Console;
use wire::sealed::Boot;

fn path(layout: &Layout) -> PathBuf {
    layout.run_dir.join("terminal")
}

/// The first agent after `up`: as its boot form says.
pub(super) fn set(layout: &Layout, boot: &Boot, console: &Console) -> io::Result<()> {
    let file = path(layout);
    if boot.print_output {
        host::file::write_private(&file, if boot.colour { b"colour\n" } else { b"plain\n" })?;
        return console.turn_on(boot.colour);
    }
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A later agent: as it was.
pub(super) fn restore(layout: &Layout, console: &Console) -> io::Result<()> {
    match std::fs::read_to_string(path(layout)) {
        Ok(text) => console.turn_on(text.trim() == "colour"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(print_output: bool) -> Boot {
        let manifest = wire::manifest::Manifest {
            state_dir: "/s".into(),
            admin_bind: "127.0.0.1:7979".parse().unwrap(),
            admin_bind_is_default: true,
            proxy_threads: 1,
            access_log: false,
            access_log_settings: Default::default(),
            log: Default::default(),
            instance_ports: (1, 2),
            listeners: Default::default(),
            routes: Vec::new(),
            services: Default::default(),
            fronted: Default::default(),
        };
        Boot {
            v: 1,
            manifest,
            source: String::new(),
            path: String::new(),
            binary_origin: String::new(),
            environment: Vec::new(),
            print_output,
            colour: false,
        }
    }

    #[test]
    fn agents_after_the_first_show_output_where_it_did() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), folder.path());
        let console = Console::silent();
        restore(&layout, &console).unwrap();
        set(&layout, &boot(true), &console).unwrap();
        assert_eq!(std::fs::read_to_string(path(&layout)).unwrap(), "plain\n");
        restore(&layout, &console).unwrap();
        set(&layout, &boot(false), &console).unwrap();
        set(&layout, &boot(false), &console).unwrap();
        assert!(!path(&layout).exists());
    }
}
