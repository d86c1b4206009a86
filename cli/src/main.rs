//! The lap command: flags, progress drawing, exit codes.
fn main() {}
