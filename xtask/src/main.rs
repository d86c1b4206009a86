//! House rules run as a test, and generators.
fn main() {}
