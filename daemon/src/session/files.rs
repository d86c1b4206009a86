//! `moby.filesync.v1.FileSync/DiffCopy`: the client's directories.
//!
//! The client names everything in its directory, one `STAT` each, and an empty one at the end. We ask by number for the content
//! of those files that are not as they were (`REQ`), get it in pieces with an empty one at the end (`DATA`), and end with `FIN`,
//! which is answered.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;

use engine::received::{ReceivedFiles, SentEntry, SentKind};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status, Streaming};

use super::Session;
use crate::proto::fsutil::packet::PacketType;
use crate::proto::fsutil::{Packet, Stat};
use crate::rpc;

const METHOD: &str = "/moby.filesync.v1.FileSync/DiffCopy";

/// The most that a client may have of names without content on its way, so that it cannot fill our memory.
const MOST_WAITING: usize = 4_000_000;

/// Which files of a directory are wanted.
#[derive(Debug, Default, Clone)]
pub(crate) struct Wanted {
    /// Patterns of those that are; all, without any.
    pub(crate) include: Vec<String>,
    /// Patterns of those that are not, as in an ignore file.
    pub(crate) exclude: Vec<String>,
    /// Paths whose links are followed; all, without any.
    pub(crate) follow: Vec<String>,
}

/// What a transfer was.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Transferred {
    /// How many bytes of content came.
    pub(crate) bytes: u64,
    /// How many files and directories there are.
    pub(crate) entries: u64,
}

/// Brings `files` up to date with the client's directory `name`. Runs on a thread that may wait. `progress` is told the
/// bytes that have come so far.
///
/// # Errors
/// The client has gone, does not have the directory, or sends nonsense; or the files cannot be written.
pub(crate) fn receive(
    runtime: &Handle,
    session: &Session,
    name: &str,
    wanted: &Wanted,
    files: &mut ReceivedFiles,
    mut progress: impl FnMut(Transferred),
) -> Result<Transferred, Status> {
    let (sender, outgoing) = mpsc::unbounded_channel();
    let mut request = Request::new(UnboundedReceiverStream::new(outgoing));
    let headers = request.metadata_mut();
    let mut add = |key: &'static str, values: &[String]| {
        let is_plain = values.iter().all(|value| value.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
        for value in values {
            let text = if is_plain { value.clone() } else { encoded(value) };
            if let Ok(value) = MetadataValue::try_from(text) {
                headers.append(key, value);
            }
        }
        if !is_plain && let Ok(key) = format!("{key}-encoded").parse::<tonic::metadata::AsciiMetadataKey>() {
            headers.insert(key, MetadataValue::from_static("1"));
        }
    };
    add("dir-name", &[name.to_owned()]);
    add("include-patterns", &wanted.include);
    add("exclude-patterns", &wanted.exclude);
    add("followpaths", &wanted.follow);
    let channel = session.channel(METHOD)?;
    let incoming: Streaming<Packet> = runtime.block_on(rpc::streaming(channel, METHOD, request))?;
    let mut transfer = Transfer { sender, waiting: HashMap::new(), next: 0, done: Transferred::default() };
    transfer.run(runtime, incoming, files, &mut progress)?;
    files.finish().map_err(|error| crate::failed(&error))?;
    Ok(transfer.done)
}

/// A transfer that is under way.
struct Transfer {
    sender: mpsc::UnboundedSender<Packet>,
    /// The files whose content comes, by number.
    waiting: HashMap<u32, (SentEntry, Option<File>)>,
    next: u32,
    done: Transferred,
}

impl Transfer {
    fn run(
        &mut self,
        runtime: &Handle,
        mut incoming: Streaming<Packet>,
        files: &mut ReceivedFiles,
        progress: &mut impl FnMut(Transferred),
    ) -> Result<(), Status> {
        let mut all_named = false;
        let mut asked_to_end = false;
        while let Some(packet) = runtime.block_on(incoming.message())? {
            match packet.r#type() {
                PacketType::PacketStat => match packet.stat {
                    Some(stat) if !all_named => self.named(&stat, files)?,
                    Some(_) => return Err(nonsense("it names a file after the last one")),
                    None => all_named = true,
                },
                PacketType::PacketData => {
                    self.content(packet.id, &packet.data, files)?;
                    progress(self.done);
                }
                PacketType::PacketErr => {
                    let message = String::from_utf8_lossy(&packet.data).into_owned();
                    return Err(Status::unknown(message));
                }
                PacketType::PacketFin if asked_to_end => return Ok(()),
                PacketType::PacketFin => return Err(nonsense("it ends before everything has come")),
                PacketType::PacketReq => return Err(nonsense("it asks for a file")),
            }
            if all_named && self.waiting.is_empty() && !asked_to_end {
                asked_to_end = true;
                self.say(PacketType::PacketFin, 0);
            }
        }
        Err(Status::unavailable("the client has gone while it sent its files"))
    }

    fn named(&mut self, stat: &Stat, files: &mut ReceivedFiles) -> Result<(), Status> {
        let entry = sent_entry(stat);
        let number = self.next;
        self.next = self.next.checked_add(1).ok_or_else(|| nonsense("it has too many files"))?;
        self.done.entries += 1;
        if files.entry(&entry).map_err(|error| crate::failed(&error))? {
            if self.waiting.len() >= MOST_WAITING {
                return Err(nonsense("it has too many files"));
            }
            self.waiting.insert(number, (entry, None));
            self.say(PacketType::PacketReq, number);
        }
        Ok(())
    }

    fn content(&mut self, number: u32, data: &[u8], files: &ReceivedFiles) -> Result<(), Status> {
        let Some((entry, file)) = self.waiting.get_mut(&number) else {
            return Err(nonsense("it sends a file that nobody has asked for"));
        };
        let failed = |error: &dyn std::error::Error| crate::failed(error);
        let open = match file {
            Some(open) => open,
            None => file.insert(files.create(entry).map_err(|error| failed(&error))?),
        };
        if data.is_empty() {
            files.complete(entry, open).map_err(|error| failed(&error))?;
            self.waiting.remove(&number);
            return Ok(());
        }
        self.done.bytes += data.len() as u64;
        open.write_all(data).map_err(|error| failed(&error))
    }

    fn say(&self, kind: PacketType, number: u32) {
        // If the client has gone, the next thing that we wait for says so.
        let _ = self.sender.send(Packet { r#type: kind.into(), id: number, ..Packet::default() });
    }
}

/// Bits of Go's `os.FileMode` besides the permissions.
pub(crate) mod go_mode {
    pub(crate) const DIRECTORY: u32 = 1 << 31;
    pub(crate) const SYMLINK: u32 = 1 << 27;
    pub(crate) const DEVICE: u32 = 1 << 26;
    pub(crate) const PIPE: u32 = 1 << 25;
    pub(crate) const SOCKET: u32 = 1 << 24;
    pub(crate) const SETUID: u32 = 1 << 23;
    pub(crate) const SETGID: u32 = 1 << 22;
    pub(crate) const CHAR_DEVICE: u32 = 1 << 21;
    pub(crate) const STICKY: u32 = 1 << 20;

    /// Permission bits as the kernel has them, as Go has them.
    pub(crate) fn of_permissions(mode: u32) -> u32 {
        let bit = |ours: u32, go: u32| if mode & ours == 0 { 0 } else { go };
        (mode & 0o777) | bit(0o4000, SETUID) | bit(0o2000, SETGID) | bit(0o1000, STICKY)
    }
}

/// The permission bits of a mode as Go has it, as the kernel has them.
fn permissions(mode: u32) -> u32 {
    let bit = |go: u32, ours: u32| if mode & go == 0 { 0 } else { ours };
    (mode & 0o777)
        | bit(go_mode::SETUID, 0o4000)
        | bit(go_mode::SETGID, 0o2000)
        | bit(go_mode::STICKY, 0o1000)
}

fn sent_entry(stat: &Stat) -> SentEntry {
    let has = |bits: u32| stat.mode & bits != 0;
    let kind = if has(go_mode::DIRECTORY) {
        SentKind::Directory
    } else if has(go_mode::SYMLINK) {
        SentKind::Symlink(stat.linkname.clone())
    } else if has(go_mode::PIPE) {
        SentKind::Fifo
    } else if has(go_mode::DEVICE | go_mode::CHAR_DEVICE | go_mode::SOCKET) {
        SentKind::Other
    } else if stat.linkname.is_empty() {
        SentKind::File
    } else {
        SentKind::HardLink(stat.linkname.clone())
    };
    SentEntry {
        path: stat.path.clone(),
        kind,
        mode: permissions(stat.mode),
        size: u64::try_from(stat.size).unwrap_or(0),
        modified: stat.mod_time,
        xattrs: stat.xattrs.clone().into_iter().collect(),
    }
}

/// A value of a header in which every byte that is not a letter or a digit is written as `%XX`.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn nonsense(what: &str) -> Status {
    Status::invalid_argument(format!("the client does not keep to the protocol of file transfers: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_those_of_go() {
        let stat = |mode: u32| Stat { mode, linkname: "target".to_owned(), ..Stat::default() };
        assert_eq!(sent_entry(&stat(go_mode::DIRECTORY | go_mode::STICKY | 0o777)).mode, 0o1777);
        assert_eq!(sent_entry(&stat(0o644)).kind, SentKind::HardLink("target".to_owned()));
        assert_eq!(sent_entry(&stat(go_mode::SYMLINK | 0o777)).kind, SentKind::Symlink("target".to_owned()));
        assert_eq!(sent_entry(&stat(go_mode::DEVICE | go_mode::CHAR_DEVICE)).kind, SentKind::Other);
        assert_eq!(sent_entry(&Stat { mode: go_mode::SETUID | 0o755, ..Stat::default() }).mode, 0o4755);
    }

    #[test]
    fn headers_have_no_bytes_that_they_cannot_have() {
        assert_eq!(encoded("a/b c"), "a/b%20c");
        assert_eq!(encoded("ü"), "%C3%BC");
    }
}
