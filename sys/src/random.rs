//! Random names, from the kernel.

use crate::path_error::{PathContext as _, PathError};
use std::path::Path;

/// `bytes` random bytes as hex digits.
///
/// # Errors
/// When the kernel has no random numbers, which it always has once it is up (`getrandom(2)`).
pub fn hex(bytes: usize) -> Result<String, PathError> {
    let mut buffer = vec![0u8; bytes];
    let mut filled = 0;
    while filled < buffer.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        filled +=
            rustix::rand::getrandom(&mut buffer[filled..], flags).at("read", Path::new("/dev/urandom"))?;
    }
    Ok(buffer.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_long_and_differ() {
        let (first, second) = (hex(32).unwrap(), hex(32).unwrap());
        assert_eq!(first.len(), 64);
        assert!(first.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(first, second);
    }
}
