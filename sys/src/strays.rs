//! Processes that a container without a process id namespace leaves behind.
//!
//! Such a container's processes are ordinary descendants of ours. When their parents end they become our own
//! children ([`adopt`]), so they can be found however they hide: [`end`] ends every descendant that lives in
//! another root directory than ours. Programs of the host that we started for ourselves live in ours.
//!
//! Source: `proc_pid_stat(5)`, `PR_SET_CHILD_SUBREAPER` in `prctl(2)`.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

/// Makes this process the parent of descendants whose parents end.
pub fn adopt() -> io::Result<()> {
    let own = rustix::process::getpid();
    Ok(rustix::process::set_child_subreaper(Some(own))?)
}

/// Ends all strays, and those that they make meanwhile, and collects them.
pub fn end() -> io::Result<()> {
    loop {
        let strays = strays()?;
        if strays.is_empty() {
            return Ok(());
        }
        for stray in &strays {
            // One that has ended meanwhile is what we want.
            let _ = rustix::process::pidfd_send_signal(stray.as_fd(), Signal::KILL);
        }
        for stray in &strays {
            wait_for_end(stray)?;
            // It is another process's child until that one has ended, too.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            let _ = rustix::process::waitid(WaitId::PidFd(stray.as_fd()), options);
        }
    }
}

/// Collects the children that have ended and that we did not start: descendants whose parents ended before them.
/// `started` are those that we wait for ourselves; what lives in our own session is a program of the host.
pub fn collect(started: &[u32]) -> io::Result<()> {
    let own = std::process::id();
    let processes = processes()?;
    // Read as that of the others: it is 0 where its leader lives in an outer process id namespace, and then
    // getsid(2) has no number for it either.
    let Some(session) = processes.get(&own).map(|about| about.session) else { return Ok(()) };
    let is_stray = |process: &u32, about: &About| {
        about.has_ended && about.parent == own && about.session != session && !started.contains(process)
    };
    for (process, _) in processes.iter().filter(|(process, about)| is_stray(process, about)) {
        if let Some(pid) = i32::try_from(*process).ok().and_then(Pid::from_raw) {
            // Until it is collected, its number is not used again. Somebody else may have been faster.
            let _ = rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        }
    }
    Ok(())
}

fn wait_for_end(process: &OwnedFd) -> io::Result<()> {
    loop {
        match poll(&mut [PollFd::new(process, PollFlags::IN)], None) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other.map(drop)?),
        }
    }
}

/// The living descendants of ours in another root directory.
fn strays() -> io::Result<Vec<OwnedFd>> {
    let own = std::process::id();
    let processes = processes()?;
    let descends = |mut process: u32| {
        // A process is nobody's own ancestor, but pids may have been used again while we looked.
        for _ in 0..processes.len() {
            match processes.get(&process) {
                Some(about) if about.parent == own => return true,
                Some(about) => process = about.parent,
                None => return false,
            }
        }
        false
    };
    let ours = root_of("self");
    let mut strays = Vec::new();
    for &process in processes.keys().filter(|&&process| descends(process)) {
        let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw) else { continue };
        let Ok(handle) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { continue };
        // Whoever hides his root from us has other rights than we have: no program that we started for
        // ourselves. With the descriptor open the number is not used again while we look.
        let is_ours = root_of(&process.to_string()).is_some_and(|root| Some(root) == ours);
        if !is_ours && lives(&handle) {
            strays.push(handle);
        }
    }
    Ok(strays)
}

/// Whether a process has not ended; one that has and was not collected yet is only a number.
fn lives(process: &OwnedFd) -> bool {
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&now)), Ok(0))
}

/// What the root directory of a process is.
fn root_of(process: &str) -> Option<(u64, u64)> {
    let root = fs::metadata(format!("/proc/{process}/root")).ok()?;
    Some((root.dev(), root.ino()))
}

/// What is known of a process.
#[derive(Debug, PartialEq, Eq)]
struct About {
    parent: u32,
    session: u32,
    /// Whether it has ended and was not collected yet.
    has_ended: bool,
}

/// Every process that is seen.
fn processes() -> io::Result<HashMap<u32, About>> {
    let mut processes = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(process) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else { continue };
        if let Some(about) = About::parse(&stat) {
            processes.insert(process, about);
        }
    }
    Ok(processes)
}

impl About {
    /// The fields from the third on. The second is the program's name in parentheses, which may hold anything.
    fn parse(stat: &str) -> Option<Self> {
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        let (state, parent) = (fields.next()?, fields.next()?.parse().ok()?);
        let session = fields.nth(1)?.parse().ok()?;
        Some(Self { parent, session, has_ended: state == "Z" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_programs_confuse_nobody() {
        let about = About { parent: 3, session: 8, has_ended: false };
        assert_eq!(About::parse("7 (sh) S 3 7 8 0"), Some(about));
        let about = About { parent: 3, session: 8, has_ended: true };
        assert_eq!(About::parse("7 (a) R 9 (b) Z 3 7 8 0"), Some(about));
        assert_eq!(About::parse(""), None);
    }
}
