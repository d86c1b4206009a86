//! Putting this process into a user namespace of its own.
//!
//! A forked child makes the namespace and waits in it; this process, still outside, has its ids mapped and only
//! then joins it. So whatever fails on the way leaves this process as it was.
//!
//! Three ways lead to a map, tried in this order:
//!
//! 1. A process that may change users (root in a container, without the right to mount) writes a map that
//!    leaves every id what it is.
//! 2. `newuidmap` and `newgidmap`, which are set-user-ID root, map the ranges of `/etc/subuid` and
//!    `/etc/subgid`.
//! 3. Everybody may map his own id alone.
//!
//! Before that, a namespace that another process of this user is in, with the same ids, is joined ([`super::members`]).

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base::{Fault, Faulty};
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{ForkResult, Pid};
use rustix::pipe::{PipeFlags, pipe_with};

use super::IdMaps;
use super::members::{Kind, Member, Members};
use super::ranges::{IdMap, name_of, parse_ranges};
use crate::fs::PathError;
use crate::path_error::PathContext as _;

/// Capability numbers of who may write any map (`user_namespaces(7)`): `CAP_SETGID`, `CAP_SETUID`,
/// `CAP_SETFCAP`.
const MAPPERS: u64 = 1 << 6 | 1 << 7 | 1 << 31;

/// The programs that map ranges.
const NEWUIDMAP: &str = "newuidmap";
const NEWGIDMAP: &str = "newgidmap";

/// No file of users or ranges is larger.
const LARGEST_FILE: u64 = 16 << 20;

/// Where this process is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entered {
    /// Which ids mean something.
    pub ids: Ids,
    /// The user that has become root.
    pub user: u32,
}

/// The ids of a namespace that was entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ids {
    /// The same as outside.
    Unchanged,
    /// The user's own as 0, and those of his ranges.
    Ranges,
    /// Only the user's own, as 0.
    One(OneIdReason),
}

/// Why only one id is mapped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OneIdReason {
    /// No ranges are given to the user.
    #[error("{} has no ids for {user}", file.display())]
    NoRanges {
        /// The file that has none.
        file: PathBuf,
        /// The user's name, else his id.
        user: String,
    },
    /// A program is not installed.
    #[error("the program {name} is not installed")]
    NoProgram {
        /// Its name.
        name: &'static str,
    },
    /// A program refused.
    #[error("{name} failed: {message}")]
    Refused {
        /// Its name.
        name: &'static str,
        /// What it said.
        message: String,
    },
}

/// Why this process could not enter a user namespace. It is where it was, unless mounts are to blame.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// The process has threads, which a change of the user namespace does not allow.
    #[error("a process with threads cannot enter a user namespace")]
    Threads,
    /// The kernel or a filter does not let this user make a namespace.
    #[error("{what} is refused")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The ids could not be mapped.
    #[error("cannot map the ids of a user namespace")]
    Map(#[source] PathError),
    /// Something that always works did not.
    #[error("cannot enter a user namespace: {operation}")]
    Prepare {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl Faulty for EnterError {
    fn fault(&self) -> Fault {
        match self {
            Self::Threads => Fault::Bug,
            _ => Fault::Environment,
        }
    }
}

fn prepare<E: Into<io::Error>>(operation: &'static str) -> impl Fn(E) -> EnterError {
    move |source| EnterError::Prepare { operation, source: source.into() }
}

/// Enters a user namespace, and a new mount namespace in it, in which the mounts are those of the host and follow its
/// changes. It is the one that other processes of this user are in, if they are members of `share` (a directory) and have
/// the ids that this process would get; else a new one. `search` are directories in which the programs are looked for.
/// To be called while the process has one thread.
///
/// # Errors
/// When the kernel does not let this user make a namespace, or mount in it.
pub fn enter(search: &[PathBuf], share: Option<&Path>) -> Result<Entered, EnterError> {
    let threads = fs::read_dir("/proc/self/task").map_err(prepare("count our threads"))?.count();
    if threads != 1 {
        return Err(EnterError::Threads);
    }
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let wanted = Wanted::find(user, group, search)?;
    // Without a directory of members the namespace is ours alone, which most commands can do with.
    let members = share.and_then(|directory| Members::lock(directory).ok());
    let ids = match members.as_ref().and_then(|members| members.join(&wanted.kind())) {
        Some(refused) => wanted.ids(refused),
        None => make_and_join(user, group, wanted, members.as_ref())?,
    };
    unshare(CloneFlags::CLONE_NEWNS).map_err(prepare("make a mount namespace"))?;
    let follow = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, follow, None::<&str>)
        .map_err(prepare("keep our mounts to ourselves"))?;
    Ok(Entered { ids, user })
}

/// Makes a namespace, joins it, and tells others of it.
fn make_and_join(
    user: u32,
    group: u32,
    wanted: Wanted,
    members: Option<&Members>,
) -> Result<Ids, EnterError> {
    let kind = wanted.kind();
    let (holder, ids) = mapped_namespace(user, group, wanted)?;
    let namespace = fs::File::open(holder.path("ns/user")).map_err(prepare("open the namespace"))?;
    setns(namespace.as_fd(), CloneFlags::CLONE_NEWUSER).map_err(prepare("join the namespace"))?;
    if let Some(members) = members {
        let refused = match &ids {
            Ids::One(OneIdReason::Refused { name, message }) => Some((*name, message.clone())),
            _ => None,
        };
        members.add(Member { kind, refused });
    }
    Ok(ids)
}

/// The ids that this process is to have.
enum Wanted {
    /// All, as they are.
    Unchanged,
    /// Its own and its ranges, by these programs.
    Ranges { users: IdMap, groups: IdMap, newuidmap: PathBuf, newgidmap: PathBuf },
    /// Only its own.
    One(OneIdReason),
}

impl Wanted {
    fn find(user: u32, group: u32, search: &[PathBuf]) -> Result<Self, EnterError> {
        if crate::probe::effective_capabilities() & MAPPERS == MAPPERS {
            return Ok(Self::Unchanged);
        }
        Ok(Self::ranges(user, group, search).unwrap_or_else(Self::One))
    }

    fn ranges(user: u32, group: u32, search: &[PathBuf]) -> Result<Self, OneIdReason> {
        let passwd = text_of(Path::new("/etc/passwd"));
        let name = name_of(&passwd, user);
        let ranges_in = |file: &str| {
            let ranges = parse_ranges(&text_of(Path::new(file)), name, user);
            let owner = || name.map_or_else(|| format!("user {user}"), str::to_owned);
            if ranges.is_empty() {
                return Err(OneIdReason::NoRanges { file: PathBuf::from(file), user: owner() });
            }
            Ok(ranges)
        };
        let (users, groups) = (ranges_in("/etc/subuid")?, ranges_in("/etc/subgid")?);
        let program = |name: &'static str| {
            let candidates = search.iter().map(|directory| directory.join(name));
            candidates.into_iter().find(|path| path.is_file()).ok_or(OneIdReason::NoProgram { name })
        };
        Ok(Self::Ranges {
            users: IdMap::rootless(user, &users),
            groups: IdMap::rootless(group, &groups),
            newuidmap: program(NEWUIDMAP)?,
            newgidmap: program(NEWGIDMAP)?,
        })
    }

    /// What a namespace has to be like to be joined in place of a new one.
    fn kind(&self) -> Kind {
        Kind::new(match self {
            Self::Unchanged => "unchanged".to_owned(),
            Self::Ranges { users, groups, .. } => format!("{}/{}", users.text(), groups.text()),
            Self::One(_) => "one".to_owned(),
        })
    }

    /// What it got in a namespace of this kind, whose maker was refused the ranges by a program, or not.
    fn ids(self, refused: Option<(String, String)>) -> Ids {
        match (self, refused) {
            (Self::Unchanged, _) => Ids::Unchanged,
            (Self::One(reason), _) => Ids::One(reason),
            (Self::Ranges { .. }, None) => Ids::Ranges,
            (Self::Ranges { .. }, Some((name, message))) => {
                let name = if name == NEWGIDMAP { NEWGIDMAP } else { NEWUIDMAP };
                Ids::One(OneIdReason::Refused { name, message })
            }
        }
    }
}

/// A child that has made the namespace and waits in it.
struct Holder {
    pid: Pid,
    /// Its end is the child's sign to go.
    _hold: OwnedFd,
}

impl Holder {
    fn start() -> Result<Self, EnterError> {
        let (answer, say) = pipe_with(PipeFlags::CLOEXEC).map_err(prepare("make a pipe"))?;
        let (stay, hold) = pipe_with(PipeFlags::CLOEXEC).map_err(prepare("make a pipe"))?;
        // SAFETY: this process has one thread, so the child has all of the memory in order.
        let pid = match unsafe { nix::unistd::fork() }.map_err(prepare("fork"))? {
            ForkResult::Parent { child } => child,
            ForkResult::Child => {
                drop((answer, hold));
                hold_namespace(&say, &stay)
            }
        };
        drop((say, stay));
        let holder = Self { pid, _hold: hold };
        let mut outcome = [0u8; 8];
        let length = rustix::io::read(&answer, &mut outcome).map_err(prepare("hear of the namespace"))?;
        let [stage, errno] = [&outcome[..4], &outcome[4..]]
            .map(|bytes| i32::from_ne_bytes(bytes.try_into().unwrap_or([0xff; 4])));
        match (length, stage) {
            (8, 0) => Ok(holder),
            (8, _) => {
                let what =
                    if stage == 1 { "making a user namespace" } else { "mounting in a user namespace" };
                Err(EnterError::Refused { what, source: io::Error::from_raw_os_error(errno) })
            }
            _ => Err(prepare("hear of the namespace")(io::Error::from(io::ErrorKind::UnexpectedEof))),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.pid))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It does nothing but wait, so ending it cannot fail in a way that matters.
        let _ = nix::sys::signal::kill(self.pid, nix::sys::signal::Signal::SIGKILL);
        let _ = nix::sys::wait::waitpid(self.pid, None);
    }
}

/// The child: makes the namespace, says how that went, and waits for the end of `stay`. The second attempt is
/// what some systems refuse in a namespace that they have let us make.
fn hold_namespace(say: &OwnedFd, stay: &OwnedFd) -> ! {
    let made = unshare(CloneFlags::CLONE_NEWUSER).map_err(|errno| (1i32, errno));
    let made = made.and_then(|()| unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| (2i32, errno)));
    let (stage, errno) = made.err().map_or((0, 0), |(stage, errno)| (stage, errno as i32));
    let mut outcome = [0u8; 8];
    outcome[..4].copy_from_slice(&stage.to_ne_bytes());
    outcome[4..].copy_from_slice(&errno.to_ne_bytes());
    if rustix::io::write(say, &outcome).is_ok() {
        let _ = rustix::io::read(stay, &mut [0u8; 1]);
    }
    // SAFETY: ends the process without running what the parent has registered for its own end.
    unsafe { libc::_exit(0) }
}

fn mapped_namespace(user: u32, group: u32, wanted: Wanted) -> Result<(Holder, Ids), EnterError> {
    let holder = Holder::start()?;
    let (holder, reason) = match wanted {
        Wanted::Unchanged => {
            let around = IdMaps::of_this_process().map_err(EnterError::Map)?;
            write_map(&holder, "uid_map", &IdMap::unchanged(&around.users))?;
            write_map(&holder, "gid_map", &IdMap::unchanged(&around.groups))?;
            return Ok((holder, Ids::Unchanged));
        }
        Wanted::Ranges { users, groups, newuidmap, newgidmap } => {
            // Both at once: most of the time goes into starting them.
            let users = Mapper::start(&holder, (NEWUIDMAP, newuidmap), &users);
            let groups = Mapper::start(&holder, (NEWGIDMAP, newgidmap), &groups);
            let (users, groups) = (users.and_then(Mapper::finish), groups.and_then(Mapper::finish));
            match users.and(groups) {
                Ok(()) => return Ok((holder, Ids::Ranges)),
                Err(reason) => {
                    // Half of a map may be written by now, and no map is written twice.
                    drop(holder);
                    (Holder::start()?, reason)
                }
            }
        }
        Wanted::One(reason) => (holder, reason),
    };
    write_map(&holder, "uid_map", &IdMap::rootless(user, &[]))?;
    // Without this the kernel takes no map of groups from an ordinary user (CVE-2014-8989).
    write(&holder, "setgroups", "deny")?;
    write_map(&holder, "gid_map", &IdMap::rootless(group, &[]))?;
    Ok((holder, Ids::One(reason)))
}

fn write_map(holder: &Holder, name: &str, map: &IdMap) -> Result<(), EnterError> {
    write(holder, name, &map.text())
}

fn write(holder: &Holder, name: &str, text: &str) -> Result<(), EnterError> {
    let path = holder.path(name);
    fs::write(&path, text).at("write", &path).map_err(EnterError::Map)
}

/// A program that writes a map.
struct Mapper {
    name: &'static str,
    child: Child,
}

impl Mapper {
    fn start(
        holder: &Holder,
        (name, path): (&'static str, PathBuf),
        map: &IdMap,
    ) -> Result<Self, OneIdReason> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one program of the host that is needed to start others"
        )]
        let mut command = Command::new(path);
        command.arg(holder.pid.to_string()).args(map.arguments());
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn();
        let child = child.map_err(|error| OneIdReason::Refused { name, message: error.to_string() })?;
        Ok(Self { name, child })
    }

    fn finish(self) -> Result<(), OneIdReason> {
        let refused = |message: String| OneIdReason::Refused { name: self.name, message };
        let output = self.child.wait_with_output().map_err(|error| refused(error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(refused(if message.is_empty() { output.status.to_string() } else { message }))
    }
}

/// A file's text; a missing or unreadable one has none.
fn text_of(path: &Path) -> String {
    let bytes = crate::fs::read_limited(path, LARGEST_FILE).ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
