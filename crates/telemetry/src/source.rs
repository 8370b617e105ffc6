//! Whose output it is: an instance's, or that of a task run beside one.
//!
//! A task is named `INSTANCE~PURPOSE-NUMBER`, and its files the same after the instance's: no id has a `~` in it.

use std::fmt;
use std::str::FromStr;

use model::id::{IdError, InstanceId};

/// One process's output.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// The instance, or that which the task is run beside.
    pub instance: InstanceId,
    /// `PURPOSE-NUMBER` of a task.
    pub task: Option<String>,
}

impl Source {
    /// A task's.
    pub fn task(instance: InstanceId, purpose: &str, number: u64) -> Self {
        Self { instance, task: Some(format!("{purpose}-{number}")) }
    }

    /// Its output files without `.out` and `.err`.
    pub fn file_name(&self) -> String {
        match &self.task {
            None => self.instance.file_name(),
            Some(task) => format!("{}~{task}", self.instance.file_name()),
        }
    }

    /// The number at the end of a task's name.
    pub fn task_number(&self) -> Option<u64> {
        self.task.as_ref()?.rsplit_once('-')?.1.parse().ok()
    }

    /// Whose file that is: `SERVICE@RELEASE.NUMBER.out`, `SERVICE@RELEASE.NUMBER~TASK.err`.
    pub(crate) fn of_file(name: &str) -> Option<Self> {
        let (id, stream) = name.rsplit_once('.')?;
        if !matches!(stream, "out" | "err") {
            return None;
        }
        let (id, task) = split_task(id);
        let (release, number) = id.rsplit_once('.')?;
        Some(Self { instance: format!("{release}/{number}").parse().ok()?, task })
    }
}

fn split_task(name: &str) -> (&str, Option<String>) {
    match name.split_once('~') {
        None => (name, None),
        Some((instance, task)) => (instance, Some(task.to_owned())),
    }
}

impl From<InstanceId> for Source {
    fn from(instance: InstanceId) -> Self {
        Self { instance, task: None }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.instance.fmt(f)?;
        match &self.task {
            None => Ok(()),
            Some(task) => write!(f, "~{task}"),
        }
    }
}

impl FromStr for Source {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (instance, task) = split_task(text);
        Ok(Self { instance: instance.parse()?, task })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_file_names_lead_back_to_their_source() {
        for text in ["shop@1.4.1/0", "a-b@1.0+c2/17", "shop@1.4.1/0~before-start-12"] {
            let source: Source = text.parse().unwrap();
            assert_eq!(source.to_string(), text);
            assert_eq!(Source::of_file(&format!("{}.err", source.file_name())), Some(source));
        }
        for name in ["offsets", "offsets.new", "shop@1.0.log", "x.out", "shop@1.0.said"] {
            assert_eq!(Source::of_file(name), None, "{name}");
        }
    }

    #[test]
    fn a_task_has_its_number() {
        let task = Source::task("shop@1/0".parse().unwrap(), "before-start", 12);
        assert_eq!((task.to_string().as_str(), task.task_number()), ("shop@1/0~before-start-12", Some(12)));
        assert_eq!(Source::from(task.instance).task_number(), None);
    }
}
