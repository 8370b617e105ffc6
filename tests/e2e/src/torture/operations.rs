//! What people do to a running Handover: each operation as the words they type, and random ones by a seed.

use std::fmt;

/// Instances a random `scale` asks for, at most.
const INSTANCES_MAX: u32 = 4;

/// One thing done to the subject while its clients work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// A new release.
    Deploy,
    /// Back to the one before.
    Rollback,
    /// That many instances.
    Scale(u32),
    /// Every instance replaced by another of the same release.
    Restart,
    /// Every instance asked to read its settings anew.
    Reload,
    /// A line of the manifest changed, and `apply`.
    Apply(Edit),
    /// `kill -9` of the agent.
    KillAgent,
    /// The same while that is under way, which must end well all the same.
    KillAgentIn(Interrupted),
    /// `kill -9` of the holder.
    KillHolder,
    /// The same while that is under way, which must end well all the same.
    KillHolderIn(Interrupted),
}

/// What is under way when a role is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Interrupted {
    /// A new release.
    Deploy,
    /// Every instance replaced.
    Restart,
    /// Every instance asked to read its settings anew.
    Reload,
    /// One instance more, or all but one less.
    Scale,
}

impl Interrupted {
    /// Each of them, by the death of each role.
    pub(super) const BY_EACH_ROLE: [Operation; 8] = [
        Operation::KillAgentIn(Self::Restart),
        Operation::KillHolderIn(Self::Deploy),
        Operation::KillAgentIn(Self::Scale),
        Operation::KillHolderIn(Self::Reload),
        Operation::KillAgentIn(Self::Deploy),
        Operation::KillHolderIn(Self::Restart),
        Operation::KillAgentIn(Self::Reload),
        Operation::KillHolderIn(Self::Scale),
    ];
}

/// What is changed in the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Edit {
    /// Nothing at all: `apply` has nothing to do.
    Nothing,
    /// How long a stop waits: live.
    Drain,
    /// A limit of the listener: live.
    ListenerLimit,
    /// How the service is probed: live.
    Readiness,
    /// How it is restarted: live.
    Restart,
    /// Its environment: a rollout.
    Environment,
    /// Its version: a rollout.
    Version,
    /// How many instances: at once.
    Instances,
    /// Another listener and its route: bound.
    AddListener,
    /// That listener at another address.
    MoveListener,
    /// Without it again.
    RemoveListener,
    /// Another service behind another path: started.
    AddService,
    /// Without it again: stopped and forgotten.
    RemoveService,
    /// Where the administration listens.
    Admin,
}

impl Edit {
    /// All of them, in an order in which each can be made.
    pub const ALL: [Self; 14] = [
        Self::Nothing,
        Self::Drain,
        Self::ListenerLimit,
        Self::Readiness,
        Self::Restart,
        Self::Environment,
        Self::AddListener,
        Self::MoveListener,
        Self::Version,
        Self::AddService,
        Self::RemoveListener,
        Self::Instances,
        Self::RemoveService,
        Self::Admin,
    ];
}

impl Operation {
    /// Without its details, for counts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deploy => "deploys",
            Self::Rollback => "rollbacks",
            Self::Scale(_) => "scales",
            Self::Restart => "restarts",
            Self::Reload => "reloads",
            Self::Apply(_) => "applies",
            Self::KillAgent => "agent kills",
            Self::KillAgentIn(_) => "agent kills in an operation",
            Self::KillHolder => "holder kills",
            Self::KillHolderIn(_) => "holder kills in an operation",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scale(instances) => write!(f, "scale {instances}"),
            Self::Apply(edit) => write!(f, "apply {edit:?}"),
            Self::KillAgentIn(what) => write!(f, "agent kill in a {what:?}"),
            Self::KillHolderIn(what) => write!(f, "holder kill in a {what:?}"),
            other => f.write_str(other.name()),
        }
    }
}

/// SplitMix64: the same operations for the same seed, on every machine.
#[derive(Debug, Clone)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        u32::try_from((z ^ (z >> 31)) % u64::from(sides)).expect("invariant: below sides")
    }
}

/// So many operations, the same for the same seed. Each can be done when the ones before it are. What is not `scalable`
/// keeps its one instance.
pub(super) fn random(seed: u64, count: usize, scalable: bool) -> Vec<Operation> {
    let mut dice = Dice(seed);
    let mut all = Vec::new();
    let (mut has_listener, mut has_service) = (false, false);
    while all.len() < count {
        match dice.roll(100) {
            0..18 => all.push(Operation::Deploy),
            // There is a way back right after a deploy.
            18..26 => all.extend([Operation::Deploy, Operation::Rollback]),
            26..40 if !scalable => {}
            26..40 => all.push(Operation::Scale(1 + dice.roll(INSTANCES_MAX))),
            40..52 => all.push(Operation::Restart),
            52..64 => all.push(Operation::Reload),
            64..84 => {
                let edit = Edit::ALL[dice.roll(14) as usize];
                let edit = match edit {
                    Edit::Instances if !scalable => Edit::Nothing,
                    Edit::AddListener | Edit::RemoveListener | Edit::MoveListener => {
                        match (has_listener, edit) {
                            (false, _) => Edit::AddListener,
                            (true, Edit::MoveListener) => Edit::MoveListener,
                            (true, _) => Edit::RemoveListener,
                        }
                    }
                    Edit::AddService | Edit::RemoveService if has_service => Edit::RemoveService,
                    Edit::AddService | Edit::RemoveService => Edit::AddService,
                    other => other,
                };
                has_listener = (has_listener || edit == Edit::AddListener) && edit != Edit::RemoveListener;
                has_service = (has_service || edit == Edit::AddService) && edit != Edit::RemoveService;
                all.push(Operation::Apply(edit));
            }
            84..88 => all.push(Operation::KillAgent),
            88..94 => all.push(Operation::KillAgentIn(interrupted(&mut dice, scalable))),
            94..97 => all.push(Operation::KillHolder),
            _ => all.push(Operation::KillHolderIn(interrupted(&mut dice, scalable))),
        }
    }
    all.truncate(count);
    all
}

fn interrupted(dice: &mut Dice, scalable: bool) -> Interrupted {
    match dice.roll(if scalable { 4 } else { 3 }) {
        0 => Interrupted::Deploy,
        1 => Interrupted::Restart,
        2 => Interrupted::Reload,
        _ => Interrupted::Scale,
    }
}

/// `5 deploys, 2 rollbacks`.
pub(super) fn summary(operations: &[Operation]) -> String {
    let mut names: Vec<&str> = operations.iter().map(|operation| operation.name()).collect();
    names.sort_unstable();
    names.dedup();
    let count = |name: &str| operations.iter().filter(|operation| operation.name() == name).count();
    let parts: Vec<String> = names.iter().map(|name| format!("{} {name}", count(name))).collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_operations_and_each_kind_comes() {
        let all = random(7, 2_000, true);
        assert_eq!((all.len(), &all), (2_000, &random(7, 2_000, true)));
        assert_ne!(all, random(8, 2_000, true));
        let mut names: Vec<&str> = all.iter().map(|operation| operation.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 10, "{names:?}");
        for edit in Edit::ALL {
            assert!(all.contains(&Operation::Apply(edit)), "{edit:?}");
        }
    }

    #[test]
    fn what_is_removed_was_there() {
        let (mut listener, mut service) = (false, false);
        for operation in random(3, 2_000, true) {
            match operation {
                Operation::Apply(Edit::AddListener) => assert!(!std::mem::replace(&mut listener, true)),
                Operation::Apply(Edit::RemoveListener) => assert!(std::mem::replace(&mut listener, false)),
                Operation::Apply(Edit::MoveListener) => assert!(listener),
                Operation::Apply(Edit::AddService) => assert!(!std::mem::replace(&mut service, true)),
                Operation::Apply(Edit::RemoveService) => assert!(std::mem::replace(&mut service, false)),
                _ => {}
            }
        }
    }

    #[test]
    fn what_cannot_be_scaled_is_not() {
        let all = random(5, 1_000, false);
        let scales = |operation: &Operation| {
            matches!(
                operation,
                Operation::Scale(_)
                    | Operation::Apply(Edit::Instances)
                    | Operation::KillAgentIn(Interrupted::Scale)
                    | Operation::KillHolderIn(Interrupted::Scale)
            )
        };
        assert!(!all.iter().any(scales));
    }

    #[test]
    fn a_rollback_follows_a_deploy() {
        let all = random(11, 1_000, true);
        let pairs = all.windows(2).filter(|pair| pair[1] == Operation::Rollback);
        assert!(pairs.into_iter().all(|pair| pair[0] == Operation::Deploy));
    }
}
