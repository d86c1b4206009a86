//! Sizes and ages as Docker prints them.

use base::Timestamp;

/// Bytes in decimal units with up to four significant digits: `1.05MB`, `12kB`, `0B`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{}{}", significant(value, 3), UNITS[unit])
}

/// Bytes in binary units with up to four significant digits: `1.5MiB`, `12KiB`, `0B`.
pub fn binary_bytes(count: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{}{}", significant(value, 4), UNITS[unit])
}

/// A number with at most `digits` significant digits and no trailing zeros.
fn significant(value: f64, digits: usize) -> String {
    let whole = if value < 1.0 { 1 } else { value.log10() as usize + 1 };
    let text = format!("{value:.places$}", places = digits.saturating_sub(whole));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A moment as Go prints it, which is what lists show: `2026-01-31 12:00:00 +0000 UTC`.
pub fn go_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()
}

/// How long ago, in Docker's words: `About a minute`, `3 hours`, `2 weeks`.
pub fn age(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs().max(0);
    let (minutes, hours, days) = (seconds / 60, (seconds + 1800) / 3600, seconds / 86_400);
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..2760 => format!("{minutes} minutes"),
        2760..5400 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if days < 14 => format!("{days} days"),
        _ if days < 60 => format!("{} weeks", days / 7),
        _ if days < 730 => format!("{} months", days / 30),
        _ => format!("{} years", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_significant_digits() {
        let cases = [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1_050_000, "1.05MB"),
            (123_456, "123kB"),
            (4_260_000_000, "4.26GB"),
        ];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn memory_is_counted_in_binary_units() {
        let cases =
            [(0, "0B"), (1023, "1023B"), (1536, "1.5KiB"), (16_660_000_000, "15.52GiB"), (1 << 20, "1MiB")];
        for (count, text) in cases {
            assert_eq!(binary_bytes(count), text);
        }
    }

    #[test]
    fn ages_are_rough() {
        let now = Timestamp::from_second(1_000_000_000).unwrap();
        let ago = |seconds: i64| age(Timestamp::from_second(1_000_000_000 - seconds).unwrap(), now);
        assert_eq!(ago(0), "Less than a second");
        assert_eq!(ago(75), "About a minute");
        assert_eq!(ago(7200), "2 hours");
        assert_eq!(ago(86_400 * 3), "3 days");
        assert_eq!(ago(86_400 * 21), "3 weeks");
        assert_eq!(ago(-5), "Less than a second");
    }
}
