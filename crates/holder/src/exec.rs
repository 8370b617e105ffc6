//! `internal exec`: reads its specification and becomes the program.
//!
//! It resolves nothing: program and directories are absolute, and the environment is whole.

use std::process::ExitCode;

use host::exec::Setup;
use wire::exec::ExecSpec;

/// Exit code where the program could not be started; the reason is in the pipe.
const NOT_STARTED: u8 = 127;

/// Becomes what the specification in that descriptor says. Returns only when that failed.
pub fn run(spec_descriptor: i32) -> ExitCode {
    if let Ok(spec) = read(spec_descriptor) {
        // The pipe's reader has the reason.
        host::exec::become_program(&setup(spec));
    }
    ExitCode::from(NOT_STARTED)
}

fn read(descriptor: i32) -> std::io::Result<ExecSpec> {
    let bytes = host::memory::read_all(&host::memory::inherited(descriptor)?)?;
    Ok(serde_json::from_slice(&bytes)?)
}

fn setup(spec: ExecSpec) -> Setup {
    Setup {
        program: spec.program,
        arguments: spec.arguments,
        environment: spec.environment,
        working_directory: spec.working_directory.map(Into::into),
        descriptors: spec.descriptors,
        listen_names: spec.listen_names,
        stdout: spec.stdout.map(Into::into),
        stderr: spec.stderr.map(Into::into),
        cgroup_procs: spec.cgroup_procs.map(Into::into),
        open_files: spec.open_files,
        user: spec.user,
        group: spec.group,
        umask: spec.umask,
        notify_socket: spec.notify_socket.map(Into::into),
        error_descriptor: spec.error_descriptor,
    }
}
