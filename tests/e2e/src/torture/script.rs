//! What happens to a subject while its clients work: the steps, in an order that is mixed but always the same.

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A new release.
    Deploy,
    /// Back to the one before.
    Rollback,
    /// `kill -9` of the agent.
    KillAgent,
    /// The same in the middle of a deploy, which must end well all the same.
    KillAgentInDeploy,
    /// `kill -9` of the holder.
    KillHolder,
}

impl Step {
    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deploy => "deploys",
            Self::Rollback => "rollbacks",
            Self::KillAgent => "agent kills",
            Self::KillAgentInDeploy => "agent kills in a deploy",
            Self::KillHolder => "holder kills",
        }
    }
}

/// How many of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Deploys, beside those in which the agent is killed.
    pub deploys: usize,
    /// Rollbacks.
    pub rollbacks: usize,
    /// Agent kills; every second one in the middle of a deploy.
    pub agent_kills: usize,
    /// Holder kills.
    pub holder_kills: usize,
}

impl Counts {
    /// What the recipe of today can do: deploys. Fewer, because each of them waits on purpose.
    pub fn for_peers(&self) -> Vec<Step> {
        vec![Step::Deploy; self.deploys.min(15)]
    }
}

/// The steps in a mixed order. A rollback always follows a deploy at once: there is a way back then.
pub(super) fn script(counts: &Counts) -> Vec<Step> {
    let in_deploy = counts.agent_kills / 2;
    let plain_deploys = counts.deploys.saturating_sub(counts.rollbacks);
    let mut groups: Vec<Vec<Step>> = Vec::new();
    groups.extend(vec![vec![Step::Deploy]; plain_deploys]);
    groups.extend(vec![vec![Step::Deploy, Step::Rollback]; counts.rollbacks]);
    groups.extend(vec![vec![Step::KillAgentInDeploy]; in_deploy]);
    groups.extend(vec![vec![Step::KillAgent]; counts.agent_kills - in_deploy]);
    groups.extend(vec![vec![Step::KillHolder]; counts.holder_kills]);
    // A fixed stride that shares no factor with the length visits every group once.
    let length = groups.len().max(1);
    let stride =
        (length * 5 / 8..).find(|stride| *stride > 0 && greatest_common_factor(*stride, length) == 1);
    let stride = stride.expect("invariant: some number shares no factor");
    (0..groups.len()).flat_map(|n| groups[n * stride % length].clone()).collect()
}

fn greatest_common_factor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_factor(b, a % b) }
}

/// `5 deploys, 2 rollbacks`.
pub(super) fn summary(steps: &[Step]) -> String {
    let mut kinds = steps.to_vec();
    kinds.sort_unstable();
    kinds.dedup();
    let count = |kind: Step| steps.iter().filter(|step| **step == kind).count();
    let parts: Vec<String> = kinds.iter().map(|kind| format!("{} {}", count(*kind), kind.name())).collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_has_every_step_as_often_as_asked_and_rollbacks_only_after_deploys() {
        let counts = Counts { deploys: 50, rollbacks: 20, agent_kills: 10, holder_kills: 5 };
        let steps = script(&counts);
        let count = |step| steps.iter().filter(|s| **s == step).count();
        assert_eq!((count(Step::Deploy), count(Step::Rollback), count(Step::KillHolder)), (50, 20, 5));
        assert_eq!((count(Step::KillAgent), count(Step::KillAgentInDeploy)), (5, 5));
        let rollbacks = steps.windows(2).filter(|pair| pair[1] == Step::Rollback);
        assert!(rollbacks.into_iter().all(|pair| pair[0] == Step::Deploy));
    }

    #[test]
    fn a_summary_names_what_happened() {
        assert_eq!(summary(&[Step::Deploy, Step::KillHolder, Step::Deploy]), "2 deploys, 1 holder kills");
    }
}
