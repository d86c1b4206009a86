//! Numbers of bytes as people write them.

/// Reads a number of bytes as Docker does where memory is meant: `512`, `64m`, `1.5g`, `10MiB`. Letters may
/// be of either case, may be followed by `b` or `ib`, and count in powers of 1024 in any of these forms.
/// `None` when it is no such number or does not fit.
pub fn parse_binary(text: &str) -> Option<u64> {
    let text = text.trim().to_lowercase();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    let letter = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(unit);
    let power = match letter {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let factor = 1u64 << (10 * power);
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    let fraction = number.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0)?;
    let bytes = fraction * factor as f64;
    (bytes < u64::MAX as f64).then_some(bytes as u64)
}

/// A number of bytes for people: `4B`, `2KiB`, `1.5MiB`.
pub fn format_binary(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut value = bytes as f64;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    let number = format!("{value:.1}");
    format!("{}{}", number.trim_end_matches(".0"), units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_short() {
        let cases = [(0, "0B"), (1023, "1023B"), (2048, "2KiB"), (2 << 20, "2MiB"), (3 << 19, "1.5MiB")];
        for (bytes, text) in cases {
            assert_eq!(format_binary(bytes), text);
        }
    }

    #[test]
    fn units_are_powers_of_1024() {
        let cases = [
            ("0", 0),
            ("4096", 4096),
            ("10b", 10),
            ("1k", 1024),
            ("64M", 64 << 20),
            ("64mb", 64 << 20),
            ("2MiB", 2 << 20),
            ("1.5g", 3 << 29),
            ("1 t", 1 << 40),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_binary(text), Some(bytes), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in ["", "k", "x", "1x", "-1", "1.2.3", "99999999999p", "1e3", "nan", "inf"] {
            assert_eq!(parse_binary(text), None, "{text}");
        }
    }
}
