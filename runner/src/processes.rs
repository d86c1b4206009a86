//! The processes of a container, as those outside of it see them: which there are, and what the kernel tells of each.
//!
//! A container with a control group has its processes listed by that. One without is looked for in `/proc`: by its
//! process id namespace, and what descends from that; where it has none of its own, by who descends from its
//! supervisor and lives in another root directory. What is in somebody else's user namespace is told by its numbers alone.
//!
//! Source: `proc_pid_stat(5)`, `proc_pid_status(5)`, `proc_pid_io(5)`, `pid_namespaces(7)`.

mod stat;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::Timestamp;
use sys::path_error::{PathContext as _, PathError};

use self::stat::Stat;
use crate::cgroup::{CgroupError, ControlGroup, Figures, GroupDirectory};

/// Ticks that times of processes are told in, in a second: `USER_HZ`, which is the same on every machine.
const TICKS: u64 = 100;

/// Where processes are.
const PROC: &str = "/proc";

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Its id.
    pub pid: u32,
    /// The id of its parent; 0 where that is not seen.
    pub parent: u32,
    /// Its process group.
    pub group: u32,
    /// Its session.
    pub session: u32,
    /// The process group in the foreground of its terminal, if it has one.
    pub foreground: Option<u32>,
    /// What it does, as one letter: `R`, `S`, `D`, `Z` …
    pub state: char,
    /// The major and minor number of its terminal.
    pub terminal: Option<(u32, u32)>,
    /// The user and the group whose rights it has.
    pub effective: (u32, u32),
    /// The user and the group that started it.
    pub real: (u32, u32),
    /// Processor time that it has used.
    pub processor_time: Duration,
    /// When it was started.
    pub started_at: Timestamp,
    /// For how long it has been there.
    pub age: Duration,
    /// How many threads it has.
    pub threads: u32,
    /// Its priority, and how nice it is to others.
    pub priority: (i32, i32),
    /// The processor that it was on last.
    pub processor: u32,
    /// Bytes of addresses that it has, and bytes of them that are in memory.
    pub memory: (u64, u64),
    /// Whether some of its memory stays where it is.
    pub has_locked_memory: bool,
    /// The name of its program, as short as the kernel keeps it.
    pub name: String,
    /// Its program and arguments; none of a process of the kernel, or one that has ended.
    pub command: Vec<String>,
}

/// The processes of a container that has this control group, or none, and this first process. In the order of their ids.
///
/// # Errors
/// The control group, or the list of all processes, cannot be read.
pub fn of_container(group: &[GroupDirectory], first: u32) -> Result<Vec<u32>, CgroupError> {
    match group {
        [] => Ok(of_first(first)?),
        directories => ControlGroup::open(directories.to_vec()).processes(),
    }
}

fn of_first(first: u32) -> Result<Vec<u32>, PathError> {
    let stats = all()?;
    let Some(supervisor) = stats.get(&first).map(|stat| stat.parent) else { return Ok(Vec::new()) };
    let children = stats.iter().filter(|(_, stat)| stat.parent == supervisor && supervisor != 0);
    let mut members: HashSet<u32> = HashSet::from([first]);
    match (namespace(first), namespace(std::process::id())) {
        (Some(theirs), Some(ours)) if theirs != ours => {
            let same = |pid: &u32| namespace(*pid).as_ref() == Some(&theirs);
            members.extend(stats.keys().copied().filter(same));
        }
        // It is in a user namespace that is not ours, which may not be looked into: what its supervisor has started is as
        // deep in process id namespaces as it is, and nobody's first process.
        (None, _) => {
            let depth = Status::of(first).map(|status| status.numbers("NSpid:").count());
            let is_further = |pid: &u32| {
                let status = Status::of(*pid);
                let ids: Vec<u64> = status.iter().flat_map(|status| status.numbers("NSpid:")).collect();
                ids.len() > 1 && Some(ids.len()) == depth && ids.last() != Some(&1)
            };
            members.extend(children.map(|(pid, _)| *pid).filter(is_further));
        }
        _ => {
            let ours = root("self");
            let is_elsewhere = |pid: &u32| root(&pid.to_string()) != ours;
            members.extend(children.map(|(pid, _)| *pid).filter(is_elsewhere));
        }
    }
    // What they have started, in namespaces of its own perhaps.
    let mut grown = true;
    while grown {
        let before = members.len();
        for (pid, stat) in &stats {
            if members.contains(&stat.parent) {
                members.insert(*pid);
            }
        }
        grown = members.len() > before;
    }
    let mut members: Vec<u32> = members.into_iter().collect();
    members.sort_unstable();
    Ok(members)
}

/// Whether a process has been stopped by a signal, or has ended.
pub(crate) fn is_stopped(pid: u32) -> bool {
    stat_of(pid).is_none_or(|stat| matches!(stat.state, 'T' | 'Z' | 'X'))
}

/// What names the process id namespace of a process. `None` if it has ended, or is nothing to us.
fn namespace(pid: u32) -> Option<PathBuf> {
    fs::read_link(Path::new(PROC).join(pid.to_string()).join("ns/pid")).ok()
}

fn root(process: &str) -> Option<(u64, u64)> {
    let root = fs::metadata(Path::new(PROC).join(process).join("root")).ok()?;
    Some((root.dev(), root.ino()))
}

fn all() -> Result<HashMap<u32, Stat>, PathError> {
    let names = sys::fs::list(Path::new(PROC))?;
    let pids = names.iter().filter_map(|name| name.to_str()?.parse::<u32>().ok());
    Ok(pids.filter_map(|pid| Some((pid, stat_of(pid)?))).collect())
}

fn stat_of(pid: u32) -> Option<Stat> {
    Stat::parse(&String::from_utf8_lossy(&read_of(pid, "stat").ok()?))
}

fn read_of(pid: u32, file: &str) -> io::Result<Vec<u8>> {
    fs::read(Path::new(PROC).join(pid.to_string()).join(file))
}

/// What the kernel tells of processes; those that have ended meanwhile are left out.
///
/// # Errors
/// It is not known for how long the machine runs.
pub fn describe(pids: &[u32], now: Timestamp) -> Result<Vec<ProcessInfo>, PathError> {
    let uptime = uptime()?;
    Ok(pids.iter().filter_map(|pid| describe_one(*pid, uptime, now)).collect())
}

/// What processes use together, for where nothing counts a group of them. What those used that have ended is not in it.
pub fn figures(pids: &[u32]) -> Figures {
    let mut sum = (Duration::ZERO, 0, 0, (0, 0));
    for pid in pids {
        let Some(stat) = stat_of(*pid) else { continue };
        sum.0 += ticks(stat.processor_ticks);
        sum.1 += Status::of(*pid).map_or(0, |status| status.bytes_of("VmRSS:"));
        sum.2 += u64::from(stat.threads);
        // Who may not look at a process is not told this.
        let io = read_of(*pid, "io").unwrap_or_default();
        let io = String::from_utf8_lossy(&io);
        let bytes = |name: &str| -> u64 {
            let line = io.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|count| count.trim().parse().ok()).unwrap_or_default()
        };
        sum.3 = (sum.3.0 + bytes("read_bytes:"), sum.3.1 + bytes("write_bytes:"));
    }
    Figures {
        processor_time: Some(sum.0),
        memory: Some(sum.1),
        memory_limit: None,
        block_devices: Some(sum.3),
        processes: Some(sum.2),
    }
}

/// Bytes that the network cards of a process have received and sent; not those that went from it to itself.
pub fn network_bytes(pid: u32) -> Option<(u64, u64)> {
    let text = read_of(pid, "net/dev").ok()?;
    let text = String::from_utf8_lossy(&text);
    let cards = text.lines().filter_map(|line| line.split_once(':')).filter(|(name, _)| name.trim() != "lo");
    let counts = cards.map(|(_, counts)| {
        let mut counts = counts.split_whitespace().map(|count| count.parse::<u64>().unwrap_or_default());
        (counts.next().unwrap_or_default(), counts.nth(7).unwrap_or_default())
    });
    Some(counts.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1)))
}

/// What a network card has received and sent since it was made, in the order of `/proc/net/dev`: bytes, packets, errors and
/// packets that were dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardFigures {
    /// Its name.
    pub name: String,
    /// Received.
    pub received: [u64; 4],
    /// Sent.
    pub sent: [u64; 4],
}

/// The network cards of a process, but for that by which it talks to itself.
pub fn network_cards(pid: u32) -> Vec<CardFigures> {
    let text = read_of(pid, "net/dev").unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let cards = text.lines().filter_map(|line| line.split_once(':')).filter(|(name, _)| name.trim() != "lo");
    let card = |(name, counts): (&str, &str)| {
        let counts: Vec<u64> = counts.split_whitespace().filter_map(|count| count.parse().ok()).collect();
        let four =
            |first: usize| std::array::from_fn(|index| counts.get(first + index).copied().unwrap_or(0));
        CardFigures { name: name.trim().to_owned(), received: four(0), sent: four(8) }
    };
    cards.map(card).collect()
}

/// Processor time that the machine has spent on anything, also on nothing, and how many processors are at work.
pub fn machine_time() -> (Duration, usize) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let mut lines = text.lines();
    let counts = lines.next().unwrap_or_default().split_whitespace().skip(1);
    // What guests use is part of the first of them.
    let total = counts.take(8).filter_map(|count| count.parse::<u64>().ok()).sum();
    (ticks(total), lines.take_while(|line| line.starts_with("cpu")).count())
}

/// For how long the machine runs.
fn uptime() -> Result<Duration, PathError> {
    let path = Path::new("/proc/uptime");
    let text = fs::read_to_string(path).at("read", path)?;
    let seconds = text.split_whitespace().next().and_then(|seconds| seconds.parse::<f64>().ok());
    Ok(Duration::try_from_secs_f64(seconds.unwrap_or_default()).unwrap_or_default())
}

fn describe_one(pid: u32, uptime: Duration, now: Timestamp) -> Option<ProcessInfo> {
    let stat = stat_of(pid)?;
    let status = Status::of(pid)?;
    let ((user, effective_user), (group, effective_group)) = (status.ids("Uid:"), status.ids("Gid:"));
    let command = read_of(pid, "cmdline").unwrap_or_default();
    let command = String::from_utf8_lossy(&command);
    let age = uptime.saturating_sub(ticks(stat.start));
    Some(ProcessInfo {
        pid,
        parent: stat.parent,
        group: stat.group,
        session: stat.session,
        foreground: stat.foreground,
        state: stat.state,
        terminal: stat.terminal,
        effective: (effective_user, effective_group),
        real: (user, group),
        processor_time: ticks(stat.processor_ticks),
        started_at: now.checked_sub(age).unwrap_or(now),
        age,
        threads: stat.threads,
        priority: (stat.priority, stat.nice),
        processor: stat.processor,
        memory: (stat.addresses, status.bytes_of("VmRSS:")),
        has_locked_memory: status.bytes_of("VmLck:") > 0,
        name: stat.name,
        command: match command.trim_end_matches('\0') {
            "" => Vec::new(),
            text => text.split('\0').map(str::to_owned).collect(),
        },
    })
}

/// `/proc/PID/status`
struct Status(String);

impl Status {
    fn of(pid: u32) -> Option<Self> {
        Some(Self(String::from_utf8_lossy(&read_of(pid, "status").ok()?).into_owned()))
    }

    /// The numbers in a line.
    fn numbers(&self, name: &str) -> impl Iterator<Item = u64> + '_ {
        let line = self.0.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().filter_map(|word| word.parse().ok())
    }

    /// The real and the effective id.
    fn ids(&self, name: &str) -> (u32, u32) {
        let mut ids = self.numbers(name).map(|id| u32::try_from(id).unwrap_or_default());
        (ids.next().unwrap_or_default(), ids.next().unwrap_or_default())
    }

    /// Bytes, which the kernel tells in kibibytes.
    fn bytes_of(&self, name: &str) -> u64 {
        self.numbers(name).next().map_or(0, |count| count * 1024)
    }
}

fn ticks(count: u64) -> Duration {
    Duration::from_millis(count.saturating_mul(1000 / TICKS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_are_a_process() {
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        let all = describe(&[std::process::id(), u32::MAX], now).unwrap();
        let [own] = all.as_slice() else { panic!("{all:?}") };
        let status = fs::read_to_string("/proc/self/status").unwrap();
        assert!(status.contains(&format!("PPid:\t{}\n", own.parent)));
        assert_eq!(own.command, std::env::args().collect::<Vec<_>>());
        assert!(own.memory.0 > own.memory.1 && own.memory.1 > 0 && own.threads > 0);
        assert!(own.started_at < now && own.age < uptime().unwrap());
    }

    #[test]
    fn our_own_figures_are_not_nothing() {
        let figures = figures(&[std::process::id(), u32::MAX]);
        assert!(figures.memory.unwrap() > 0 && figures.processes.unwrap() > 0);
        assert!(network_bytes(std::process::id()).is_some());
        assert_eq!(network_bytes(u32::MAX), None);
    }

    #[test]
    fn what_has_ended_has_no_processes() {
        assert_eq!(of_container(&[], u32::MAX).unwrap(), [0_u32; 0]);
    }
}
