//! What a deploy would do, step by step, in sentences.
//!
//! It deliberately asks the same questions as the deploy itself, and changes nothing.

use model::manifest as checked;
use model::rollout::Strategy;
use model::time::human;

use super::Controller;
use super::changes::gap;
use super::services::Service;
use crate::denied::Denied;
use crate::world::DeployRequest;

impl Controller {
    /// The steps of a deploy, one sentence each, and at the end whether anything has a gap, and why.
    ///
    /// # Errors
    /// When that deploy would be denied now.
    pub fn plan_deploy(&self, request: &DeployRequest) -> Result<Vec<String>, Denied> {
        let (name, version) = self.check_deploy(request)?;
        let service = &self.services[&name];
        let mut configuration = wire::manifest::Service::from(&service.settings);
        configuration.release.clone_from(&request.source);
        let id = service.release_id(&version, &configuration);
        self.check_verdict(&name, &id, request.force)?;
        if service.stable.as_ref() == Some(&id) {
            let text = format!("{id} is stable already: its content is compared, and nothing is started");
            return Ok(vec![text]);
        }
        let mut steps = Vec::new();
        if let Some(running) =
            service.rollout.as_ref().filter(|running| !running.machine.phase().is_promoted())
        {
            steps.push(format!("end the rollout to {}, which runs", running.machine.plan().to));
        } else if let Some(warm) = &service.warm {
            steps.push(format!("stop {warm}, which is kept warm"));
        }
        steps.push(format!("copy {} as {id}, and check that its program is there", request.source.display()));
        let keep = self.keep_warm(&name);
        steps.extend(takeover(service, &id.to_string(), keep));
        steps.push(match gap(service, &service.settings) {
            Some(gap) => format!("there is a gap: {gap}"),
            None => "no request waits or is refused meanwhile".to_owned(),
        });
        Ok(steps)
    }
}

fn takeover(service: &Service, to: &str, keep: std::time::Duration) -> Vec<String> {
    let instances = service.desired_instances();
    let s = if instances == 1 { "" } else { "s" };
    let Some(from) = &service.stable else {
        return vec![format!("start {instances} instance{s} of {to}, and wait until all are ready")];
    };
    let is_worker = service.settings.mode == checked::Mode::Worker;
    match service.strategy() {
        Strategy::BlueGreen => {
            let mut steps = vec![format!(
                "start {instances} instance{s} of {to} beside those of {from}, and wait until all are ready"
            )];
            if !is_worker {
                steps.push(format!("give {to} all requests at once; what {from} has begun it finishes"));
            }
            steps.push(if keep.is_zero() {
                format!("stop {from}")
            } else {
                format!("keep {from} running for {} for an instant way back, then stop it", human(keep))
            });
            steps
        }
        Strategy::Rolling { max_surge, max_unavailable } => vec![format!(
            "replace {instances} instance{s} of {from} one after another: at most {} run, at least {} are ready",
            instances.saturating_add(max_surge),
            instances.saturating_sub(max_unavailable)
        )],
        Strategy::Recreate => vec![
            format!("let {from} finish its requests, and stop it"),
            format!(
                "start {instances} instance{s} of {to}, and wait until all are ready; if that fails, start {from} again"
            ),
        ],
    }
}
