//! Benchmarks of the real binary, alone and beside installed peers.
fn main() {}
