//! Linux system calls, files, locks and process start: the only crate with unsafe code.
