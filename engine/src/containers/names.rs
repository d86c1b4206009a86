//! Names of containers: which are allowed, and those for containers that were given none.

use crate::error::EngineError;

/// How a boat may be.
const ADJECTIVES: [&str; 48] = [
    "agile", "amber", "bold", "breezy", "brisk", "calm", "candid", "clever", "cosy", "crisp", "daring",
    "deft", "eager", "early", "fair", "fleet", "fond", "frank", "free", "gentle", "glad", "grand", "hardy",
    "honest", "jolly", "keen", "kind", "late", "light", "lively", "loyal", "lucky", "mellow", "merry",
    "mild", "neat", "nimble", "noble", "plain", "proud", "quick", "quiet", "ready", "silver", "spry",
    "steady", "sunny", "swift",
];

/// What belongs to a boat.
const NOUNS: [&str; 48] = [
    "anchor", "ballast", "beam", "berth", "boom", "bow", "bowsprit", "bulwark", "buoy", "cabin", "capstan",
    "cleat", "compass", "davit", "deck", "dinghy", "fender", "frame", "galley", "gunwale", "halyard",
    "hatch", "helm", "hold", "hull", "jib", "keel", "keelson", "lantern", "lugger", "mast", "oar", "oarlock",
    "paddle", "plank", "pulley", "rib", "rigging", "rivet", "rudder", "sail", "spar", "stem", "stern",
    "tiller", "transom", "winch", "yawl",
];

/// A name that is probably free: two words, and a number after the first tries.
pub(crate) fn generate(attempt: u32) -> Result<String, EngineError> {
    let random = sys::random::hex(8)?;
    let number = u64::from_str_radix(&random, 16).unwrap_or(0);
    let pick = |words: &[&'static str; 48], number: u64| words[(number % 48) as usize];
    let name = format!("{}_{}", pick(&ADJECTIVES, number), pick(&NOUNS, number / 48));
    Ok(if attempt < 3 { name } else { format!("{name}{}", number / (48 * 48) % 10_000) })
}

/// A short end for a name that only one container is to have.
///
/// # Errors
/// The kernel gives no random numbers.
pub fn random_name() -> Result<String, EngineError> {
    Ok(sys::random::hex(6)?)
}

/// An id that nothing else has.
///
/// # Errors
/// The kernel gives no random numbers.
pub fn random_id() -> Result<String, EngineError> {
    Ok(sys::random::hex(32)?)
}

/// Refuses what is no name, by Docker's rule, but for names of one letter.
pub(crate) fn check(name: &str) -> Result<(), EngineError> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    match first && rest {
        true => Ok(()),
        false => Err(EngineError::ContainerName(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_are_names() {
        for attempt in 0..6 {
            let name = generate(attempt).unwrap();
            check(&name).unwrap();
            assert_eq!(name.ends_with(|last: char| last.is_ascii_digit()), attempt >= 3, "{name}");
        }
    }

    #[test]
    fn names_are_dockers() {
        for good in ["web", "web-1", "a.b_c", "0"] {
            check(good).unwrap();
        }
        for bad in ["", "-web", "a b", "a/b", "ä1"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
