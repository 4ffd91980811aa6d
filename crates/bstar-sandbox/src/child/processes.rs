//! What processes run and use, read from `/proc`. Any of them may end at any moment.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What some processes use at a moment.
#[derive(Debug, Default)]
pub(super) struct Use {
    pub(super) pids: Vec<i32>,
    /// Processes and threads.
    pub(super) tasks: u64,
    /// Processor time, with that of children that were waited for.
    pub(super) cpu: Duration,
    /// Bytes of resident memory; a page that several share counts for each.
    pub(super) resident: u64,
}

/// All descendants of a process, without itself.
pub(super) fn below(root: i32) -> Vec<i32> {
    let mut pids = tree(root);
    pids.retain(|pid| *pid != root);
    pids
}

impl Use {
    /// A process and all its descendants.
    pub(super) fn of_tree(root: i32) -> Self {
        let mut used = Self::default();
        for pid in tree(root) {
            used.add(pid);
        }
        used
    }

    fn add(&mut self, pid: i32) {
        let stat = read(pid, "stat");
        let fields = fields(&stat);
        let number = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
        self.tasks += number(17).unwrap_or(0);
        let ticks: u64 = (11..15).filter_map(number).sum();
        self.cpu += Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second());
        self.resident += resident(pid);
        self.pids.push(pid);
    }

    /// Bytes of resident memory, shared pages divided among those that share them.
    pub(super) fn proportional(&self) -> u64 {
        self.pids.iter().map(|&pid| proportional(pid)).sum()
    }
}

fn resident(pid: i32) -> u64 {
    let pages = read(pid, "statm").split_whitespace().nth(1).and_then(|field| field.parse().ok());
    pages.unwrap_or(0_u64) * rustix::param::page_size() as u64
}

/// What does not say counts in full.
fn proportional(pid: i32) -> u64 {
    let rollup = read(pid, "smaps_rollup");
    let kilobytes =
        |line: &str| line.strip_prefix("Pss:")?.split_whitespace().next()?.parse::<u64>().ok();
    rollup.lines().find_map(kilobytes).map_or_else(|| resident(pid), |kilobytes| kilobytes * 1024)
}

/// A process and all its descendants.
fn tree(root: i32) -> Vec<i32> {
    // Not every kernel lists the children of a thread.
    if !Path::new("/proc/thread-self/children").exists() {
        return tree_by_parents(root);
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        next += 1;
        let Ok(tasks) = fs::read_dir(folder(pid).join("task")) else { continue };
        for task in tasks.flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
        }
    }
    found
}

/// The same from a look at every process of the machine.
fn tree_by_parents(root: i32) -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let stat = read(pid, "stat");
        if let Some(parent) = fields(&stat).get(1).and_then(|field| field.parse().ok()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        next += 1;
        found.extend(children.remove(pid).unwrap_or_default());
    }
    found
}

/// The fields of a `stat` line after the name, which may hold spaces and brackets.
fn fields(stat: &str) -> Vec<&str> {
    stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default()
}

fn read(pid: i32, name: &str) -> String {
    fs::read_to_string(folder(pid).join(name)).unwrap_or_default()
}

fn folder(pid: i32) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn descendants_are_found_in_both_ways() {
        let own = std::process::id().cast_signed();
        let mut child = Command::new("/bin/sh").args(["-c", "sleep 30; true"]).spawn().unwrap();
        let pid = child.id().cast_signed();
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while tree(pid).len() < 2 {
            assert!(std::time::Instant::now() < deadline, "the shell started nothing");
        }
        let found = below(own);
        assert!(found.contains(&pid) && !found.contains(&own));
        assert_eq!(tree(pid), tree_by_parents(pid));
        let used = Use::of_tree(pid);
        assert_eq!((used.pids.len(), used.tasks), (2, 2));
        assert!(used.resident > 0 && used.proportional() <= used.resident);
        for pid in below(pid).into_iter().chain([pid]) {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
        }
        child.wait().unwrap();
    }
}
