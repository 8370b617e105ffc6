//! What operators ask of the agent.

use agent::status::{OperationAccepted, OperationProgress};
use agent::world::{Applied, ApplyRequest, DeployRequest};
use agent::{Accepted, Denied};

use super::{OPERATOR, SimAgent, World};

/// An operation that is no rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operate {
    /// Fresh instances.
    Restart,
    /// Told to read their configuration again.
    Reload,
    /// Nothing runs.
    Stop,
    /// It runs again.
    Start,
    /// So many instances.
    Scale(u32),
}

impl World {
    /// Asks the living agent; who has died in between gives no answer.
    fn ask<T>(&mut self, ask: impl FnOnce(&mut SimAgent) -> T) -> Option<T> {
        let mut agent = self.agent.take()?;
        let answer = ask(&mut agent);
        self.after_agent(agent);
        self.check_step();
        self.agent.as_ref().map(|_| answer)
    }

    /// An operator deploys.
    ///
    /// # Errors
    /// As the agent says; `None` while there is no agent.
    pub fn deploy(&mut self, request: &DeployRequest) -> Option<Result<Accepted, Denied>> {
        self.ask(|agent| agent.try_deploy(request))
    }

    /// An operator takes the way back, asking with this key; `None` while there is no agent.
    pub fn rollback(&mut self, service: &str, key: &str) -> Option<Result<Accepted, Denied>> {
        self.ask(|agent| agent.try_rollback(service, OPERATOR, Some(key)))
    }

    /// An operator does something else to a service, asking with this key; `None` while there is no agent.
    pub fn operate(
        &mut self,
        service: &str,
        operate: Operate,
        key: &str,
    ) -> Option<Result<OperationAccepted, Denied>> {
        let key = Some(key);
        self.ask(|agent| match operate {
            Operate::Restart => agent.try_restart(service, OPERATOR, key),
            Operate::Reload => agent.try_reload(service, OPERATOR, key),
            Operate::Stop => agent.try_stop_service(service, OPERATOR, key),
            Operate::Start => agent.try_start(service, OPERATOR, key),
            Operate::Scale(instances) => agent.try_scale(service, instances, OPERATOR, key),
        })
    }

    /// An operator applies a manifest; the plan made just before must say the same.
    pub fn apply(&mut self, request: &ApplyRequest) -> Option<Result<Applied, Denied>> {
        let plan = self.agent.as_ref()?.plan_apply(request);
        let applied = self.ask(|agent| agent.try_apply(request));
        if let (Ok(plan), Some(Ok(applied))) = (plan, &applied)
            && plan != applied.changes
            && !applied.changes.is_empty()
        {
            self.complain(&format!("the plan was {plan:?}, and it became {:?}", applied.changes));
        }
        applied
    }

    /// What a follower of an operation sees.
    pub fn operation(&self, id: u64) -> Option<OperationProgress> {
        self.agent.as_ref()?.operation_progress(id, 0)
    }
}
