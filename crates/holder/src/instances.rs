//! Instances: processes of services, started as the agent says, ended as a whole.
//!
//! ```text
//!  spawn ──► starting ──► running ──► ended ──► forgotten
//!              │ the pipe says why            its status is kept until then
//!              └──► gone
//! ```
//! When to start, stop or restart one is the agent's; the holder does it alone only where there is no agent.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use host::Descriptor;
use host::exec::Starting;
use host::process::{self, Ended};
use host::process_tree::Tree;
use model::time::Instant;
use wire::collected::Kept;
use wire::exec::{ExecSpec, SpawnSpec};
use wire::link::{ExitStatus, FromHolder};
use wire::vault::{Process, ProcessRole, VaultItem};

use crate::holder::{Holder, exit_status, notify_item};

/// A slot with its process, or with the end of it.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) process: Process,
    /// Its main process, also after that one ended; 0 where that was before our time.
    pub(crate) pid: u32,
    /// While it runs.
    pub(crate) handle: Option<Descriptor>,
    /// It is ours to reap.
    pub(crate) is_child: bool,
    pub(crate) starting: Option<Starting>,
    /// When its tree is killed: it was sent its signal without an agent.
    pub(crate) kill_at: Option<Instant>,
}

impl Instance {
    pub(crate) fn runs(&self) -> bool {
        self.process.ended.is_none()
    }

    pub(crate) fn item(&self) -> Kept<Descriptor> {
        (VaultItem::Process(self.process.clone()), self.handle.clone())
    }

    pub(crate) fn tree(&self) -> Tree {
        Tree {
            instance: self.process.name.clone(),
            pid: self.pid,
            start_ticks: self.process.start_ticks,
            cgroup: self.process.cgroup.as_ref().map(PathBuf::from),
        }
    }
}

impl Holder {
    /// Starts a process as `internal exec`, which becomes what `spec` says.
    pub(crate) fn start_process(
        &self,
        mut spec: ExecSpec,
        name: &str,
        descriptors: &[Descriptor],
    ) -> io::Result<(u32, Descriptor, Starting)> {
        let (pipe, errors) = process::pipe()?;
        spec.descriptors = descriptors.iter().map(host::number).collect();
        spec.error_descriptor = host::number(&errors);
        let memory = host::memory::sealed("handover-exec", &serde_json::to_vec(&spec)?)?;
        let mut keep = descriptors.to_vec();
        keep.extend([errors, memory.clone()]);
        let pid = process::spawn(&process::Start {
            program: &self.committed,
            arguments: ["internal", "exec", &host::number(&memory).to_string()].map(str::to_owned).to_vec(),
            // So that a later holder finds it also if we end before it is its program.
            environment: self.trees.marked(Vec::new(), name),
            keep: &keep,
        })?;
        // It is our child and not reaped yet, so the number is still its own.
        let handle = process::handle(pid).inspect_err(|_| {
            let _ = process::signal_pid(pid, process::KILL);
        })?;
        Ok((pid, handle, Starting::new(pipe)))
    }

    pub(crate) fn spawn_instance(&mut self, spec: SpawnSpec) {
        let name = spec.instance.clone();
        match self.instances.get(&name) {
            Some(instance) if instance.runs() => {
                let error = format!("{name} runs already, as pid {}", instance.pid);
                return self.tell_agent(&FromHolder::SpawnFailed { instance: name, error });
            }
            Some(_) => self.forget_instance(&name),
            None => {}
        }
        match self.try_spawn(spec) {
            Ok(instance) => {
                self.deposit(instance.item());
                self.instances.insert(name, instance);
            }
            Err(error) => {
                self.drop_notify(&name);
                self.tell_agent(&FromHolder::SpawnFailed { instance: name, error });
            }
        }
    }

    fn try_spawn(&mut self, spec: SpawnSpec) -> Result<Instance, String> {
        let file = Path::new(&spec.file_name);
        if file.file_name() != Some(file.as_os_str()) {
            return Err(format!("`{}` is no name for files", spec.file_name));
        }
        let mut environment = self.trees.marked(spec.environment, &spec.instance);
        let notify = spec.notify.then(|| self.bind_notify(&spec.instance, &spec.file_name)).transpose()?;
        environment.extend(notify.iter().map(|path| ("NOTIFY_SOCKET".to_owned(), path.clone())));
        let cgroup = self
            .trees
            .make_cgroup(&spec.file_name)
            .map_err(|error| format!("its cgroup cannot be made: {error}"))?;
        // One of that name is in use again.
        self.retired_cgroups.retain(|retired| Some(retired) != cgroup.as_ref());
        if let Some(Err(why)) = spec.memory_max.map(|max| self.trees.limit_memory(cgroup.as_deref(), max)) {
            self.retired_cgroups.extend(cgroup);
            return Err(why);
        }
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let (out, err) = self.layout.output(&spec.file_name);
        let exec = ExecSpec {
            program: spec.program,
            arguments: spec.arguments,
            environment,
            working_directory: Some(spec.working_directory),
            stdout: Some(text(out)),
            stderr: Some(text(err)),
            cgroup_procs: cgroup.as_ref().map(|cgroup| text(cgroup.join("cgroup.procs"))),
            open_files: Some(spec.open_files.map_or(self.open_files, |both| (both, both))),
            user: spec.user,
            group: spec.group,
            umask: spec.umask,
            notify_socket: notify,
            ..ExecSpec::default()
        };
        let (pid, handle, starting) = self
            .start_process(exec, &spec.instance, &[])
            .map_err(|error| format!("no process can be started: {error}"))?;
        Ok(Instance {
            process: Process {
                name: spec.instance,
                role: ProcessRole::Instance,
                pid,
                start_ticks: process::start_ticks(pid).unwrap_or(0),
                generation: 0,
                descriptor: true,
                cgroup: cgroup.map(text),
                stop_signal: spec.stop_signal,
                grace_ms: spec.grace_ms,
                ended: None,
            },
            pid,
            handle: Some(handle),
            is_child: true,
            starting: Some(starting),
            kill_at: None,
        })
    }

    fn bind_notify(&mut self, instance: &str, file_name: &str) -> Result<String, String> {
        let path = self.layout.notify_socket(file_name);
        let socket = host::notify::bind(&path, None)
            .map_err(|error| format!("its notify socket {} cannot be made: {error}", path.display()))?;
        let path = path.to_string_lossy().into_owned();
        self.deposit((notify_item(instance, &path), Some(socket.clone())));
        self.notify.insert(instance.to_owned(), (path.clone(), socket));
        Ok(path)
    }

    fn drop_notify(&mut self, instance: &str) {
        if let Some((path, _)) = self.notify.remove(instance) {
            let _ = std::fs::remove_file(&path);
            self.withdraw(&[notify_item(instance, &path).key()]);
        }
    }

    /// A start is followed to its end: the program runs, or the reason is there.
    pub(crate) fn follow_start(&mut self, name: &str) {
        let Some(instance) = self.instances.get_mut(name) else { return };
        let Some(outcome) = instance.starting.as_mut().and_then(Starting::poll) else { return };
        instance.starting = None;
        let pid = instance.pid;
        match outcome {
            Ok(()) => self.tell_agent(&FromHolder::Spawned { instance: name.to_owned(), pid }),
            Err(error) => {
                self.forget_slot(name);
                self.tell_agent(&FromHolder::SpawnFailed { instance: name.to_owned(), error });
            }
        }
    }

    pub(crate) fn signal_instance(&mut self, name: &str, number: i32) {
        let Some(handle) = self.instances.get(name).and_then(|instance| instance.handle.clone()) else {
            return;
        };
        if let Err(error) = process::signal(&handle, number) {
            self.log.info(format_args!("{name} does not get signal {number}: {error}"));
        }
    }

    /// Another process of its tree is its main process from now on, also after the former one ended.
    pub(crate) fn change_main(&mut self, name: &str, pid: u32) {
        let Some(instance) = self.instances.get_mut(name) else { return };
        // Of a process that ends meanwhile the handle says so.
        let found = process::handle(pid).ok().zip(process::start_ticks(pid));
        let Some((handle, start_ticks)) = found.filter(|_| self.trees.contains(&instance.tree(), pid)) else {
            return self
                .log
                .info(format_args!("{name} has no process {pid}: its main process stays as it is"));
        };
        if !instance.runs() || instance.pid != pid {
            instance.pid = pid;
            instance.handle = Some(handle);
            instance.is_child = false;
            let former = instance.process.clone();
            instance.process = Process { pid, start_ticks, descriptor: true, ended: None, ..former };
            let item = instance.item();
            self.deposit(item);
        }
        self.tell_agent(&FromHolder::MainPid { instance: name.to_owned(), pid });
    }

    pub(crate) fn kill_tree(&mut self, name: &str) {
        let Some(instance) = self.instances.get(name) else { return };
        // A process that is still starting may not be in its cgroup yet.
        if let Some(handle) = &instance.handle {
            let _ = process::signal(handle, process::KILL);
        }
        if let Err(error) = self.trees.kill(&instance.tree()) {
            self.log.warn(format_args!("{name} cannot be killed whole: {error}"));
        }
    }

    /// The agent has noted its end. What its main process left behind goes with it.
    pub(crate) fn forget_instance(&mut self, name: &str) {
        match self.instances.get(name) {
            Some(instance) if instance.runs() => {
                self.log.warn(format_args!("{name} runs and is not forgotten"));
            }
            Some(_) => self.forget_slot(name),
            None => {}
        }
    }

    fn forget_slot(&mut self, name: &str) {
        self.kill_tree(name);
        self.drop_notify(name);
        if let Some(instance) = self.instances.remove(name) {
            self.withdraw(&[instance.item().0.key()]);
            self.retired_cgroups.extend(instance.tree().cgroup);
        }
    }

    /// Its main process has ended.
    pub(crate) fn instance_ended(&mut self, name: &str, ended: Ended) {
        // A process that ended while it started has said why by now.
        self.follow_start(name);
        let Some(instance) = self.instances.get_mut(name) else { return };
        let unasked = matches!(ended, Ended::Signal(process::KILL) | Ended::Unknown);
        let status = match unasked && self.killings.include(instance.tree().cgroup.as_deref(), instance.pid) {
            true => ExitStatus::OutOfMemory,
            false => exit_status(ended),
        };
        instance.process.ended = Some(status);
        instance.process.pid = 0;
        instance.process.descriptor = false;
        instance.handle = None;
        let item = instance.item();
        let alone = instance.kill_at.take().is_some();
        self.deposit(item);
        self.tell_agent(&FromHolder::Exited { instance: name.to_owned(), status });
        if alone {
            self.kill_tree(name);
        }
    }

    /// Without an agent: each its recorded signal, and the kill when its grace is over.
    pub(crate) fn stop_instances(&mut self) {
        let now = self.now;
        let mut signals = Vec::new();
        for (name, instance) in self.instances.iter_mut().filter(|(_, instance)| instance.runs()) {
            instance.kill_at = Some(now + Duration::from_millis(instance.process.grace_ms));
            signals.push((name.clone(), instance.process.stop_signal));
        }
        for (name, signal) in signals {
            self.signal_instance(&name, signal);
        }
    }

    pub(crate) fn kill_instances(&mut self) {
        for name in self.instances.keys().cloned().collect::<Vec<_>>() {
            self.kill_tree(&name);
        }
    }

    /// Kills the trees whose grace is over.
    pub(crate) fn kill_overdue(&mut self) {
        let now = self.now;
        let mut overdue = Vec::new();
        for (name, instance) in &mut self.instances {
            if instance.kill_at.is_some_and(|at| at <= now) {
                // Again a second later, should something of it be left.
                instance.kill_at = Some(now + Duration::from_secs(1));
                overdue.push(name.clone());
            }
        }
        for name in overdue {
            self.kill_tree(&name);
        }
    }

    /// Removes cgroups of forgotten trees once nothing is in them.
    pub(crate) fn remove_retired(&mut self) {
        let trees = &self.trees;
        self.retired_cgroups.retain(|cgroup| {
            trees.remove_cgroup(cgroup).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
        });
    }
}
