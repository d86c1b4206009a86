//! What a container really is, seen from inside and from outside. Needs root and busybox-static; without
//! them each test says so and passes.

mod bad_input;
mod devices;
mod exec;
mod failures;
mod foreground;
mod groups;
mod hostile;
mod hostile_calls;
mod isolation;
mod lifetime;
mod limits;
#[cfg(target_arch = "x86_64")]
mod machine_code;
mod parts;
mod root_filesystem;
mod sharing;
mod streams;
mod support;
