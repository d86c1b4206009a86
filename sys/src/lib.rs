//! Linux system calls, files, locks and process start: the only crate with unsafe code.
//!
//! Every function is a thin, safe form of what the kernel offers, with errors that name what was tried on
//! what. Nothing here knows images, layers or containers, reads the environment or prints.

pub mod clock;
pub mod copy;
pub mod fs;
pub mod lock;
pub mod path_error;
pub mod rootdir;
pub mod stat;
pub mod xattr;
