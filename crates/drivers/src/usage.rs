//! What instances use, looked at now and then, for people.
//!
//! It deliberately decides nothing and is not exact: a look is seconds old, and reads what the system keeps anyway.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use host::process_tree::Tree;
use host::usage::Usage;
use model::id::InstanceId;

/// Between two looks.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// What one instance uses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Of one processor, since the look before; `None` at the first look.
    pub cpu_percent: Option<f64>,
    /// Memory of its tree.
    pub memory_bytes: u64,
}

/// The newest looks. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    shown: Rc<RefCell<BTreeMap<String, Looked>>>,
    is_looking: Rc<Cell<bool>>,
}

#[derive(Debug, Clone, Copy)]
struct Looked {
    at: Instant,
    pid: u32,
    cpu: Duration,
    sample: Sample,
}

impl Samples {
    /// Of that instance, if it ran at the last look.
    pub fn of(&self, instance: &InstanceId) -> Option<Sample> {
        self.shown.borrow().get(&instance.to_string()).map(|looked| looked.sample)
    }

    /// Looks at these trees and no others, on another thread; not while an earlier look still goes on.
    pub(crate) async fn look(self, trees: Vec<Tree>) {
        if self.is_looking.replace(true) {
            return;
        }
        let looked = tokio::task::spawn_blocking(move || {
            let usages = host::usage::of(&trees);
            (trees, usages)
        });
        if let Ok((trees, usages)) = looked.await {
            self.note(&trees, &usages, Instant::now());
        }
        self.is_looking.set(false);
    }

    fn note(&self, trees: &[Tree], usages: &[Option<Usage>], at: Instant) {
        let mut before = self.shown.take();
        let mut now = BTreeMap::new();
        for (tree, usage) in trees.iter().zip(usages) {
            let Some(Usage { cpu, memory_bytes }) = *usage else { continue };
            let last = before.remove(&tree.instance).filter(|last| last.pid == tree.pid);
            let cpu_percent = last.and_then(|last| {
                let passed = at.saturating_duration_since(last.at);
                (!passed.is_zero())
                    .then(|| 100.0 * cpu.saturating_sub(last.cpu).as_secs_f64() / passed.as_secs_f64())
            });
            let sample = Sample { cpu_percent, memory_bytes };
            now.insert(tree.instance.clone(), Looked { at, pid: tree.pid, cpu, sample });
        }
        self.shown.replace(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(pid: u32) -> Tree {
        Tree { instance: "shop@1/0".into(), pid, start_ticks: 1, cgroup: None }
    }

    #[test]
    fn processor_time_is_that_since_the_look_before_of_the_same_process() {
        let samples = Samples::default();
        let id: InstanceId = "shop@1/0".parse().unwrap();
        let start = Instant::now();
        let usage = |ms| vec![Some(Usage { cpu: Duration::from_millis(ms), memory_bytes: 7 })];
        samples.note(&[tree(1)], &usage(1_000), start);
        assert_eq!(samples.of(&id), Some(Sample { cpu_percent: None, memory_bytes: 7 }));
        samples.note(&[tree(1)], &usage(3_500), start + LOOK_INTERVAL);
        assert_eq!(samples.of(&id).unwrap().cpu_percent, Some(50.0));
        samples.note(&[tree(2)], &usage(10), start + 2 * LOOK_INTERVAL);
        assert_eq!(samples.of(&id).unwrap().cpu_percent, None);
        samples.note(&[tree(2)], &[None], start + 3 * LOOK_INTERVAL);
        assert_eq!(samples.of(&id), None);
    }
}
