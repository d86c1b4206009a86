//! Names of signals.

use rustix::process::Signal;

/// The signals with a name of their own, without `SIG`.
const NAMES: [(&str, Signal); 31] = [
    ("HUP", Signal::HUP),
    ("INT", Signal::INT),
    ("QUIT", Signal::QUIT),
    ("ILL", Signal::ILL),
    ("TRAP", Signal::TRAP),
    ("ABRT", Signal::ABORT),
    ("BUS", Signal::BUS),
    ("FPE", Signal::FPE),
    ("KILL", Signal::KILL),
    ("USR1", Signal::USR1),
    ("SEGV", Signal::SEGV),
    ("USR2", Signal::USR2),
    ("PIPE", Signal::PIPE),
    ("ALRM", Signal::ALARM),
    ("TERM", Signal::TERM),
    ("STKFLT", Signal::STKFLT),
    ("CHLD", Signal::CHILD),
    ("CONT", Signal::CONT),
    ("STOP", Signal::STOP),
    ("TSTP", Signal::TSTP),
    ("TTIN", Signal::TTIN),
    ("TTOU", Signal::TTOU),
    ("URG", Signal::URG),
    ("XCPU", Signal::XCPU),
    ("XFSZ", Signal::XFSZ),
    ("VTALRM", Signal::VTALARM),
    ("PROF", Signal::PROF),
    ("WINCH", Signal::WINCH),
    ("IO", Signal::IO),
    ("PWR", Signal::POWER),
    ("SYS", Signal::SYS),
];

/// The first real-time signal that programs may use, and the last one (`signal(7)`).
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// A text that is no signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid signal: {0}")]
pub struct BadSignal(String);

/// The number of a signal by its name, with or without `SIG`, in any case, or by its number.
///
/// # Errors
/// There is no such signal.
pub fn parse(text: &str) -> Result<i32, BadSignal> {
    let bad = || BadSignal(text.to_owned());
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=*REAL_TIME.end()).contains(&number) { Ok(number) } else { Err(bad()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, signal)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Ok(signal.as_raw());
    }
    let (base, offset) = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(offset), _) => (*REAL_TIME.start(), offset),
        (_, Some(offset)) => (*REAL_TIME.end(), offset),
        _ => return Err(bad()),
    };
    let offset = if offset.is_empty() { 0 } else { offset.parse::<i32>().map_err(|_| bad())? };
    base.checked_add(offset).filter(|number| REAL_TIME.contains(number)).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in
            [("SIGTERM", 15), ("term", 15), ("9", 9), ("KILL", 9), ("SIGRTMIN+3", 37), ("RTMAX-1", 63)]
        {
            assert_eq!(parse(text), Ok(number), "{text}");
        }
        for bad in ["", "SIG", "0", "65", "-1", "TERMINATE", "RTMIN-1", "RTMIN+x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
