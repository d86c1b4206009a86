//! Records as syslog has them: RFC 3164, RFC 5424 (framed as in RFC 5425 where it is encrypted), and what Unix programs
//! send to their own machine. Pure.

use std::path::PathBuf;

use base::Timestamp;
use base::event::Stream;
use serde::{Deserialize, Serialize};

use super::address::Address;
use super::{Message, Origin, TlsFiles};

/// The sockets of this machine where somebody may listen, in the order in which they are tried.
const LOCAL: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];

/// The severities of what is written to stdout and to stderr (RFC 5424, 6.2.1).
const INFORMATIONAL: u8 = 6;
const ERROR: u8 = 3;

/// The facility of daemons.
pub const DAEMON: u8 = 3;

/// The facilities by name, as in RFC 5424 (6.2.1) and Docker's list.
const FACILITIES: [(&str, u8); 20] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

/// The form of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// As programs write to their own machine: without the name of a host.
    #[default]
    Unix,
    /// RFC 3164.
    Rfc3164,
    /// RFC 5424.
    Rfc5424,
    /// RFC 5424 with microseconds.
    Rfc5424Micro,
}

/// Where records go, and in which form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// `None` is this machine.
    pub address: Option<Address>,
    /// Which part of a machine they are of.
    pub facility: u8,
    /// Their form.
    pub format: Format,
    /// For encrypted connections.
    pub tls: TlsFiles,
}

/// A facility by name or number.
pub fn facility(text: &str) -> Option<u8> {
    let named = FACILITIES.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
    named.or_else(|| text.parse().ok().filter(|number| *number <= 23))
}

/// A form by its name.
pub fn format(text: &str) -> Option<Format> {
    Some(match text {
        "" => Format::Unix,
        "rfc3164" => Format::Rfc3164,
        "rfc5424" => Format::Rfc5424,
        "rfc5424micro" => Format::Rfc5424Micro,
        _ => return None,
    })
}

impl Settings {
    /// Where somebody may listen.
    pub(super) fn places(&self) -> Vec<Address> {
        match &self.address {
            Some(address) => vec![address.clone()],
            None => {
                let both = |path: &str| [Address::Unixgram(PathBuf::from(path)), Address::Unix(path.into())];
                LOCAL.iter().flat_map(|path| both(path)).collect()
            }
        }
    }

    /// A record as it is sent.
    pub(super) fn encode(&self, message: &Message, origin: &Origin) -> Vec<u8> {
        let offset = sys::local_time::offset_at(message.time.as_second());
        let mut record = self.record(message, origin, offset);
        record.push(b'\n');
        let is_counted = matches!(self.format, Format::Rfc5424 | Format::Rfc5424Micro)
            && matches!(self.address, Some(Address::Tls(..)));
        if is_counted {
            let mut framed = format!("{} ", record.len()).into_bytes();
            framed.append(&mut record);
            return framed;
        }
        record
    }

    fn record(&self, message: &Message, origin: &Origin, offset: i32) -> Vec<u8> {
        let severity = if message.stream == Stream::Stdout { INFORMATIONAL } else { ERROR };
        let priority = self.facility * 8 + severity;
        let (tag, pid, host) = (header(&origin.source.tag), origin.pid, header(&origin.host));
        let time = Moment::new(message.time, offset);
        let mut record = match self.format {
            Format::Unix => format!("<{priority}>{} {tag}[{pid}]: ", time.stamp()),
            Format::Rfc3164 => format!("<{priority}>{} {host} {tag}[{pid}]: ", time.stamp()),
            Format::Rfc5424 => format!("<{priority}>1 {} {host} {tag} {pid} {tag} - ", time.seconds()),
            Format::Rfc5424Micro => format!("<{priority}>1 {} {host} {tag} {pid} {tag} - ", time.micros()),
        }
        .into_bytes();
        // A record ends with its line: nothing in it may begin another one.
        record.extend(message.text.iter().map(|byte| if matches!(byte, b'\n' | 0) { b' ' } else { *byte }));
        record
    }
}

/// A field of a header, in which nothing may end it.
fn header(text: &str) -> String {
    let kept: String =
        text.chars().map(|c| if c.is_control() || c.is_whitespace() { '_' } else { c }).collect();
    if kept.is_empty() { "-".to_owned() } else { kept }
}

/// A moment as clocks here show it.
struct Moment {
    shown: jiff::civil::DateTime,
    offset: i32,
}

impl Moment {
    fn new(time: Timestamp, offset: i32) -> Self {
        let zone = jiff::tz::Offset::from_seconds(offset).unwrap_or(jiff::tz::Offset::UTC);
        Self { shown: zone.to_datetime(time), offset: zone.seconds() }
    }

    /// As in RFC 3164 (4.1.2).
    fn stamp(&self) -> String {
        self.shown.strftime("%b %e %H:%M:%S").to_string()
    }

    /// As in RFC 3339.
    fn seconds(&self) -> String {
        format!("{}{}", self.shown.strftime("%Y-%m-%dT%H:%M:%S"), self.zone())
    }

    fn micros(&self) -> String {
        let micros = self.shown.subsec_nanosecond() / 1000;
        format!("{}.{micros:06}{}", self.shown.strftime("%Y-%m-%dT%H:%M:%S"), self.zone())
    }

    fn zone(&self) -> String {
        let minutes = self.offset / 60;
        match minutes {
            0 => "Z".to_owned(),
            _ => {
                let sign = if minutes < 0 { '-' } else { '+' };
                format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{message, origin};
    use super::*;

    fn record(format: Format, offset: i32) -> String {
        let settings = Settings { address: None, facility: DAEMON, format, tls: TlsFiles::default() };
        String::from_utf8(settings.record(&message("it's <here>"), &origin(), offset)).unwrap()
    }

    #[test]
    fn the_forms_are_those_of_the_rfcs() {
        assert_eq!(record(Format::Unix, 0), "<30>Jan  2 03:04:05 tag[7]: it's <here>");
        assert_eq!(record(Format::Rfc3164, 3600), "<30>Jan  2 04:04:05 my_machine tag[7]: it's <here>");
        assert_eq!(
            record(Format::Rfc5424, -12_600),
            "<30>1 2026-01-01T23:34:05-03:30 my_machine tag 7 tag - it's <here>"
        );
        assert_eq!(
            record(Format::Rfc5424Micro, 0),
            "<30>1 2026-01-02T03:04:05.600001Z my_machine tag 7 tag - it's <here>"
        );
    }

    #[test]
    fn a_record_is_one_line_and_counted_where_it_is_encrypted() {
        let address = Some(Address::Tls("h".to_owned(), 1));
        let settings = Settings { address, facility: 23, format: Format::Rfc5424, tls: TlsFiles::default() };
        let mut message = message("a\nb\0c");
        message.stream = Stream::Stderr;
        let sent = String::from_utf8(settings.encode(&message, &origin())).unwrap();
        let (count, rest) = sent.split_once(' ').unwrap();
        assert_eq!(count.parse::<usize>().unwrap(), rest.len());
        assert!(rest.starts_with("<187>1 ") && rest.ends_with(" - a b c\n"), "{rest}");
    }

    #[test]
    fn facilities_have_names_and_numbers() {
        assert_eq!((facility("daemon"), facility("local7"), facility("5")), (Some(3), Some(23), Some(5)));
        assert_eq!((facility("24"), facility("other"), facility("-1")), (None, None, None));
        assert_eq!(format("rfc5424micro"), Some(Format::Rfc5424Micro));
        assert_eq!(format("rfc1"), None);
    }
}
