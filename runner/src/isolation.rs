//! How strongly containers can be isolated here, found out by trying, from the strongest mode to the weakest.
//!
//! | mode | for whom | what a container has of its own |
//! |---|---|---|
//! | `oci` | root of the machine | everything |
//! | `rootless` | ordinary users; root in a container that may make user namespaces | everything that a user namespace allows |
//! | `chroot` | root in a container that may neither mount nor make namespaces | its files, and fewer rights |
//!
//! Whether something works depends on rights, filters, security modules and limits of the kernel, and on what is
//! around us, so nothing is concluded from the user id.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::OnceLock;

use base::{Fault, Faulty};
use rustix::fs::StatVfsMountFlags;
use serde::{Deserialize, Serialize};
use sys::trial::Need;
use sys::userns::{EnterError, Ids, OneIdReason};

use crate::capabilities::CapabilitySet;

/// A way to isolate containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Mode {
    /// All namespaces, made with the rights of root.
    Oci,
    /// All namespaces, inside a user namespace.
    Rootless,
    /// Another root directory and fewer rights, and nothing else.
    Chroot,
}

impl Mode {
    const ALL: [Self; 3] = [Self::Oci, Self::Rootless, Self::Chroot];
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Oci => "oci",
            Self::Rootless => "rootless",
            Self::Chroot => "chroot",
        })
    }
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wanted {
    /// The strongest mode that works.
    #[default]
    Auto,
    /// This one or none.
    Only(Mode),
}

/// A word that names no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown isolation \"{0}\"; use auto, oci, rootless or chroot")]
pub struct UnknownMode(pub String);

impl FromStr for Wanted {
    type Err = UnknownMode;

    /// `default` is Docker's word for what we call `auto`.
    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        if matches!(text, "auto" | "default" | "") {
            return Ok(Self::Auto);
        }
        let found = Mode::ALL.into_iter().find(|mode| mode.to_string() == text);
        found.map(Self::Only).ok_or_else(|| UnknownMode(text.to_owned()))
    }
}

/// The isolation that was obtained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Isolation {
    /// Which.
    pub mode: Mode,
    /// What is missing to the best of this mode.
    pub gaps: Vec<Gap>,
}

impl fmt::Display for Isolation {
    /// `rootless isolation (missing: …)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} isolation", self.mode)?;
        if self.gaps.is_empty() {
            return Ok(());
        }
        let gaps: Vec<&str> = self.gaps.iter().map(Gap::what).collect();
        write!(f, " (missing: {})", gaps.join(", "))
    }
}

impl Isolation {
    /// The same, with what is missing for containers whose files are below `directory`.
    pub fn for_files_in(mut self, directory: &Path) -> Self {
        let flags = rustix::fs::statvfs(directory).map(|found| found.f_flag);
        let without = flags.is_ok_and(|flags| flags.contains(StatVfsMountFlags::NODEV));
        if self.mode == Mode::Chroot && without && !self.gaps.contains(&Gap::Devices) {
            self.gaps.push(Gap::Devices);
        }
        self
    }
}

/// Something that a container does not get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gap {
    /// Users besides root.
    Users(OneIdReason),
    /// A `/proc` that shows only its own processes.
    OwnProc,
    /// Processes, mounts, names and networks of its own; why the modes that give them do not work.
    Namespaces(String),
    /// Devices in `/dev`.
    Devices,
    /// A filter of system calls.
    Filter,
}

impl Gap {
    /// What is missing, in a few words.
    pub fn what(&self) -> &'static str {
        match self {
            Self::Users(_) => "users other than root",
            Self::OwnProc => "a /proc of its own",
            Self::Namespaces(_) => "own processes, mounts, network and host name",
            Self::Devices => "devices",
            Self::Filter => "a system call filter",
        }
    }

    /// Why.
    pub fn why(&self) -> String {
        match self {
            Self::Users(reason) => reason.to_string(),
            Self::OwnProc => "parts of the visible /proc are hidden, as in a container".to_owned(),
            Self::Namespaces(why) if why.is_empty() => "chroot isolation was asked for".to_owned(),
            Self::Namespaces(why) => why.clone(),
            Self::Devices => {
                "this process may not make device files, or the store is mounted without them".to_owned()
            }
            Self::Filter => "none is in force, and without rights none can be set".to_owned(),
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Users(OneIdReason::NoRanges { user, .. }) => format!(
                "as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}\n\
                 (choose ids that nobody else has)"
            ),
            Self::Users(OneIdReason::NoProgram { .. }) => {
                "install newuidmap and newgidmap: the package uidmap (Debian, Ubuntu) or shadow-utils (Fedora)"
                    .to_owned()
            }
            Self::Users(OneIdReason::Refused { name, .. }) => format!(
                "{name} has to be set-user-ID root or have file capabilities, on a file system without nosuid"
            ),
            Self::OwnProc => {
                "start the surrounding container with an unmasked /proc (Kubernetes: procMount: Unmasked)".to_owned()
            }
            Self::Namespaces(_) | Self::Devices | Self::Filter => {
                "let the surrounding container make user namespaces (a seccomp profile that allows clone, unshare and \
                 mount), or run it privileged"
                    .to_owned()
            }
        }
    }
}

/// Why a mode does not work here.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The capability to mount and to make namespaces is missing.
    #[error("this process has no right to mount (CAP_SYS_ADMIN)")]
    NoRights,
    /// Root of a user namespace is not root of the machine.
    #[error("this is a user namespace, where root may not do everything")]
    InUserNamespace,
    /// Who has the rights of root does not become an ordinary user.
    #[error("it is for ordinary users, and this process has the rights of root")]
    IsRoot,
    /// What is tried is refused, whatever the rights are.
    #[error("{} is refused ({source})", need_text(*need))]
    Unmet {
        /// What.
        need: Need,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The trial itself failed.
    #[error("it cannot be tried ({0})")]
    Trial(#[source] io::Error),
    /// There is no user namespace to be had.
    #[error("{}", with_cause(.0))]
    UserNamespace(#[source] EnterError),
    /// Changing the root directory is not allowed either.
    #[error(
        "this process may not change its root directory, become another user and give up rights (CAP_SYS_CHROOT, \
         CAP_SETUID, CAP_SETGID, CAP_SETPCAP)"
    )]
    NoChroot,
}

fn need_text(need: Need) -> &'static str {
    match need {
        Need::Namespaces => "making namespaces",
        Need::Mounts => "mounting",
        Need::Proc => "mounting /proc",
    }
}

fn with_cause(error: &EnterError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error} ({cause})"),
        None => error.to_string(),
    }
}

/// No mode that would do works.
#[derive(Debug, thiserror::Error)]
#[error("{}", describe(*wanted, refusals))]
pub struct NoIsolation {
    /// What was asked for.
    pub wanted: Wanted,
    /// Why each mode that would do does not work, the strongest first.
    pub refusals: Vec<(Mode, Refusal)>,
}

fn describe(wanted: Wanted, refusals: &[(Mode, Refusal)]) -> String {
    match (wanted, refusals) {
        (Wanted::Only(mode), [(_, why)]) => format!("isolation \"{mode}\" is not possible here: {why}"),
        _ => format!("containers cannot be isolated here in any way: {}", reasons(refusals)),
    }
}

impl Faulty for NoIsolation {
    fn fault(&self) -> Fault {
        Fault::Environment
    }
}

/// Obtains what was asked for. An ordinary user is in a user namespace afterwards, so this is for the beginning of
/// a program, while it has one thread. `search` are directories with programs of the host, `share` is that of the
/// processes which share a user namespace.
///
/// # Errors
/// What was asked for does not work here; every mode that would have done says why.
pub fn obtain(wanted: Wanted, search: &[PathBuf], share: Option<&Path>) -> Result<Isolation, NoIsolation> {
    let modes = match wanted {
        Wanted::Auto => Mode::ALL.to_vec(),
        Wanted::Only(mode) => vec![mode],
    };
    let mut refusals = Vec::new();
    for mode in modes {
        let obtained = match mode {
            Mode::Oci => oci(),
            Mode::Rootless => rootless(search, share),
            Mode::Chroot => chroot(reasons(&refusals)),
        };
        match obtained {
            Ok(gaps) => return Ok(Isolation { mode, gaps }),
            Err(refusal) => refusals.push((mode, refusal)),
        }
    }
    Err(NoIsolation { wanted, refusals })
}

/// Makes this process, which was started by one that has obtained its isolation, one of those which share a user namespace.
pub fn share_users(share: &Path) {
    sys::userns::be_member(share);
}

fn oci() -> Result<Vec<Gap>, Refusal> {
    has("SYS_ADMIN").then_some(()).ok_or(Refusal::NoRights)?;
    if !sys::userns::is_initial() {
        return Err(Refusal::InUserNamespace);
    }
    // Without a filter the capability is all that it takes.
    if !sys::probe::has_system_call_filter() {
        return Ok(Vec::new());
    }
    works()
}

fn rootless(search: &[PathBuf], share: Option<&Path>) -> Result<Vec<Gap>, Refusal> {
    let mut gaps = Vec::new();
    if has("SYS_ADMIN") && !sys::userns::is_initial() {
        return works_in_user_namespace();
    }
    if has("SYS_ADMIN") && works().is_ok() {
        return Err(Refusal::IsRoot);
    }
    let entered = sys::userns::enter(search, share).map_err(Refusal::UserNamespace)?;
    if let Ids::One(reason) = entered.ids {
        gaps.push(Gap::Users(reason));
    }
    gaps.extend(works_in_user_namespace()?);
    Ok(gaps)
}

/// Tries what containers need. What they can be without is a gap.
fn works() -> Result<Vec<Gap>, Refusal> {
    match sys::trial::first_unmet_need().map_err(Refusal::Trial)? {
        None => Ok(Vec::new()),
        Some((Need::Proc, _)) => Ok(vec![Gap::OwnProc]),
        Some((need, source)) => Err(Refusal::Unmet { need, source }),
    }
}

/// The same, without a trial where nothing is known that could stand against it. For the namespace that this process
/// stays in.
fn works_in_user_namespace() -> Result<Vec<Gap>, Refusal> {
    let gaps = match sys::probe::has_system_call_filter() || !shows_all_of_proc() {
        true => works()?,
        false => Vec::new(),
    };
    OWN_PROC.get_or_init(|| !gaps.contains(&Gap::OwnProc));
    Ok(gaps)
}

/// Whether containers in our user namespace have a `/proc` of their own.
static OWN_PROC: OnceLock<bool> = OnceLock::new();

/// Whether containers in the user namespace that this process is in have a `/proc` of their own.
pub(crate) fn has_own_proc() -> bool {
    *OWN_PROC.get_or_init(|| shows_all_of_proc() || works().is_ok_and(|gaps| !gaps.contains(&Gap::OwnProc)))
}

fn shows_all_of_proc() -> bool {
    let mounts = sys::fs::read(Path::new("/proc/self/mountinfo")).unwrap_or_default();
    sys::trial::shows_all_of_proc(&String::from_utf8_lossy(&mounts))
}

/// Why modes do not work, in one line.
fn reasons(refusals: &[(Mode, Refusal)]) -> String {
    refusals.iter().map(|(mode, why)| format!("{mode}: {why}")).collect::<Vec<_>>().join("; ")
}

fn chroot(why: String) -> Result<Vec<Gap>, Refusal> {
    if !["SYS_CHROOT", "SETUID", "SETGID", "SETPCAP"].into_iter().all(has) {
        return Err(Refusal::NoChroot);
    }
    let mut gaps = vec![Gap::Namespaces(why)];
    if !has("MKNOD") || !sys::userns::is_initial() {
        gaps.push(Gap::Devices);
    }
    if !has("SYS_ADMIN") && !sys::probe::has_system_call_filter() {
        gaps.push(Gap::Filter);
    }
    Ok(gaps)
}

/// Whether a capability is in force.
fn has(name: &str) -> bool {
    let ours = CapabilitySet::from_bits(sys::probe::effective_capabilities());
    CapabilitySet::named(name).is_some_and(|one| ours.contains(one))
}
