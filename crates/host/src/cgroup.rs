//! The cgroup v2 hierarchy: where a process is in it, and which of its controllers we may use below.
//!
//! ```text
//! home ── core/                     Handover's own processes, where they had to make room
//!      └─ handover-<hash>/          the base: limits are possible below where both above it pass the controller on
//!           └─ <instance>/
//! ```
//! The kernel gives limits only below groups that have no processes themselves. Nothing here moves a process that is
//! not ours.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// The controller that knows and limits memory.
pub(crate) const MEMORY: &str = "memory";
/// Where Handover's own processes go when they are in the way.
const CORE: &str = "core";
/// Most rounds of moving processes that were started meanwhile.
const ROUNDS_MAX: u32 = 20;

/// Where the hierarchy is mounted, and which part of it.
fn mount(mountinfo: &str) -> Option<(PathBuf, PathBuf)> {
    mountinfo.lines().find_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        (system.split(' ').next() == Some("cgroup2")).then_some(())?;
        let mut fields = mount.split(' ').skip(3);
        Some((plain(fields.next()?), plain(fields.next()?)))
    })
}

/// Spaces and the like are written as octal numbers there.
fn plain(text: &str) -> PathBuf {
    PathBuf::from(text.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\"))
}

fn directory(mountinfo: &str, cgroups: &str) -> Option<PathBuf> {
    let (root, point) = mount(mountinfo)?;
    let path = Path::new(cgroups.lines().find_map(|line| line.strip_prefix("0::"))?);
    let below = path.strip_prefix(&root).ok()?;
    // Outside of what our namespace shows.
    let is_inside = !below.components().any(|part| part.as_os_str() == "..");
    is_inside.then(|| if below.as_os_str().is_empty() { point } else { point.join(below) })
}

/// The directory of the group that a process is in.
pub(crate) fn of(pid: u32) -> Option<PathBuf> {
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    directory(&mountinfo, &std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?)
}

/// The group below which that Handover keeps its own: where its holder is, or was before it made room.
pub(crate) fn home(holder: u32, base: Option<&str>) -> Option<PathBuf> {
    let own = of(holder)?;
    let above = own.parent().filter(|_| own.ends_with(CORE)).map(Path::to_owned);
    let is_ours = |above: &PathBuf| match base {
        Some(base) => above.join(base).is_dir(),
        None => std::fs::read_dir(above)
            .into_iter()
            .flatten()
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with("handover-")),
    };
    Some(above.filter(is_ours).unwrap_or(own))
}

/// Processes that are in a group itself.
pub(crate) fn processes(cgroup: &Path) -> BTreeSet<u32> {
    let text = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|pid| pid.parse().ok()).filter(|pid| *pid != 0).collect()
}

/// Processes in a group, and in those that a service made in it.
pub(crate) fn processes_below(cgroup: &Path) -> BTreeSet<u32> {
    let mut found = processes(cgroup);
    for entry in std::fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(processes_below(&entry.path()));
        }
    }
    found
}

/// A number in a file of a group; `max` is none.
pub(crate) fn number(cgroup: &Path, file: &str) -> Option<u64> {
    std::fs::read_to_string(cgroup.join(file)).ok()?.trim().parse().ok()
}

/// A number beside its name in a file of a group.
pub(crate) fn field(cgroup: &Path, file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(cgroup.join(file)).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn lists(file: &Path, controller: &str) -> bool {
    std::fs::read_to_string(file).is_ok_and(|text| text.split_ascii_whitespace().any(|c| c == controller))
}

fn has(cgroup: &Path, controller: &str) -> bool {
    lists(&cgroup.join("cgroup.controllers"), controller)
}

fn passes_on(cgroup: &Path, controller: &str) -> bool {
    lists(&cgroup.join("cgroup.subtree_control"), controller)
}

/// The machine's first group may have processes and controllers both; no other may.
fn is_first(cgroup: &Path) -> bool {
    !cgroup.join("cgroup.type").exists()
}

const WITHOUT: &str = "or remove `memory` from `limits`";

pub(crate) fn none_here() -> String {
    format!("a limit of memory needs cgroup v2, which this machine does not show; mount it, {WITHOUT}")
}

fn not_given(group: &Path, controller: &str) -> String {
    let point = group.ancestors().take_while(|above| above.join("cgroup.procs").exists()).last();
    match point {
        Some(point) if !has(point, controller) => format!(
            "a limit of {controller} needs the {controller} controller in cgroup v2, and {} has none (cgroup v1 has it); \
             start the system with `systemd.unified_cgroup_hierarchy=1`, {WITHOUT}",
            point.display()
        ),
        _ => format!(
            "a limit of {controller} needs the {controller} controller, which {} is not given; start Handover as a service \
             with `Delegate=yes`, {WITHOUT}",
            group.display()
        ),
    }
}

fn not_ours(group: &Path) -> String {
    format!(
        "a limit of memory needs the right to change the cgroup {}; start Handover as root or as a service with \
         `Delegate=yes`, {WITHOUT}",
        group.display()
    )
}

fn shared(group: &Path) -> String {
    format!(
        "a limit of memory needs a cgroup of Handover's own, and others are in {} as well; start it as a service with \
         `Delegate=yes` (by hand: `systemd-run --scope -p Delegate=yes handover up`), {WITHOUT}",
        group.display()
    )
}

/// Why that Handover has no groups of its own.
pub(crate) fn refusal(holder: u32) -> String {
    match home(holder, None) {
        Some(home) => grantable(&home, MEMORY, holder).err().unwrap_or_else(|| not_ours(&home)),
        None => none_here(),
    }
}

/// Whether groups below the base in `home` can be given that controller.
pub(crate) fn grantable(home: &Path, controller: &str, holder: u32) -> Result<(), String> {
    if !has(home, controller) {
        return Err(not_given(home, controller));
    }
    if passes_on(home, controller) {
        return Ok(());
    }
    let control = home.join("cgroup.subtree_control");
    rustix::fs::access(control, rustix::fs::Access::WRITE_OK).map_err(|_refused| not_ours(home))?;
    let is_ours = |pid: &u32| *pid == holder || crate::process_tree::belongs_to_a_handover(*pid);
    if is_first(home) || processes(home).iter().all(is_ours) { Ok(()) } else { Err(shared(home)) }
}

/// Gives that controller to the groups below `base`. Processes of ours that are in the way move aside.
pub(crate) fn enable(base: &Path, controller: &str, is_ours: impl Fn(u32) -> bool) -> Result<(), String> {
    let home = base.parent().ok_or_else(none_here)?;
    for group in [home, base] {
        if passes_on(group, controller) {
            continue;
        }
        if !has(group, controller) {
            return Err(not_given(group, controller));
        }
        let ask = || std::fs::write(group.join("cgroup.subtree_control"), format!("+{controller}"));
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::ResourceBusy => shared(group),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => not_ours(group),
            _ => format!("{} cannot pass on its {controller} controller: {error}", group.display()),
        };
        match ask() {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                make_room(group, &is_ours).map_err(failed)?;
                ask().map_err(failed)?;
            }
            other => other.map_err(failed)?,
        }
    }
    Ok(())
}

/// Moves our processes from a group to its `core`, if it has no others.
fn make_room(group: &Path, is_ours: &impl Fn(u32) -> bool) -> io::Result<()> {
    let core = group.join(CORE);
    for _ in 0..ROUNDS_MAX {
        let found = processes(group);
        if found.is_empty() {
            return Ok(());
        }
        if !found.iter().all(|pid| is_ours(*pid)) {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        match std::fs::create_dir(&core) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        for pid in found {
            match std::fs::write(core.join("cgroup.procs"), pid.to_string()) {
                // It has ended.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                other => other?,
            }
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_in_the_part_of_the_hierarchy_that_is_mounted() {
        let hybrid = "29 23 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      30 23 0:27 / /sys/fs/cgroup/uni\\040fied rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        let cgroups = "4:memory:/x\n0::/system.slice/handover.service\n";
        let found = directory(hybrid, cgroups).unwrap();
        assert_eq!(found, Path::new("/sys/fs/cgroup/uni fied/system.slice/handover.service"));
        let part = "30 23 0:27 /system.slice /mnt rw - cgroup2 cgroup2 rw\n";
        assert_eq!(directory(part, cgroups).unwrap(), Path::new("/mnt/handover.service"));
        assert_eq!(directory(part, "0::/user.slice\n"), None);
        assert_eq!(directory(part, "0::/system.slice/../..\n"), None);
        assert_eq!(directory("29 23 0:26 / /x rw - cgroup cgroup rw\n", cgroups), None);
    }

    /// A group as the kernel shows it, but of plain files.
    fn group(folder: &Path, name: &str, controllers: &str, subtree: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("cgroup.procs"), "").unwrap();
        std::fs::write(path.join("cgroup.type"), "domain\n").unwrap();
        std::fs::write(path.join("cgroup.controllers"), controllers).unwrap();
        std::fs::write(path.join("cgroup.subtree_control"), subtree).unwrap();
        path
    }

    #[test]
    fn a_refusal_says_what_stands_in_the_way() {
        let folder = tempfile::tempdir().unwrap();
        let hybrid = group(folder.path(), "hybrid", "hugetlb", "");
        assert!(grantable(&hybrid, MEMORY, 1).unwrap_err().contains("unified_cgroup_hierarchy"));
        let given = group(folder.path(), "given", "cpu memory", "memory");
        assert_eq!(grantable(&given, MEMORY, 1), Ok(()));
        let not_delegated = group(&given, "inner", "cpu", "");
        assert!(grantable(&not_delegated, MEMORY, 1).unwrap_err().contains("Delegate=yes"));
        let alone = group(&given, "alone", "cpu memory", "");
        std::fs::write(alone.join("cgroup.procs"), "4711\n").unwrap();
        assert_eq!(grantable(&alone, MEMORY, 4711), Ok(()));
        assert!(grantable(&alone, MEMORY, 4712).unwrap_err().contains("systemd-run"));
    }

    #[test]
    fn a_controller_is_asked_for_on_the_way_down_to_the_base() {
        let folder = tempfile::tempdir().unwrap();
        let home = group(folder.path(), "home", "cpu memory", "cpu");
        let base = group(&home, "handover-0", "memory", "");
        enable(&base, MEMORY, |_| true).unwrap();
        for group in [&home, &base] {
            assert_eq!(std::fs::read_to_string(group.join("cgroup.subtree_control")).unwrap(), "+memory");
        }
        assert!(enable(&base, "io", |_| true).unwrap_err().contains("io controller"));
    }

    /// A group with a process in it, which goes with it.
    struct Real {
        home: PathBuf,
        process: std::process::Child,
    }

    impl Real {
        fn make(path: PathBuf) -> Self {
            std::fs::create_dir(&path).unwrap();
            let process = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
            std::fs::write(path.join("cgroup.procs"), process.id().to_string()).unwrap();
            std::fs::create_dir(path.join("handover-0")).unwrap();
            Self { home: path, process }
        }
    }

    impl Drop for Real {
        fn drop(&mut self) {
            let _ = self.process.kill();
            let _ = self.process.wait();
            for group in ["handover-0", CORE, "."] {
                let _ = std::fs::remove_dir(self.home.join(group));
            }
            let _ = std::fs::remove_dir(&self.home);
        }
    }

    #[test]
    fn our_processes_make_room_for_limits_and_others_are_left_where_they_are() {
        let own = of(std::process::id());
        let controllers =
            own.as_ref().map(|own| std::fs::read_to_string(own.join("cgroup.controllers")).unwrap());
        // The last one listed is the one that the fewest need.
        let controller = controllers.as_ref().and_then(|all| all.split_ascii_whitespace().last());
        let (Some(own), Some(controller)) = (&own, controller) else {
            return assert!(own.is_none_or(|own| grantable(&own, MEMORY, std::process::id()).is_err()));
        };
        let was_passed_on = passes_on(own, controller);
        let control = own.join("cgroup.subtree_control");
        if !was_passed_on && std::fs::write(&control, format!("+{controller}")).is_err() {
            return assert!(grantable(own, controller, std::process::id()).is_err());
        }
        {
            let name = format!("test-{}", std::process::id());
            let ours = Real::make(own.join(format!("{name}-ours")));
            let pid = ours.process.id();
            assert_eq!(grantable(&ours.home, controller, pid), Ok(()));
            enable(&ours.home.join("handover-0"), controller, |found| found == pid).unwrap();
            assert!(
                passes_on(&ours.home, controller) && passes_on(&ours.home.join("handover-0"), controller)
            );
            assert_eq!(of(pid).unwrap(), ours.home.join(CORE));
            assert_eq!(home(pid, Some("handover-0")).unwrap(), ours.home);
            assert_eq!(home(pid, None).unwrap(), ours.home);
            assert_eq!(home(pid, Some("handover-1")).unwrap(), ours.home.join(CORE));
            let others = Real::make(own.join(format!("{name}-others")));
            let refused = enable(&others.home.join("handover-0"), controller, |_| false).unwrap_err();
            assert!(refused.contains("others are in"), "{refused}");
            assert_eq!(grantable(&others.home, controller, 1), Err(refused));
            assert_eq!(of(others.process.id()).unwrap(), others.home);
        }
        if !was_passed_on {
            std::fs::write(&control, format!("-{controller}")).unwrap();
        }
    }
}
