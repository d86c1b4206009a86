//! One line of `/proc/PID/stat`.

/// What it says, as far as somebody wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) name: String,
    pub(super) state: char,
    pub(super) parent: u32,
    pub(super) group: u32,
    pub(super) session: u32,
    /// Major and minor number.
    pub(super) terminal: Option<(u32, u32)>,
    pub(super) foreground: Option<u32>,
    /// In both modes.
    pub(super) processor_ticks: u64,
    pub(super) priority: i32,
    pub(super) nice: i32,
    pub(super) threads: u32,
    /// Since the machine was started.
    pub(super) start: u64,
    /// Bytes.
    pub(super) addresses: u64,
    pub(super) processor: u32,
}

impl Stat {
    /// Reads a line. The name, in parentheses, may have any characters, parentheses and blanks as well.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (start, end) = (text.find('(')?, text.rfind(')')?);
        let fields: Vec<&str> = text.get(end + 1..)?.split_whitespace().collect();
        // The first of them is the third of the manual.
        let field = |number: usize| fields.get(number - 3).copied();
        let id = |number| field(number)?.parse::<u32>().ok();
        let count = |number| field(number)?.parse::<u64>().ok();
        let signed = |number| field(number)?.parse::<i32>().ok();
        Some(Self {
            name: text.get(start + 1..end)?.to_owned(),
            state: field(3)?.chars().next()?,
            parent: id(4)?,
            group: id(5)?,
            session: id(6)?,
            // The number is signed, and its bits are not in order.
            terminal: signed(7).map(i32::cast_unsigned).filter(|device| *device != 0).map(device),
            foreground: id(8),
            processor_ticks: count(14)?.saturating_add(count(15)?),
            priority: signed(18)?,
            nice: signed(19)?,
            threads: id(20)?,
            start: count(22)?,
            addresses: count(23)?,
            processor: id(39).unwrap_or_default(),
        })
    }
}

/// Major and minor number of a device as the kernel packs them.
fn device(packed: u32) -> (u32, u32) {
    ((packed >> 8) & 0xfff, (packed & 0xff) | ((packed >> 12) & 0xf_ff00))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_have_anything() {
        let line = "7 (a) b (c) S 1 7 6 34816 9 4194304 1 2 3 4 50 25 1 2 20 -5 3 0 1000 8192 9 \
                    18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.name.as_str(), stat.state, stat.parent), ("a) b (c", 'S', 1));
        assert_eq!((stat.terminal, stat.foreground), (Some((136, 0)), Some(9)));
        assert_eq!((stat.processor_ticks, stat.priority, stat.nice, stat.threads), (75, 20, -5, 3));
        assert_eq!((stat.start, stat.addresses, stat.processor), (1000, 8192, 1));
        assert_eq!(Stat::parse("7 (a"), None);
        assert_eq!(Stat::parse("7 (a) S"), None);
    }

    #[test]
    fn terminals_are_devices() {
        assert_eq!(device(34816 + 5), (136, 5));
        assert_eq!(device(1025), (4, 1));
    }
}
