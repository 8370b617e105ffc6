//! What waits for what: unknown names, and circles in which everyone waits.

use std::collections::BTreeMap;

use model::id::ServiceName;
use model::manifest::{Dependency, DependsUntil};

use super::super::error::Problem;
use super::super::nearest::nearest;
use super::super::raw;
use super::super::read::Spot;
use super::{Checks, entries};

impl Checks<'_> {
    /// The entries whose names can be names; whether these services exist is checked over all of them.
    pub(super) fn depends_on(&mut self, key: &str, raw: &raw::Service) -> Vec<Dependency> {
        let full = format!("{key}.depends_on");
        let mut found: Vec<Dependency> = Vec::new();
        for entry in raw.depends_on.get().into_iter().flatten() {
            if entry.value.service.is_absent() {
                self.missing(
                    &full,
                    "service",
                    &entry.span,
                    "service = \"NAME\", the name of a [service.NAME]",
                );
            }
            let Some(name) = entry.value.service.get().and_then(|name| name.parse::<ServiceName>().ok())
            else {
                continue;
            };
            if found.iter().any(|other| other.service == name) {
                let message = format!("`{name}` is there twice");
                self.push(Problem::error(&full, entry.span.clone(), message).help("keep one of them"));
            }
            let until = match entry.value.until.or(raw::Until::Ready) {
                raw::Until::Started => DependsUntil::Started,
                raw::Until::Ready => DependsUntil::Ready,
            };
            found.push(Dependency { service: name, until });
        }
        found
    }

    /// Names that are none, itself, and circles.
    pub(super) fn dependencies(&mut self, raw: &raw::Manifest) {
        // A service that is wrong hides its name: what was noted there comes first.
        if raw.service.get().is_none() {
            return;
        }
        let services = entries(&raw.service);
        let names: Vec<&str> = services.iter().map(|(name, _)| name.value.as_str()).collect();
        let mut waits: BTreeMap<&str, Vec<&Spot<String>>> = BTreeMap::new();
        for (name, service) in services {
            for entry in service.value.depends_on.get().into_iter().flatten() {
                let Some(on) = entry.value.service.spot() else { continue };
                if names.contains(&on.value.as_str()) && on.value != name.value {
                    waits.entry(&name.value).or_default().push(on);
                } else {
                    self.push(no_dependency(&name.value, on, &names));
                }
            }
        }
        self.circles(&waits);
    }

    fn circles(&mut self, waits: &BTreeMap<&str, Vec<&Spot<String>>>) {
        let mut told: Vec<&str> = Vec::new();
        for start in waits.keys() {
            if told.contains(start) {
                continue;
            }
            let mut path = vec![*start];
            if let Some(back) = walk(waits, start, &mut path) {
                let shown: Vec<String> = path.iter().chain([start]).map(|name| format!("`{name}`")).collect();
                let message = format!("these wait for each other for ever: {}", shown.join(" → "));
                let key = format!("service.{}.depends_on", path.last().unwrap_or(start));
                let problem = Problem::error(&key, back.span.clone(), message).label("closes the circle");
                self.push(problem.help("take one of these dependencies out"));
                told.extend(path);
            }
        }
    }
}

/// The entry that leads back to the first of `path`, which is then the way there.
fn walk<'w>(
    waits: &BTreeMap<&str, Vec<&'w Spot<String>>>,
    start: &str,
    path: &mut Vec<&'w str>,
) -> Option<&'w Spot<String>> {
    let mut seen: Vec<&str> = Vec::new();
    let mut open: Vec<(usize, &'w Spot<String>)> = Vec::new();
    let push = |open: &mut Vec<(usize, &'w Spot<String>)>, depth: usize, of: &str| {
        open.extend(waits.get(of).into_iter().flatten().rev().map(|next| (depth, *next)));
    };
    push(&mut open, 1, start);
    while let Some((depth, next)) = open.pop() {
        path.truncate(depth);
        if next.value == start {
            return Some(next);
        }
        if !seen.contains(&next.value.as_str()) {
            seen.push(&next.value);
            path.push(&next.value);
            push(&mut open, depth + 1, &next.value);
        }
    }
    None
}

fn no_dependency(service: &str, on: &Spot<String>, names: &[&str]) -> Problem {
    let key = format!("service.{service}.depends_on");
    if on.value == service {
        let message = format!("`{service}` cannot wait for itself");
        return Problem::error(&key, on.span.clone(), message).help("take it out");
    }
    let problem = Problem::error(&key, on.span.clone(), format!("there is no service `{}`", on.value));
    let others: Vec<&str> = names.iter().copied().filter(|name| *name != service).collect();
    let problem = match nearest(&on.value, others.iter().copied()) {
        Some(near) => problem.label(format!("did you mean `{near}`?")),
        None => problem.label("no such name"),
    };
    if others.is_empty() {
        return problem.help(format!("add [service.{}]", on.value));
    }
    problem.help(format!("there is: {}", others.join(", ")))
}
