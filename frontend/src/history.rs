//! The history of the image: one entry for each instruction, in BuildKit's words.
//!
//! BuildKit prints lists with Go's `%q` and `%v`, so `CMD` becomes `CMD ["a" "b"]` and `SHELL` becomes
//! `SHELL [/bin/bash -c]`. Tools parse these texts, so they are kept.

use base::Timestamp;
use base::image::{Healthcheck, History, ImageConfig};

const COMMENT: &str = "buildkit.dockerfile.v0";

/// Adds an entry for an instruction that made no layer.
pub(crate) fn metadata(config: &mut ImageConfig, created_by: String, epoch: Option<Timestamp>) {
    push(config, created_by, true, epoch);
}

/// Adds an entry for an instruction that made a layer.
pub(crate) fn layer(config: &mut ImageConfig, created_by: String, epoch: Option<Timestamp>) {
    push(config, created_by, false, epoch);
}

fn push(config: &mut ImageConfig, created_by: String, empty_layer: bool, created: Option<Timestamp>) {
    config.history.push(History {
        created,
        created_by,
        author: String::new(),
        comment: COMMENT.to_owned(),
        empty_layer,
    });
}

/// Go's `%q` of a list of strings: `["a" "b"]`.
pub(crate) fn quoted_list(items: &[String]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| quoted(item)).collect();
    format!("[{}]", quoted.join(" "))
}

/// Go's `%v` of a list of strings: `[a b]`.
pub(crate) fn plain_list(items: &[String]) -> String {
    format!("[{}]", items.join(" "))
}

/// Go's `%q` of a health check.
pub(crate) fn healthcheck(check: &Healthcheck) -> String {
    let duration = |nanoseconds: i64| quoted(&go_duration(nanoseconds));
    let retries = u32::try_from(check.retries).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
    format!(
        "&{{{} {} {} {} {} {}}}",
        quoted_list(&check.test),
        duration(check.interval),
        duration(check.timeout),
        duration(check.start_period),
        duration(check.start_interval),
        quoted_char(retries)
    )
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            other => push_escaped(&mut out, other),
        }
    }
    out.push('"');
    out
}

fn quoted_char(character: char) -> String {
    let mut out = String::from("'");
    match character {
        '\'' => out.push_str("\\'"),
        other => push_escaped(&mut out, other),
    }
    out.push('\'');
    out
}

fn push_escaped(out: &mut String, character: char) {
    use std::fmt::Write as _;
    match character {
        '\\' => out.push_str("\\\\"),
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{b}' => out.push_str("\\v"),
        other if (other as u32) < 0x20 || other as u32 == 0x7f => {
            let _ = write!(out, "\\x{:02x}", other as u32);
        }
        other => out.push(other),
    }
}

/// A duration as Go prints it: `1m30s`, `500ms`, `0s`.
fn go_duration(nanoseconds: i64) -> String {
    let total = nanoseconds.unsigned_abs();
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let fraction = |value: u64, unit: u64| {
        let rest = format!("{:0width$}", value % unit, width = unit.ilog10() as usize);
        let rest = rest.trim_end_matches('0');
        if rest.is_empty() { format!("{}", value / unit) } else { format!("{}.{rest}", value / unit) }
    };
    let text = match total {
        0 => "0s".to_owned(),
        1..1_000 => format!("{total}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(total, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(total, 1_000_000)),
        _ => {
            let (minutes, rest) = (total / 60_000_000_000, total % 60_000_000_000);
            let seconds = format!("{}s", fraction(rest, 1_000_000_000));
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    };
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_print_as_in_go() {
        let items = ["a b".to_owned(), "c\"\n".to_owned()];
        assert_eq!(quoted_list(&items), r#"["a b" "c\"\n"]"#);
        assert_eq!(plain_list(&items[..1]), "[a b]");
    }

    #[test]
    fn durations_print_as_in_go() {
        let cases = [
            (0, "0s"),
            (1_500_000_000, "1.5s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (500_000_000, "500ms"),
            (1_500, "1.5µs"),
        ];
        for (nanoseconds, text) in cases {
            assert_eq!(go_duration(nanoseconds), text);
        }
    }

    #[test]
    fn health_checks_print_as_in_go() {
        let check = Healthcheck {
            test: vec!["CMD-SHELL".to_owned(), "true".to_owned()],
            interval: 30_000_000_000,
            retries: 3,
            ..Healthcheck::default()
        };
        assert_eq!(healthcheck(&check), r#"&{["CMD-SHELL" "true"] "30s" "0s" "0s" "0s" '\x03'}"#);
    }
}
