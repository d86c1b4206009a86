//! What stands between this machine and the best that it could do, and what to do about it.
//!
//! [`examine`] looks and changes nothing. What is found is for people: a line that says what is, and one that
//! says what to do.

use std::path::Path;

use runner::cgroup::hierarchy::{Controller, Hierarchies, Version};
use runner::isolation::{Isolation, Mode, NoIsolation, Refusal};
use sys::userns::EnterError;

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Fine,
    /// It works, and could be better.
    Better,
    /// Something does not work.
    Broken,
}

/// Something that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What it is, in one line.
    pub what: String,
    /// What to do; may have several lines. Empty where there is nothing to do.
    pub remedy: String,
}

impl Finding {
    /// Something that is as it should be.
    pub fn fine(what: impl Into<String>) -> Self {
        Self { level: Level::Fine, what: what.into(), remedy: String::new() }
    }

    /// Something that could be better.
    pub fn better(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Better, what: what.into(), remedy: remedy.into() }
    }

    /// Something that does not work.
    pub fn broken(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Broken, what: what.into(), remedy: remedy.into() }
    }
}

/// Looks at the kernel, at the isolation that was obtained, and at control groups.
pub fn examine(isolation: Result<&Isolation, &NoIsolation>) -> Vec<Finding> {
    let mut findings = kernel();
    findings.extend(match isolation {
        Ok(isolation) => obtained(isolation),
        Err(none) => nothing(none, &Settings::read()),
    });
    findings.extend(groups());
    findings.extend(abandoned());
    findings
}

fn kernel() -> Vec<Finding> {
    match sys::probe::missing_kernel() {
        Some(missing) => vec![Finding::broken(missing.to_string(), "install a newer kernel")],
        None => vec![Finding::fine(format!("Linux {}", sys::probe::kernel_release()))],
    }
}

fn obtained(isolation: &Isolation) -> Vec<Finding> {
    let mode = match isolation.mode {
        Mode::Oci => "containers are isolated as root can (oci)",
        Mode::Rootless => "containers are isolated in a user namespace (rootless)",
        Mode::Chroot => "containers have their own files and fewer rights, and nothing else (chroot)",
    };
    let mut findings = vec![Finding::fine(mode)];
    findings.extend(
        isolation.gaps.iter().map(|gap| {
            Finding::better(format!("containers lack {}: {}", gap.what(), gap.why()), gap.remedy())
        }),
    );
    if isolation.mode == Mode::Chroot {
        findings.extend(Settings::read().findings());
    }
    findings
}

fn nothing(none: &NoIsolation, settings: &Settings) -> Vec<Finding> {
    let mut findings: Vec<Finding> = none
        .refusals
        .iter()
        .map(|(mode, why)| Finding::broken(format!("isolation {mode} does not work: {why}"), remedy(why)))
        .collect();
    findings.extend(settings.findings());
    findings
}

fn remedy(why: &Refusal) -> &'static str {
    match why {
        Refusal::NoRights | Refusal::InUserNamespace => "run as root, where that is possible",
        Refusal::NoChroot => "run as root of the surrounding container",
        Refusal::UserNamespace(EnterError::Refused { source, .. }) if is_exhausted(source) => {
            "there are too many user namespaces, or they are nested too deep (33 at most): sysctl -w \
             user.max_user_namespaces=15000, or start fewer containers in containers"
        }
        Refusal::UserNamespace(_) | Refusal::Unmet { .. } if sys::probe::has_system_call_filter() => {
            "a system call filter is in force: give the surrounding container a seccomp profile that allows clone, \
             unshare and mount"
        }
        _ => "",
    }
}

/// The kernel's number for "too many users" (`asm-generic/errno.h`).
const EUSERS: i32 = 87;

/// Whether the kernel refuses more of something (`user_namespaces(7)`): `ENOSPC` by number, `EUSERS` by depth.
fn is_exhausted(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::StorageFull || error.raw_os_error() == Some(EUSERS)
}

/// Settings of the kernel that keep ordinary users from making user namespaces; `None` where there is no such one.
struct Settings {
    /// Debian's switch; 0 is off.
    unprivileged_clone: Option<u64>,
    /// Ubuntu's switch; 1 restricts.
    apparmor_restricts: Option<u64>,
    /// How many there may be.
    most: Option<u64>,
}

impl Settings {
    fn read() -> Self {
        let read = |name: &str| {
            let path = Path::new("/proc/sys").join(name);
            let text = sys::fs::read_limited(&path, 64).ok().flatten()?;
            String::from_utf8_lossy(&text).trim().parse().ok()
        };
        Self {
            unprivileged_clone: read("kernel/unprivileged_userns_clone"),
            apparmor_restricts: read("kernel/apparmor_restrict_unprivileged_userns"),
            most: read("user/max_user_namespaces"),
        }
    }

    fn findings(&self) -> Vec<Finding> {
        let switches = [
            (
                self.unprivileged_clone == Some(0),
                "kernel.unprivileged_userns_clone = 0: ordinary users may make no user namespaces",
                "as root: sysctl -w kernel.unprivileged_userns_clone=1",
            ),
            (
                self.apparmor_restricts == Some(1),
                "kernel.apparmor_restrict_unprivileged_userns = 1: user namespaces have no rights in them",
                "as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or load an AppArmor profile for \
                 lap that allows userns",
            ),
            (
                self.most == Some(0),
                "user.max_user_namespaces = 0: there may be no user namespaces",
                "as root: sysctl -w user.max_user_namespaces=15000",
            ),
        ];
        let on = switches.into_iter().filter(|(on, ..)| *on);
        on.map(|(_, what, remedy)| Finding::better(what, remedy)).collect()
    }
}

fn groups() -> Vec<Finding> {
    let hierarchies = match Hierarchies::discover() {
        Ok(hierarchies) => hierarchies,
        Err(error) => return vec![Finding::better(error.to_string(), "mount /proc")],
    };
    let usable = hierarchies.usable();
    let unusable = Controller::LIMITERS.into_iter().filter(|one| !usable.contains(one));
    let unusable: Vec<&str> = unusable.map(|one| one.name(Version::Two)).collect();
    if unusable.is_empty() {
        return vec![Finding::fine("containers can be limited in every way")];
    }
    let remedy = "run as root, or have a control group delegated to this user (systemd: Delegate=yes)";
    vec![Finding::better(format!("containers cannot be limited by: {}", unusable.join(", ")), remedy)]
}

/// Control groups that killed commands have left. Who makes the next container removes them.
fn abandoned() -> Option<Finding> {
    let left = runner::cgroup::abandoned::abandoned().ok().filter(|left| !left.is_empty())?;
    let names: Vec<String> = left.iter().map(|directory| directory.display().to_string()).collect();
    let remedy = format!("they go with the next container of lap run or lap build:\n{}", names.join("\n"));
    Some(Finding::better(format!("{} control groups of killed commands are left", names.len()), remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_that_forbids_is_named_with_its_remedy() {
        let settings = Settings { unprivileged_clone: Some(0), apparmor_restricts: Some(1), most: Some(0) };
        let findings = settings.findings();
        assert_eq!(findings.len(), 3);
        for finding in findings {
            let name = finding.what.split(' ').next().unwrap();
            assert!(finding.remedy.contains(name), "{finding:?}");
        }
        let none = Settings { unprivileged_clone: None, apparmor_restricts: Some(0), most: Some(1) };
        assert_eq!(none.findings(), []);
    }

    #[test]
    fn no_isolation_says_why_of_every_mode() {
        let refusals = vec![(Mode::Oci, Refusal::NoRights), (Mode::Chroot, Refusal::NoChroot)];
        let none = NoIsolation { wanted: runner::isolation::Wanted::Auto, refusals };
        let findings =
            nothing(&none, &Settings { unprivileged_clone: None, apparmor_restricts: None, most: None });
        assert_eq!(findings.len(), 2);
        assert!(findings.iter().all(|one| one.level == Level::Broken && !one.remedy.is_empty()));
    }
}
