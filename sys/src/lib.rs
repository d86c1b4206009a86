//! Linux system calls, files, locks and process start: the only crate with unsafe code.
//!
//! Every function is a thin, safe form of what the kernel offers, with errors that name what was tried on
//! what. Nothing here knows images, layers or containers, reads the environment or prints.

pub mod binfmt;
pub mod bpf;
pub mod clock;
pub mod copy;
pub mod datagram;
pub mod detached;
pub mod erofs;
pub mod failpoint;
pub mod fs;
pub mod init_program;
pub mod local_time;
pub mod lock;
mod loop_device;
pub mod machine;
pub mod mapped;
pub mod memory;
pub mod mount;
pub mod ns;
pub mod open_files;
pub mod path_error;
pub mod peers;
pub mod probe;
pub mod random;
pub mod rootdir;
pub mod seccomp;
pub mod signals;
pub mod socket;
pub mod spawn;
pub mod stat;
pub mod strays;
pub mod trial;
pub mod userns;
pub mod xattr;
