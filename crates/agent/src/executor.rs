//! The executor: carries the controller's actions out over the six traits, in order, and nothing else.
//!
//! It deliberately has no choices: whatever depends on an outcome is decided by the controller when it hears
//! of it.

use model::time::Instant;
use wire::link::StopLevel;
use wire::record::Record;
use wire::sealed::Boot;

use crate::controller::{Action, Asked, Controller, ResumeError};
use crate::denied::{Accepted, Denied};
use crate::status::{OperationAccepted, OperationProgress, Progress, Status};
use crate::world::{
    Applied, ApplyRequest, Change, Clock, DeployRequest, Event, Fleet, Names, Notify, Store, Traffic,
};

/// A controller with hands.
#[derive(Debug)]
pub struct Agent<F, T, S, N, R, C> {
    controller: Controller,
    fleet: F,
    traffic: T,
    store: S,
    notify: N,
    names: R,
    clock: C,
}

impl<F: Fleet, T: Traffic, S: Store, N: Notify, R: Names, C: Clock> Agent<F, T, S, N, R, C> {
    /// Nothing is done before the first event.
    pub fn new(
        controller: Controller,
        (fleet, traffic, store, notify, names): (F, T, S, N, R),
        clock: C,
    ) -> Self {
        Self { controller, fleet, traffic, store, notify, names, clock }
    }

    /// Something happened.
    pub fn handle(&mut self, event: Event) {
        self.controller.handle_event(event, self.clock.now(), self.clock.wall());
        self.carry_out();
    }

    /// Something happened, and the next event is there already: call `handle` with the last of them.
    pub fn handle_of_many(&mut self, event: Event) {
        self.controller.handle_event_of_many(event, self.clock.now(), self.clock.wall());
        self.carry_out();
    }

    /// When `handle(Event::Timeout)` is wanted.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.controller.poll_timeout()
    }

    /// See [`Controller::note_boot`]; the first event carries out what follows from it.
    ///
    /// # Errors
    /// When the boot form holds what no `up` writes.
    pub fn note_boot(&mut self, boot: &Boot) -> Result<(), ResumeError> {
        self.controller.note_boot(boot)
    }

    /// See [`Controller::try_deploy`].
    ///
    /// # Errors
    /// When it cannot be done now.
    pub fn try_deploy(&mut self, request: &DeployRequest) -> Result<Accepted, Denied> {
        let accepted = self.controller.try_deploy(request, self.clock.now(), self.clock.wall());
        self.carry_out();
        accepted
    }

    /// See [`Controller::try_rollback`].
    ///
    /// # Errors
    /// When there is nothing to go back to.
    pub fn try_rollback(
        &mut self,
        service: &str,
        actor: &str,
        operation: Option<&str>,
    ) -> Result<Accepted, Denied> {
        let asked = Asked { actor, operation };
        let accepted = self.controller.try_rollback(service, asked, self.clock.now(), self.clock.wall());
        self.carry_out();
        accepted
    }

    /// See [`Controller::try_restart`].
    ///
    /// # Errors
    /// When it cannot be done now.
    pub fn try_restart(
        &mut self,
        service: &str,
        actor: &str,
        operation: Option<&str>,
    ) -> Result<OperationAccepted, Denied> {
        let asked = Asked { actor, operation };
        let accepted = self.controller.try_restart(service, asked, self.clock.now(), self.clock.wall());
        self.carry_out();
        accepted
    }

    /// See [`Controller::try_reload`].
    ///
    /// # Errors
    /// When it cannot be done now.
    pub fn try_reload(
        &mut self,
        service: &str,
        actor: &str,
        operation: Option<&str>,
    ) -> Result<OperationAccepted, Denied> {
        let asked = Asked { actor, operation };
        let accepted = self.controller.try_reload(service, asked, self.clock.now(), self.clock.wall());
        self.carry_out();
        accepted
    }

    /// See [`Controller::try_stop_service`].
    ///
    /// # Errors
    /// When it cannot be done now.
    pub fn try_stop_service(
        &mut self,
        service: &str,
        actor: &str,
        operation: Option<&str>,
    ) -> Result<OperationAccepted, Denied> {
        let asked = Asked { actor, operation };
        let accepted = self.controller.try_stop_service(service, asked, self.clock.now(), self.clock.wall());
        self.carry_out();
        accepted
    }

    /// See [`Controller::try_start`].
    ///
    /// # Errors
    /// When it cannot be done now.
    pub fn try_start(
        &mut self,
        service: &str,
        actor: &str,
        operation: Option<&str>,
    ) -> Result<OperationAccepted, Denied> {
        let asked = Asked { actor, operation };
        let accepted = self.controller.try_start(service, asked, self.clock.now(), self.clock.wall());
        self.carry_out();
        accepted
    }

    /// See [`Controller::try_scale`].
    ///
    /// # Errors
    /// When it cannot be done now.
    pub fn try_scale(
        &mut self,
        service: &str,
        instances: u32,
        actor: &str,
        operation: Option<&str>,
    ) -> Result<OperationAccepted, Denied> {
        let asked = Asked { actor, operation };
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let accepted = self.controller.try_scale(service, instances, asked, now, wall);
        self.carry_out();
        accepted
    }

    /// See [`Controller::operation_progress`].
    pub fn operation_progress(&self, id: u64, after: u64) -> Option<OperationProgress> {
        self.controller.operation_progress(id, after)
    }

    /// See [`Controller::plan_apply`].
    ///
    /// # Errors
    /// When it could not be applied at all now.
    pub fn plan_apply(&self, request: &ApplyRequest) -> Result<Vec<Change>, Denied> {
        self.controller.plan_apply(request)
    }

    /// See [`Controller::try_apply`].
    ///
    /// # Errors
    /// When it cannot be done now; nothing of it is done then.
    pub fn try_apply(&mut self, request: &ApplyRequest) -> Result<Applied, Denied> {
        let applied = self.controller.try_apply(request, self.clock.now(), self.clock.wall());
        self.carry_out();
        applied
    }

    /// See [`Controller::plan_deploy`].
    ///
    /// # Errors
    /// When that deploy would be denied now.
    pub fn plan_deploy(&self, request: &DeployRequest) -> Result<Vec<String>, Denied> {
        self.controller.plan_deploy(request)
    }

    /// See [`Controller::stop_all`].
    pub fn stop_all(&mut self, level: StopLevel) {
        self.controller.stop_all(level, self.clock.now(), self.clock.wall());
        self.carry_out();
    }

    /// Everything has ended, and the holder was told.
    pub fn is_stopped(&self) -> bool {
        self.controller.is_stopped()
    }

    /// Everything `status` shows.
    pub fn status(&self) -> Status {
        self.controller.status(self.clock.now(), self.clock.wall())
    }

    /// See [`Controller::progress`].
    pub fn progress(&self, service: &str, rollout: u64, after: u64) -> Option<Progress> {
        self.controller.progress(service, rollout, after, self.clock.now())
    }

    /// What has to survive, as of now.
    pub fn record(&self) -> Record {
        self.controller.record()
    }

    fn carry_out(&mut self) {
        while let Some(action) = self.controller.poll_action() {
            match action {
                Action::Publish(table) => self.traffic.publish(&table),
                Action::Drain(deadline) => self.traffic.drain(deadline),
                Action::ReportNow(token) => self.traffic.report_now(token),
                Action::Fleet(request) => self.fleet.request(request),
                Action::Append(entry) => self.store.append(&entry),
                Action::Prepare(request) => self.store.prepare(*request),
                Action::RemoveRelease { service, directory } => {
                    self.store.remove_release(&service, &directory)
                }
                Action::LookUp(names) => self.names.look_up(&names),
                Action::Announce(notice) => self.notify.announce(&notice),
                Action::Write(record) => {
                    let result = self.store.write(&record);
                    self.controller.handle_written(result, self.clock.now(), self.clock.wall());
                }
            }
        }
    }
}
