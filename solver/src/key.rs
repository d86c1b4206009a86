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

/// The key of a result of an operation, by the key under which the operation is known. The first result has that of the
/// operation itself.
pub fn of_output(key: &Key, output: u32) -> Key {
    if output == 0 {
        return *key;
    }
    let mut hasher = KeyHasher::new("lapstrake/output/v1");
    hasher.add(key).u64(output.into());
    hasher.finish()
}

fn combine(domain: &str, op: &Key, inputs: &[Key]) -> Key {
    let mut hasher = KeyHasher::new(domain);
    hasher.add(op).add(inputs);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> Key {
        Key::from_bytes([byte; 32])
    }

    #[test]
    fn the_two_kinds_of_key_never_meet() {
        assert_ne!(definition(&key(1), &[key(2)]), content(&key(1), &[key(2)]));
        assert_ne!(definition(&key(1), &[]), content(&key(1), &[]));
    }

    #[test]
    fn operation_and_order_and_number_of_inputs_count() {
        for combine in [definition, content] {
            let one = combine(&key(1), &[key(2), key(3)]);
            assert_ne!(one, combine(&key(9), &[key(2), key(3)]));
            assert_ne!(one, combine(&key(1), &[key(3), key(2)]));
            assert_ne!(one, combine(&key(1), &[key(2), key(3), key(3)]));
            assert_ne!(one, combine(&key(1), &[key(2)]));
        }
    }

    #[test]
    fn results_of_one_operation_have_different_keys() {
        assert_eq!(of_output(&key(1), 0), key(1));
        let outputs = [of_output(&key(1), 1), of_output(&key(1), 2), of_output(&key(2), 1), key(1)];
        assert!(outputs.iter().enumerate().all(|(index, one)| !outputs[..index].contains(one)));
    }

    #[test]
    fn keys_are_pinned() {
        assert_eq!(definition(&key(1), &[key(2)]).hex(), DEFINITION_GOLDEN);
        assert_eq!(content(&key(1), &[key(2)]).hex(), CONTENT_GOLDEN);
    }

    /// A different value means that nothing saved before is found again.
    const DEFINITION_GOLDEN: &str = "181eb52e501315f997a6138f426c12d3832627f44b51f4188c4630740eacfffe";
    const CONTENT_GOLDEN: &str = "9a1c4d4808d9ad28beeefe489251d1f154f827b6fc337e1d6cc0aafb13d30fb7";
}
