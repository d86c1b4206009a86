//! The columns of `lap top`: the options of `ps(1)` that choose them, and what is in them.
//!
//! These are drawn without a `ps`: `-ef` and its parts, `aux`, and `-o` with the columns of [`field`]. The rest is left to
//! the host's.

use std::collections::HashMap;
use std::time::Duration;

use base::Timestamp;
use engine::containers::ProcessInfo;

/// A column.
pub(crate) struct Column {
    pub(crate) title: String,
    field: Field,
}

type Field = fn(&ProcessInfo, &Surroundings) -> String;

/// What cells are made with beside the process.
pub(crate) struct Surroundings {
    now: Timestamp,
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
    memory: u64,
}

impl Surroundings {
    /// Those of this machine.
    pub(crate) fn here(now: Timestamp, memory: u64) -> Self {
        Self { now, users: names("/etc/passwd"), groups: names("/etc/group"), memory }
    }
}

/// The names of ids in a file such as `passwd(5)`. Without the file, ids have none.
fn names(path: &str) -> HashMap<u32, String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        Some((fields.nth(1)?.parse().ok()?, name))
    };
    // The first of several names is the one.
    text.lines().rev().filter_map(entry).collect()
}

impl Column {
    /// The cell of a process.
    pub(crate) fn cell(&self, process: &ProcessInfo, surroundings: &Surroundings) -> String {
        (self.field)(process, surroundings)
    }

    fn new(title: &str, field: Field) -> Self {
        Self { title: title.to_owned(), field }
    }
}

/// The columns that options of `ps` ask for; `None` if they ask for something else, too.
pub(crate) fn columns(options: &[String]) -> Option<Vec<Column>> {
    let (mut full, mut of_users) = (options.is_empty(), false);
    let mut chosen = Vec::new();
    let mut options = options.iter().map(String::as_str);
    while let Some(option) = options.next() {
        let (letters, is_short) = match option.strip_prefix('-') {
            // As everybody types it; POSIX would have it be the processes of a user named x.
            Some("aux" | "axu") => ("aux", false),
            Some("") => return None,
            Some(letters) => (letters, true),
            None => (option, false),
        };
        for (place, letter) in letters.char_indices() {
            match (letter, is_short) {
                ('e' | 'A', true) | ('a' | 'x', false) | ('w', _) => {}
                ('f', true) => full = true,
                ('u', false) => of_users = true,
                ('o', _) => {
                    let rest = &letters[place + 1..];
                    let wanted = if rest.is_empty() { options.next()? } else { rest };
                    chosen.extend(listed(wanted)?);
                    break;
                }
                _ => return None,
            }
        }
    }
    match (chosen.is_empty(), of_users, full) {
        (false, false, _) => Some(chosen),
        (true, true, false) => Some(of_user_format()),
        (true, false, true) => Some(full_format()),
        (true, false, false) => Some(short_format()),
        _ => None,
    }
}

fn full_format() -> Vec<Column> {
    let columns: [(&str, Field); 8] = [
        ("UID", user),
        ("PID", |process, _| process.pid.to_string()),
        ("PPID", |process, _| process.parent.to_string()),
        ("C", |process, _| format!("{:.0}", share(process).floor().min(99.0))),
        ("STIME", started),
        ("TTY", terminal),
        ("TIME", |process, _| clock(process.processor_time)),
        ("CMD", |process, _| command(process)),
    ];
    columns.map(|(title, field)| Column::new(title, field)).into()
}

fn of_user_format() -> Vec<Column> {
    let columns: [(&str, Field); 11] = [
        ("USER", user),
        ("PID", |process, _| process.pid.to_string()),
        ("%CPU", |process, _| format!("{:.1}", share(process))),
        ("%MEM", memory_share),
        ("VSZ", |process, _| kilobytes(process.memory.0)),
        ("RSS", |process, _| kilobytes(process.memory.1)),
        ("TTY", terminal),
        ("STAT", |process, _| status(process)),
        ("START", started),
        ("TIME", |process, _| minutes(process.processor_time)),
        ("COMMAND", |process, _| command(process)),
    ];
    columns.map(|(title, field)| Column::new(title, field)).into()
}

fn short_format() -> Vec<Column> {
    let columns: [(&str, Field); 4] = [
        ("PID", |process, _| process.pid.to_string()),
        ("TTY", terminal),
        ("TIME", |process, _| clock(process.processor_time)),
        ("CMD", |process, _| process.name.clone()),
    ];
    columns.map(|(title, field)| Column::new(title, field)).into()
}

/// `pid,args`, or `pid=NUMBER,args=PROGRAM`: a title reaches up to the next comma, as in `procps`.
fn listed(text: &str) -> Option<Vec<Column>> {
    let column = |item: &str| {
        let (name, title) = item.split_once('=').map_or((item, None), |(name, title)| (name, Some(title)));
        let (usual, field) = field(name)?;
        Some(Column::new(title.unwrap_or(usual), field))
    };
    text.split([',', ' ']).filter(|item| !item.is_empty()).map(column).collect()
}

/// What a column is usually called, and what is in it.
fn field(name: &str) -> Option<(&'static str, Field)> {
    Some(match name {
        "pid" | "tgid" => ("PID", |process, _| process.pid.to_string()),
        "ppid" => ("PPID", |process, _| process.parent.to_string()),
        "pgid" | "pgrp" => ("PGID", |process, _| process.group.to_string()),
        "sid" => ("SID", |process, _| process.session.to_string()),
        "sess" | "session" => ("SESS", |process, _| process.session.to_string()),
        "user" | "uname" => ("USER", user),
        "euser" => ("EUSER", user),
        "ruser" => ("RUSER", |process, around| named(process.real.0, &around.users)),
        "uid" => ("UID", |process, _| process.effective.0.to_string()),
        "euid" => ("EUID", |process, _| process.effective.0.to_string()),
        "ruid" => ("RUID", |process, _| process.real.0.to_string()),
        "group" => ("GROUP", |process, around| named(process.effective.1, &around.groups)),
        "egroup" => ("EGROUP", |process, around| named(process.effective.1, &around.groups)),
        "rgroup" => ("RGROUP", |process, around| named(process.real.1, &around.groups)),
        "gid" => ("GID", |process, _| process.effective.1.to_string()),
        "egid" => ("EGID", |process, _| process.effective.1.to_string()),
        "rgid" => ("RGID", |process, _| process.real.1.to_string()),
        "comm" | "ucmd" | "ucomm" => ("COMMAND", |process, _| process.name.clone()),
        "args" | "command" => ("COMMAND", |process, _| command(process)),
        "cmd" => ("CMD", |process, _| command(process)),
        "etime" => ("ELAPSED", |process, _| elapsed(process.age)),
        "etimes" => ("ELAPSED", |process, _| process.age.as_secs().to_string()),
        "time" | "cputime" => ("TIME", |process, _| clock(process.processor_time)),
        "times" | "cputimes" => ("TIME", |process, _| process.processor_time.as_secs().to_string()),
        "bsdtime" => ("TIME", |process, _| minutes(process.processor_time)),
        "c" => ("C", |process, _| format!("{:.0}", share(process).floor().min(99.0))),
        "pcpu" | "%cpu" => ("%CPU", |process, _| format!("{:.1}", share(process))),
        "pmem" | "%mem" => ("%MEM", memory_share),
        "vsz" | "vsize" => ("VSZ", |process, _| kilobytes(process.memory.0)),
        "rss" | "rssize" | "rsz" => ("RSS", |process, _| kilobytes(process.memory.1)),
        "stat" => ("STAT", |process, _| status(process)),
        "s" | "state" => ("S", |process, _| process.state.to_string()),
        "tty" | "tt" => ("TT", terminal),
        "tname" => ("TTY", terminal),
        "stime" => ("STIME", started),
        "start_time" => ("START", started),
        "lstart" => ("STARTED", |process, _| process.started_at.strftime("%a %b %e %H:%M:%S %Y").to_string()),
        "nlwp" | "thcount" => ("NLWP", |process, _| process.threads.to_string()),
        "ni" | "nice" => ("NI", |process, _| process.priority.1.to_string()),
        "psr" => ("PSR", |process, _| process.processor.to_string()),
        _ => return None,
    })
}

fn user(process: &ProcessInfo, around: &Surroundings) -> String {
    named(process.effective.0, &around.users)
}

fn named(id: u32, names: &HashMap<u32, String>) -> String {
    names.get(&id).cloned().unwrap_or_else(|| id.to_string())
}

/// Of one processor, in percent, since the process was started.
fn share(process: &ProcessInfo) -> f64 {
    match process.age.as_secs_f64() {
        0.0 => 0.0,
        age => process.processor_time.as_secs_f64() * 100.0 / age,
    }
}

fn memory_share(process: &ProcessInfo, around: &Surroundings) -> String {
    format!("{:.1}", process.memory.1 as f64 * 100.0 / around.memory.max(1) as f64)
}

fn kilobytes(bytes: u64) -> String {
    (bytes / 1024).to_string()
}

/// The hour, the day, or the year, whichever people want to know.
fn started(process: &ProcessInfo, around: &Surroundings) -> String {
    let format = |format: &str, time: Timestamp| time.strftime(format).to_string();
    let of_both = |what: &str| format(what, process.started_at) == format(what, around.now);
    let shown = match (of_both("%Y-%j"), of_both("%Y")) {
        (true, _) => "%H:%M",
        (false, true) => "%b%d",
        (false, false) => "%Y",
    };
    format(shown, process.started_at)
}

/// The name of a terminal (`Documentation/admin-guide/devices.txt`).
fn terminal(process: &ProcessInfo, _: &Surroundings) -> String {
    match process.terminal {
        None => "?".to_owned(),
        Some((major @ 136..=143, minor)) => format!("pts/{}", (major - 136) * 256 + minor),
        Some((4, minor @ 0..64)) => format!("tty{minor}"),
        Some((4, minor)) => format!("ttyS{}", minor - 64),
        Some((5, 1)) => "console".to_owned(),
        Some((major, minor)) => format!("{major}:{minor}"),
    }
}

/// `[days-]hours:minutes:seconds`
fn clock(time: Duration) -> String {
    let (seconds, minutes, hours) = (time.as_secs() % 60, time.as_secs() / 60 % 60, time.as_secs() / 3600);
    match hours / 24 {
        0 => format!("{hours:02}:{minutes:02}:{seconds:02}"),
        days => format!("{days}-{:02}:{minutes:02}:{seconds:02}", hours % 24),
    }
}

/// `[[days-]hours:]minutes:seconds`
fn elapsed(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..3600 => format!("{:02}:{:02}", seconds / 60, seconds % 60),
        _ => clock(time),
    }
}

fn minutes(time: Duration) -> String {
    format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}

fn command(process: &ProcessInfo) -> String {
    match process.command.is_empty() {
        true if process.state == 'Z' => format!("[{}] <defunct>", process.name),
        true => format!("[{}]", process.name),
        false => process.command.join(" "),
    }
}

fn status(process: &ProcessInfo) -> String {
    let marks = [
        (process.priority.1 < 0, '<'),
        (process.priority.1 > 0, 'N'),
        (process.has_locked_memory, 'L'),
        (process.session == process.pid, 's'),
        (process.threads > 1, 'l'),
        (process.foreground == Some(process.group), '+'),
    ];
    let marks = marks.into_iter().filter(|(has, _)| *has).map(|(_, mark)| mark);
    std::iter::once(process.state).chain(marks).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(options: &[&str]) -> Option<Vec<String>> {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        Some(columns(&options)?.into_iter().map(|column| column.title).collect())
    }

    #[test]
    fn options_are_those_of_ps() {
        let full = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];
        for options in [&[][..], &["-ef"], &["-e", "-f"], &["-Af"], &["-efww"]] {
            assert_eq!(titles(options).unwrap(), full, "{options:?}");
        }
        for options in [&["aux"][..], &["-aux"], &["axu", "ww"]] {
            assert_eq!(titles(options).unwrap()[..2], ["USER", "PID"], "{options:?}");
        }
        assert_eq!(titles(&["-e"]).unwrap(), ["PID", "TTY", "TIME", "CMD"]);
        let two = ["PID", "COMMAND"];
        for options in
            [&["-o", "pid,args"][..], &["-eopid,comm"], &["-o", "pid", "-o", "args"], &["o", "pid args"]]
        {
            assert_eq!(titles(options).unwrap(), two, "{options:?}");
        }
        assert_eq!(titles(&["-eo", "pid=ID,user"]).unwrap(), ["ID", "USER"]);
        for other in
            [&["-l"][..], &["--forest"], &["-o"], &["-o", "wchan"], &["-p", "1"], &["-"], &["aux", "-f"]]
        {
            assert_eq!(titles(other), None, "{other:?}");
        }
    }

    #[test]
    fn times_are_as_long_as_they_need_to_be() {
        let seconds = Duration::from_secs;
        assert_eq!([clock(seconds(7)), clock(seconds(90_061))], ["00:00:07", "1-01:01:01"]);
        assert_eq!([elapsed(seconds(61)), elapsed(seconds(3661))], ["01:01", "01:01:01"]);
        assert_eq!(minutes(seconds(3661)), "61:01");
    }

    #[test]
    fn the_start_is_an_hour_a_day_or_a_year() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let around = Surroundings { now, users: HashMap::new(), groups: HashMap::new(), memory: 1 };
        let started_at = |time: &str| started(&process(time.parse().unwrap()), &around);
        assert_eq!(started_at("2026-11-22T01:02:03Z"), "01:02");
        assert_eq!(started_at("2026-11-02T01:02:03Z"), "Nov02");
        assert_eq!(started_at("2025-11-22T01:02:03Z"), "2025");
    }

    fn process(started_at: Timestamp) -> ProcessInfo {
        ProcessInfo {
            pid: 7,
            parent: 1,
            group: 7,
            session: 7,
            foreground: Some(7),
            state: 'S',
            terminal: Some((136, 3)),
            effective: (0, 0),
            real: (1, 1),
            processor_time: Duration::from_secs(1),
            started_at,
            age: Duration::from_secs(4),
            threads: 2,
            priority: (20, -1),
            processor: 0,
            memory: (4096, 2048),
            has_locked_memory: false,
            name: "sh".to_owned(),
            command: Vec::new(),
        }
    }

    #[test]
    fn cells_say_what_ps_says() {
        let now = Timestamp::UNIX_EPOCH;
        let users = HashMap::from([(0, "root".to_owned())]);
        let around = Surroundings { now, users, groups: HashMap::new(), memory: 8192 };
        let options = ["-o".to_owned(), "user,ruser,tt,stat,pcpu,pmem,rss,args".to_owned()];
        let cells: Vec<String> =
            columns(&options).unwrap().iter().map(|column| column.cell(&process(now), &around)).collect();
        assert_eq!(cells, ["root", "1", "pts/3", "S<sl+", "25.0", "25.0", "2", "[sh]"]);
    }
}
