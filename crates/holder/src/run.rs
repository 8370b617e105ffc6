//! The loop: wait, hear everybody, do what is due, say what is to be said.
//!
//! All waiting is in one place; nothing else blocks.

use std::process::ExitCode;
use std::time::Duration;

use host::Descriptor;
use host::exec::Starting;
use host::poll::{Interest, Ready};
use host::process::{self, Ended};
use host::signals::Caught;
use model::holder_stop::{Action, Facts, Level};
use model::time::Instant;
use wire::link::{ALIVE_INTERVAL_MS, FromHolder, StopLevel};
use wire::vault::ProcessRole;

use crate::holder::Holder;
use crate::instances::Instance;
use crate::roles::Role;
use crate::start::close;

/// The longest wait: a gap of over twice that is noticed as our own.
const TICK: Duration = Duration::from_millis(400);

/// What a descriptor belongs to.
enum Source {
    Signals,
    Link(String),
    RoleStart(String),
    RoleEnd(String),
    InstanceStart(String),
    /// With the process that it was about: another one may be the main process by then.
    InstanceEnd(String, u32),
}

/// Runs until everything is stopped.
pub(crate) fn run(mut holder: Holder) -> ExitCode {
    loop {
        holder.turn();
        if let Some(killed) = holder.finished {
            return close(holder, killed);
        }
        holder.wait();
    }
}

impl Holder {
    fn turn(&mut self) {
        self.look_at_clock();
        let now = self.now;
        self.reap();
        if self.gap.handle_awake(now) {
            // What was said while we did not run is being read; nobody is judged by that time.
            self.roles.iter_mut().for_each(|role| role.silence.handle_heard(now));
            self.stop.handle_heard(now);
        }
        self.judge_roles();
        self.reconnect_roles();
        if now >= self.alive_at {
            self.alive_at = now + Duration::from_millis(ALIVE_INTERVAL_MS);
            self.roles.iter_mut().for_each(|role| role.tell(&FromHolder::Alive, Vec::new()));
        }
        self.start_due_roles();
        self.kill_overdue();
        self.retry_binds();
        while let Some(action) = self.stop.poll_action(self.facts(), now) {
            self.act(action);
        }
        self.remove_retired();
        self.flush_links();
    }

    fn facts(&self) -> Facts {
        let count = |kind| self.roles.iter().filter(|role| role.process.role == kind).count();
        let linked = |role: &Role| role.process.role == ProcessRole::Agent && role.welcomed;
        Facts {
            agent_linked: self.roles.iter().any(linked),
            agents: count(ProcessRole::Agent),
            proxies: count(ProcessRole::Proxy),
            instances: self.instances.values().filter(|instance| instance.runs()).count(),
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::TellAgent(level) => {
                let level = match level {
                    Level::Drain => StopLevel::Drain,
                    Level::SkipDrain => StopLevel::SkipDrain,
                    Level::Kill => StopLevel::Kill,
                };
                self.tell_agent(&FromHolder::Stop { level });
            }
            Action::KillAgent => self.signal_roles(ProcessRole::Agent, process::KILL),
            Action::KillProxies => self.signal_roles(ProcessRole::Proxy, process::KILL),
            Action::DrainProxies(deadline) => {
                let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
                self.proxies().for_each(|proxy| proxy.tell(&FromHolder::Drain { deadline_ms }, Vec::new()));
            }
            Action::StopInstances => {
                self.log.warn("the agent is not there to stop the services: the holder does it alone");
                self.stop_instances();
            }
            Action::KillInstances => self.kill_instances(),
            // It has said that it is done: the end of the link is all it waits for.
            Action::EndAgent => {
                if let Some(agent) = self.agent() {
                    agent.link = None;
                }
            }
            Action::Finish { killed } => self.finished = Some(killed),
        }
    }

    fn signal_roles(&mut self, kind: ProcessRole, number: i32) {
        self.roles.iter().filter(|role| role.process.role == kind).for_each(|role| role.signal(number));
    }

    fn next_wake(&self) -> Duration {
        let kills = self.instances.values().filter_map(|instance| instance.kill_at);
        let restarts =
            [&self.agent_restart, &self.proxy_restart].into_iter().filter_map(|r| r.poll_timeout());
        let restarts = restarts.filter(|_| !self.stop.has_begun());
        let now = Instant::from_start(self.clock.now());
        let binds = self.waiting_binds.iter().map(|(_, at)| *at);
        kills.chain(restarts).chain(binds).map(|at| now.until(at)).min().unwrap_or(TICK).min(TICK)
    }

    fn wait(&mut self) {
        let (sources, interests): (Vec<Source>, Vec<Interest>) = self.interests().into_iter().unzip();
        let ready = match host::poll::wait(&interests, self.next_wake()) {
            Ok(ready) => ready,
            Err(error) => {
                self.log.warn(format_args!("waiting failed: {error}"));
                return;
            }
        };
        drop(interests);
        self.look_at_clock();
        for (source, Ready { read, .. }) in sources.into_iter().zip(ready) {
            if read {
                self.attend(source);
            }
        }
    }

    fn interests(&mut self) -> Vec<(Source, Interest)> {
        let read = |descriptor: &Descriptor| Interest { descriptor: descriptor.clone(), write: false };
        let mut all = vec![(Source::Signals, read(&self.signals.descriptor()))];
        for role in &mut self.roles {
            let name = &role.process.name;
            if let Some(link) = &mut role.link {
                let interest = Interest { descriptor: link.descriptor(), write: link.wants_to_write() };
                all.push((Source::Link(name.clone()), interest));
            }
            if let Some(starting) = &role.starting {
                all.push((Source::RoleStart(name.clone()), read(&starting.descriptor())));
            }
            if !role.is_child {
                all.push((Source::RoleEnd(name.clone()), read(&role.handle)));
            }
        }
        for (name, instance) in &self.instances {
            if let Some(starting) = &instance.starting {
                all.push((Source::InstanceStart(name.clone()), read(&starting.descriptor())));
            }
            if let Some(handle) = instance.handle.as_ref().filter(|_| !instance.is_child) {
                all.push((Source::InstanceEnd(name.clone(), instance.pid), read(handle)));
            }
        }
        all
    }

    fn attend(&mut self, source: Source) {
        match source {
            Source::Signals => self.catch_signals(),
            Source::Link(name) => self.hear(&name),
            Source::RoleStart(name) => self.follow_role_start(&name),
            Source::RoleEnd(name) => {
                if let Some(Role { process, handle, .. }) = self.role(&name) {
                    let ended = process::end_of_other(handle, process.pid, process.start_ticks);
                    self.role_ended(&name, ended);
                }
            }
            Source::InstanceStart(name) => self.follow_start(&name),
            Source::InstanceEnd(name, pid) => {
                if let Some(Instance { process, handle: Some(handle), .. }) = self.instances.get(&name)
                    && process.pid == pid
                {
                    let ended = process::end_of_other(handle, process.pid, process.start_ticks);
                    self.instance_ended(&name, ended);
                }
            }
        }
    }

    fn follow_role_start(&mut self, name: &str) {
        let Some(role) = self.role(name) else { return };
        let Some(outcome) = role.starting.as_mut().and_then(Starting::poll) else { return };
        role.starting = None;
        if let Err(why) = outcome {
            self.log.warn(why);
        }
    }

    fn catch_signals(&mut self) {
        loop {
            match self.signals.take() {
                // Children are looked for in every turn.
                Ok(Some(Caught::Child)) => {}
                Ok(Some(Caught::Terminate | Caught::Interrupt)) => self.asked_to_stop(),
                Ok(Some(Caught::HangUp)) if self.terminal => self.asked_to_stop(),
                Ok(Some(Caught::HangUp)) => self.apply_manifest(),
                Ok(Some(Caught::User2)) => self.log.warn("SIGUSR2 is ignored"),
                Ok(None) => return,
                Err(error) => return self.log.warn(format_args!("signals cannot be read: {error}")),
            }
        }
    }

    fn asked_to_stop(&mut self) {
        let level = self.stop.handle_asked(self.now);
        self.log.info(format_args!("asked to stop: {level:?}"));
    }

    fn reap(&mut self) {
        loop {
            match process::reap() {
                Ok(Some((pid, ended))) => self.reaped(pid, ended),
                Ok(None) => return,
                Err(error) => {
                    return self.log.warn(format_args!("ended children cannot be asked for: {error}"));
                }
            }
        }
    }

    /// One of ours, or an orphan of a service.
    fn reaped(&mut self, pid: u32, ended: Ended) {
        let role = self.roles.iter().find(|role| role.is_child && role.process.pid == pid);
        if let Some(name) = role.map(|role| role.process.name.clone()) {
            self.follow_role_start(&name);
            return self.role_ended(&name, ended);
        }
        // Also a main process that was not our child when it became that.
        let instance = self.instances.values().find(|i| i.runs() && i.pid == pid);
        if let Some(name) = instance.map(|instance| instance.process.name.clone()) {
            self.instance_ended(&name, ended);
        }
        if self.apply.pid() == Some(pid) {
            if ended != Ended::Code(0) {
                self.log
                    .warn(format_args!("the manifest is not applied ({ended}); `handover plan` says more"));
            }
            if self.apply.handle_ended() {
                self.apply_manifest();
            }
        }
    }

    /// Has a command apply the changed manifest.
    fn apply_manifest(&mut self) {
        if self.stop.has_begun() || !self.apply.handle_asked() {
            return self
                .log
                .info("the manifest is not applied now: everything stops, or it is being applied");
        }
        let arguments = self.internal("apply");
        let environment = self.role_environment.clone();
        match process::spawn(&process::Start { program: &self.committed, arguments, environment, keep: &[] })
        {
            Ok(pid) => self.apply.handle_started(pid),
            Err(error) => self.log.warn(format_args!("the manifest is not applied: {error}")),
        }
    }
}
