//! Which ids an ordinary user may use besides his own: `/etc/subuid` and `/etc/subgid` (`subuid(5)`), and what
//! a user namespace makes of ids (`user_namespaces(7)`). Pure.

/// Consecutive ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    /// The first one.
    pub start: u32,
    /// How many.
    pub count: u32,
}

impl Range {
    /// One past the last one; a range may end with the highest number.
    fn end(self) -> u64 {
        u64::from(self.start) + u64::from(self.count)
    }
}

/// A line of an id map: ids of a namespace, and which ids of the namespace around it they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapLine {
    /// The first id inside.
    pub inside: u32,
    /// The first id outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// What the ids of a namespace are outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdMap(Vec<MapLine>);

impl IdMap {
    /// The map that makes `own` user (or group) 0 and gives the ids of `ranges` to those from 1 on.
    /// A range that holds `own` is left out: the kernel takes every id once.
    pub fn rootless(own: u32, ranges: &[Range]) -> Self {
        let mut lines = vec![MapLine { inside: 0, outside: own, count: 1 }];
        let mut next = 1u32;
        let own = Range { start: own, count: 1 };
        for range in ranges.iter().filter(|range| are_apart(own, **range)) {
            let count = range.count.min(u32::MAX - next);
            if count > 0 {
                lines.push(MapLine { inside: next, outside: range.start, count });
                next += count;
            }
        }
        Self(lines)
    }

    /// The map that leaves every id of `around` what it is.
    pub fn unchanged(around: &Self) -> Self {
        Self(around.0.iter().map(|line| MapLine { outside: line.inside, ..*line }).collect())
    }

    /// Reads a map as the kernel shows it, in `/proc/PID/uid_map`. Lines that make no sense are left out.
    pub fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let mut numbers = line.split_whitespace().map(|word| word.parse().ok());
            Some(MapLine { inside: numbers.next()??, outside: numbers.next()??, count: numbers.next()?? })
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// Whether an id means something inside.
    pub fn maps(&self, id: u32) -> bool {
        let covers = |line: &MapLine| Range { start: line.inside, count: line.count }.end() > u64::from(id);
        self.0.iter().any(|line| line.inside <= id && covers(line))
    }

    /// How many ids mean something inside.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|line| u64::from(line.count)).sum()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The lines in the form that the kernel takes.
    pub fn text(&self) -> String {
        self.0.iter().map(|line| format!("{} {} {}\n", line.inside, line.outside, line.count)).collect()
    }

    /// The lines as arguments of `newuidmap(1)`.
    pub(super) fn arguments(&self) -> impl Iterator<Item = String> + '_ {
        self.0
            .iter()
            .flat_map(|line| [line.inside, line.outside, line.count])
            .map(|number| number.to_string())
    }
}

/// The ranges that a file gives to the user with this name and id; a line names either. Lines that make no
/// sense are left out, as by the programs that use the file, and so are ranges that share ids with one before
/// them: the kernel takes every id once.
pub fn parse_ranges(text: &str, name: Option<&str>, id: u32) -> Vec<Range> {
    let number = id.to_string();
    let line = |line: &str| {
        let mut parts = line.trim().split(':');
        let owner = parts.next()?;
        let range = Range { start: parts.next()?.parse().ok()?, count: parts.next()?.parse().ok()? };
        let is_users = owner == number || name.is_some_and(|name| owner == name);
        let makes_sense = range.count > 0 && range.end() <= u64::from(u32::MAX) && parts.next().is_none();
        (is_users && makes_sense).then_some(range)
    };
    let mut ranges: Vec<Range> = Vec::new();
    for range in text.lines().filter_map(line) {
        if ranges.iter().all(|other| are_apart(*other, range)) {
            ranges.push(range);
        }
    }
    ranges
}

fn are_apart(a: Range, b: Range) -> bool {
    a.end() <= u64::from(b.start) || b.end() <= u64::from(a.start)
}

/// The name of the user with this id in a file such as `/etc/passwd` (`passwd(5)`).
pub fn name_of(passwd: &str, id: u32) -> Option<&str> {
    let with_id = |line: &&str| line.split(':').nth(2).and_then(|word| word.parse().ok()) == Some(id);
    passwd.lines().find(with_id)?.split(':').next().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_name_users_or_ids() {
        let text = "# comment\nann:100000:65536\nbob:1:1\n1000:300000:10\nann:5\nann:x:5\nann:7:0\nann:4294967290:100\n";
        let ranges = [Range { start: 100_000, count: 65536 }, Range { start: 300_000, count: 10 }];
        assert_eq!(parse_ranges(text, Some("ann"), 1000), ranges);
        assert_eq!(parse_ranges(text, None, 1000), ranges[1..]);
        assert_eq!(parse_ranges(text, Some("eve"), 7), []);
    }

    #[test]
    fn no_id_is_given_twice() {
        let text = "a:100:10\na:105:10\na:110:5\na:995:10\n";
        let ranges = [(100, 10), (110, 5), (995, 10)].map(|(start, count)| Range { start, count });
        assert_eq!(parse_ranges(text, Some("a"), 1000), ranges);
        assert_eq!(IdMap::rootless(1000, &ranges).text(), "0 1000 1\n1 100 10\n11 110 5\n");
    }

    #[test]
    fn our_own_id_is_root_and_the_ranges_follow() {
        let map = IdMap::rootless(1000, &[Range { start: 100_000, count: 65536 }]);
        assert_eq!(map.text(), "0 1000 1\n1 100000 65536\n");
        assert!(map.maps(0) && map.maps(65536) && !map.maps(65537));
        assert_eq!(map.arguments().collect::<Vec<_>>(), ["0", "1000", "1", "1", "100000", "65536"]);
        assert_eq!(IdMap::parse(&map.text()), map);
        assert_eq!(IdMap::unchanged(&map).text(), "0 0 1\n1 1 65536\n");
        assert_eq!(IdMap::parse("         0          0 4294967295\n").len(), u64::from(u32::MAX));
    }

    #[test]
    fn users_have_names() {
        let passwd = "root:x:0:0::/:/bin/sh\nann:x:1000:1000::/:\n:x:7:7::/:\n";
        assert_eq!(name_of(passwd, 1000), Some("ann"));
        assert_eq!(name_of(passwd, 7), None);
        assert_eq!(name_of(passwd, 5), None);
    }

    proptest! {
        #[test]
        fn any_text_gives_ranges_that_the_kernel_takes(text in "([a0-9:\n#-]|4294967295|1000|\\PC){0,80}") {
            let ranges = parse_ranges(&text, Some("a"), 1000);
            for (number, range) in ranges.iter().enumerate() {
                prop_assert!(range.count > 0 && range.end() <= u64::from(u32::MAX));
                prop_assert!(ranges[..number].iter().all(|other| are_apart(*other, *range)));
            }
            let map = IdMap::rootless(1000, &ranges);
            prop_assert_eq!(IdMap::parse(&map.text()), map.clone());
            prop_assert!(map.maps(0));
        }

        #[test]
        fn ids_inside_a_written_line_are_found(start in 1u32..1 << 30, count in 1u32..1 << 30, at in any::<u32>()) {
            let line = format!("a:{start}:{count}\n");
            let ranges = parse_ranges(&line, Some("a"), 0);
            prop_assert_eq!(&ranges, &[Range { start, count }]);
            prop_assert_eq!(IdMap::rootless(0, &ranges).maps(at), at <= count);
        }
    }
}
