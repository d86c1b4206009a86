//! How keys are put together. Pure.

use base::{Key, KeyHasher};

/// The definition key: the operation over its inputs' definition keys (or the content keys of what it
/// selects from local directories).
pub fn definition(op: &Key, inputs: &[Key]) -> Key {
    combine("lapstrake/definition/v1", op, inputs)
}

/// The content key: the operation over the content keys of what it uses of its inputs.
pub fn content(op: &Key, inputs: &[Key]) -> Key {
    combine("lapstrake/content/v1", op, inputs)
}

/// The key of a vertex that must not be found: `build` is unique to this build.
pub fn unique(build: &Key, definition: &Key) -> Key {
    combine("lapstrake/unique/v1", build, &[*definition])
}

fn combine(domain: &str, op: &Key, inputs: &[Key]) -> Key {
    let mut hasher = KeyHasher::new(domain);
    hasher.add(op).add(inputs);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_of_key_never_meet() {
        let op = Key::from_bytes([1; 32]);
        let input = [Key::from_bytes([2; 32])];
        let all = [definition(&op, &input), content(&op, &input), unique(&op, &input[0])];
        assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2]);
    }

    #[test]
    fn order_and_number_of_inputs_count() {
        let op = Key::from_bytes([1; 32]);
        let (a, b) = (Key::from_bytes([2; 32]), Key::from_bytes([3; 32]));
        assert_ne!(definition(&op, &[a, b]), definition(&op, &[b, a]));
        assert_ne!(definition(&op, &[a]), definition(&op, &[a, a]));
    }
}
