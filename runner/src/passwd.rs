//! Users and groups of an image, by its `/etc/passwd` and `/etc/group`.
//!
//! Pure: the contents of the two files are arguments, and a missing file is an empty one. The rules are
//! Docker's: names win over numbers, a number without an entry is itself, a name without an entry is an
//! error, supplementary groups come from the group file unless a group is given. Sources: `passwd(5)`,
//! `group(5)`. Lines that do not have the right form are skipped.

use base::{Fault, Faulty};

use crate::request::User;

/// The largest id that is accepted, as in Docker.
const MAX_ID: u32 = i32::MAX as u32;

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedUser {
    /// The ids.
    pub user: User,
    /// The home directory, `/` when the user has no entry. Docker sets `HOME` to it when the environment
    /// has no such variable.
    pub home: String,
}

/// A user or group that cannot be resolved. The wording is Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// A name that is not in the passwd file.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    UnknownUser(String),
    /// A name that is not in the group file.
    #[error("unable to find group {0}: no matching entries in group file")]
    UnknownGroup(String),
    /// A number that is no id.
    #[error("uids and gids must be in range 0-{MAX_ID}, {0} is not")]
    OutOfRange(String),
}

impl Faulty for UserError {
    fn fault(&self) -> Fault {
        Fault::Input
    }
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Resolves `user[:group]`, each a name or a number; an empty text or an empty user is root.
pub fn resolve(text: &str, passwd: &[u8], group: &[u8]) -> Result<ResolvedUser, UserError> {
    let (wanted_user, wanted_group) = text.split_once(':').unwrap_or((text, ""));
    let (passwd, group) = (String::from_utf8_lossy(passwd), String::from_utf8_lossy(group));
    let wanted_user = if wanted_user.is_empty() { "0" } else { wanted_user };
    let number = parse_id(wanted_user)?;
    let matches = |entry: &PasswdEntry<'_>| entry.name == wanted_user || number == Some(entry.uid);
    let entry = passwd_entries(&passwd).find(matches);
    let mut user = match (&entry, number) {
        (Some(entry), _) => User { uid: entry.uid, gid: entry.gid, additional_gids: Vec::new() },
        (None, Some(uid)) => User { uid, gid: 0, additional_gids: Vec::new() },
        (None, None) => return Err(UserError::UnknownUser(wanted_user.to_owned())),
    };
    if !wanted_group.is_empty() {
        user.gid = group_id(wanted_group, &group)?;
    } else if let Some(entry) = &entry {
        user.additional_gids = groups_of(entry.name, &group);
    }
    let home = entry.map(|entry| entry.home).filter(|home| !home.is_empty()).unwrap_or("/");
    Ok(ResolvedUser { user, home: home.to_owned() })
}

/// The id that a group's name or number means.
pub fn group_id(wanted: &str, group: &str) -> Result<u32, UserError> {
    let number = parse_id(wanted)?;
    let matches = |entry: &GroupEntry<'_>| entry.name == wanted || number == Some(entry.gid);
    match (group_entries(group).find(matches), number) {
        (Some(entry), _) => Ok(entry.gid),
        (None, Some(gid)) => Ok(gid),
        (None, None) => Err(UserError::UnknownGroup(wanted.to_owned())),
    }
}

fn groups_of(name: &str, group: &str) -> Vec<u32> {
    let has_member = |entry: &GroupEntry<'_>| entry.members.split(',').any(|member| member.trim() == name);
    group_entries(group).filter(has_member).map(|entry| entry.gid).collect()
}

/// A number in range; `None` for a name.
fn parse_id(text: &str) -> Result<Option<u32>, UserError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse() {
        Ok(id) if id <= MAX_ID => Ok(Some(id)),
        _ => Err(UserError::OutOfRange(text.to_owned())),
    }
}

fn entry_id(text: &str) -> Option<u32> {
    parse_id(text.trim()).ok().flatten()
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn passwd_entries(text: &str) -> impl Iterator<Item = PasswdEntry<'_>> {
    lines(text).filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let (uid, gid) = (entry_id(fields.next()?)?, entry_id(fields.next()?)?);
        Some(PasswdEntry { name, uid, gid, home: fields.nth(1).unwrap_or("") })
    })
}

fn group_entries(text: &str) -> impl Iterator<Item = GroupEntry<'_>> {
    lines(text).filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let gid = entry_id(fields.next()?)?;
        Some(GroupEntry { name, gid, members: fields.next().unwrap_or("") })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
        # a comment\n\
        app:x:1000:100:An app,,,:/home/app:/bin/sh\n\
        broken:x:many:0::/:\n\
        4711:x:5:6::/numbers:/bin/sh\n\
        bare:x:7:8";
    const GROUP: &[u8] = b"root:x:0:\nusers:x:100:\nwheel:x:10:root,app\nvideo:x:44: app \n";

    fn ids(text: &str) -> (u32, u32, Vec<u32>, String) {
        let ResolvedUser { user, home } = resolve(text, PASSWD, GROUP).unwrap();
        (user.uid, user.gid, user.additional_gids, home)
    }

    #[test]
    fn nobody_named_is_root() {
        assert_eq!(ids(""), (0, 0, vec![10], "/root".to_owned()));
        assert_eq!(ids(":video"), (0, 44, vec![], "/root".to_owned()));
    }

    #[test]
    fn names_and_numbers_find_the_same_entry() {
        assert_eq!(ids("app"), (1000, 100, vec![10, 44], "/home/app".to_owned()));
        assert_eq!(ids("1000"), ids("app"));
        assert_eq!(ids("bare"), (7, 8, vec![], "/".to_owned()));
    }

    #[test]
    fn a_name_made_of_digits_wins() {
        assert_eq!(ids("4711"), (5, 6, vec![], "/numbers".to_owned()));
    }

    #[test]
    fn a_group_replaces_all_groups_of_the_entry() {
        assert_eq!(ids("app:wheel"), (1000, 10, vec![], "/home/app".to_owned()));
        assert_eq!(ids("app:77"), (1000, 77, vec![], "/home/app".to_owned()));
    }

    #[test]
    fn numbers_need_no_entry() {
        assert_eq!(ids("1234:5678"), (1234, 5678, vec![], "/".to_owned()));
        assert_eq!(resolve("1234", b"", b"").unwrap().user.gid, 0);
    }

    #[test]
    fn unknown_names_are_refused_in_docker_s_words() {
        let error = |text| resolve(text, PASSWD, GROUP).unwrap_err().to_string();
        assert_eq!(error("ghost"), "unable to find user ghost: no matching entries in passwd file");
        assert_eq!(error("app:ghost"), "unable to find group ghost: no matching entries in group file");
        assert!(error("broken").contains("broken"), "an entry without a number is no entry");
        assert_eq!(error("4294967295"), "uids and gids must be in range 0-2147483647, 4294967295 is not");
    }

    #[test]
    fn bytes_that_are_no_text_do_no_harm() {
        assert_eq!(resolve("root", b"\xff\xfe:x:1:1\nroot:x:0:0::/r:\n", b"\xff").unwrap().home, "/r");
    }
}
