//! What the control group lets its processes do: a container, or a unit of systemd.

use std::fs;
use std::path::{Path, PathBuf};

use super::Finding;
use crate::text::bytes;

/// Where systemd and containers mount version 2; the second where version 1 is beside it.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// A service with 10,000 events waiting takes more than half of it: see `docs/edge.md`.
const LEAST_BYTES: u64 = 64 << 20;

/// A service has fewer threads, other processes of the group aside.
const LEAST_TASKS: u64 = 32;

/// Nothing where there are no control groups of version 2.
pub(super) fn limits() -> Vec<Finding> {
    let Ok(groups) = fs::read_to_string("/proc/self/cgroup") else {
        return Vec::new();
    };
    let own = own(&groups);
    let found = MOUNTS.iter().map(|mount| within(Path::new(mount), own));
    found
        .into_iter()
        .find(|findings| !findings.is_empty())
        .unwrap_or_default()
}

/// The path of the group of version 2 in `/proc/self/cgroup`: see `cgroups(7)`.
fn own(groups: &str) -> &str {
    let line = groups.lines().find_map(|line| line.strip_prefix("0::"));
    line.unwrap_or("/")
}

fn within(mount: &Path, own: &str) -> Vec<Finding> {
    // Version 1 has other files here, and this one only version 2 has.
    if !mount.join("cgroup.controllers").exists() {
        return Vec::new();
    }
    let group = mount.join(own.trim_start_matches('/'));
    let memory = Limit::of(mount, &group, "memory");
    let tasks = Limit::of(mount, &group, "pids");
    vec![
        finding(
            "memory",
            "memory",
            &memory,
            LEAST_BYTES,
            bytes,
            "MemoryMax=",
        ),
        finding(
            "tasks",
            "processes and threads",
            &tasks,
            LEAST_TASKS,
            |n| n.to_string(),
            "TasksMax=",
        ),
    ]
}

/// The tightest limit of a group and of those that it is in, and what is used of it.
#[derive(Debug, Default)]
struct Limit {
    max: Option<u64>,
    used: Option<u64>,
    /// Whose it is.
    group: PathBuf,
}

impl Limit {
    fn of(mount: &Path, group: &Path, what: &str) -> Self {
        let number = |group: &Path, name: &str| -> Option<u64> {
            let text = fs::read_to_string(group.join(format!("{what}.{name}"))).ok()?;
            // `max` where there is no limit.
            text.trim().parse().ok()
        };
        let groups = group.ancestors().take_while(|dir| dir.starts_with(mount));
        let limited = groups.filter_map(|dir| Some((number(dir, "max")?, dir)));
        match limited.min_by_key(|(max, _)| *max) {
            None => Self::default(),
            Some((max, dir)) => Self {
                max: Some(max),
                used: number(dir, "current"),
                group: dir.to_owned(),
            },
        }
    }
}

fn finding(
    check: &'static str,
    of: &str,
    limit: &Limit,
    least: u64,
    shown: impl Fn(u64) -> String,
    unit: &str,
) -> Finding {
    let Some(max) = limit.max else {
        return Finding::ok(check, format!("no limit of {of} in its control group"));
    };
    let used = limit.used.map(|used| format!(", {} used", shown(used)));
    let text = format!(
        "{of}: at most {}{} ({})",
        shown(max),
        used.unwrap_or_default(),
        limit.group.display()
    );
    let advice = format!("raise the limit of the container, or {unit} in the unit");
    if max < least {
        let text = format!("{text}; {} is enough for every need", shown(least));
        return Finding::warn(check, text, advice);
    }
    // Nine tenths.
    if limit.used.is_some_and(|used| used >= max - max / 10) {
        return Finding::warn(check, format!("{text}; that is nearly all"), advice);
    }
    Finding::ok(check, text)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    /// A group below another one, with these limits.
    fn groups(outer: [&str; 2], inner: [&str; 2]) -> tempfile::TempDir {
        let mount = tempfile::tempdir().unwrap();
        fs::write(mount.path().join("cgroup.controllers"), "memory pids").unwrap();
        for (group, [memory, tasks]) in [("a", outer), ("a/b", inner)] {
            let group = mount.path().join(group);
            fs::create_dir_all(&group).unwrap();
            for (name, text) in [
                ("memory.max", memory),
                ("memory.current", "1048576"),
                ("pids.max", tasks),
                ("pids.current", "3"),
            ] {
                fs::write(group.join(name), format!("{text}\n")).unwrap();
            }
        }
        mount
    }

    fn verdicts(outer: [&str; 2], inner: [&str; 2]) -> Vec<(Verdict, String)> {
        let mount = groups(outer, inner);
        let found = within(mount.path(), "/a/b").into_iter();
        let dir = mount.path().display().to_string();
        found
            .map(|finding| (finding.verdict, finding.text.replace(&dir, "")))
            .collect()
    }

    #[test]
    fn no_limit_is_well_and_the_tightest_counts() {
        let none = ["max", "max"];
        assert_eq!(
            verdicts(none, none),
            [
                (
                    Verdict::Ok,
                    "no limit of memory in its control group".to_owned()
                ),
                (
                    Verdict::Ok,
                    "no limit of processes and threads in its control group".to_owned()
                ),
            ]
        );
        assert_eq!(
            verdicts(["134217728", "max"], ["268435456", "100"]),
            [
                (
                    Verdict::Ok,
                    "memory: at most 128.0 MiB, 1.0 MiB used (/a)".to_owned()
                ),
                (
                    Verdict::Ok,
                    "processes and threads: at most 100, 3 used (/a/b)".to_owned()
                ),
            ]
        );
    }

    #[test]
    fn little_is_told_and_so_is_what_is_used_up() {
        let little = verdicts(["16777216", "8"], ["max", "max"]);
        assert!(
            little.iter().all(|(verdict, _)| *verdict == Verdict::Warn),
            "{little:?}"
        );
        let mount = groups(["max", "max"], ["max", "100"]);
        fs::write(mount.path().join("a/b/pids.current"), "95\n").unwrap();
        let found = within(mount.path(), "/a/b");
        assert_eq!(found[1].verdict, Verdict::Warn, "{found:?}");
    }

    #[test]
    fn without_groups_of_version_2_nothing_is_said() {
        let mount = groups(["1", "1"], ["1", "1"]);
        fs::remove_file(mount.path().join("cgroup.controllers")).unwrap();
        assert!(within(mount.path(), "/a").is_empty());
        assert_eq!(
            own("4:memory:/x\n0::/system.slice/a.service\n"),
            "/system.slice/a.service"
        );
        assert_eq!(own("4:memory:/x\n"), "/");
    }
}
