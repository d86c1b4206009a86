//! Tasks for working on Lapstrake: `cargo xtask TASK`.
//!
//! Nothing here is shipped. The house rules of `tidy` also run as a test of this package.
#![allow(clippy::disallowed_methods, reason = "a developer's tool reads its arguments and starts cargo")]
#![allow(clippy::disallowed_macros, reason = "a developer's tool writes to the terminal")]

mod cases;
mod image;
mod instructions;
mod suite;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask tidy                     check the house rules
cargo xtask test [CARGO-TEST-ARGS…]  run all tests and end with their sum
cargo xtask coverage [--deny-missing]
                                     list the rows that no conformance case shows
cargo xtask judge [--programs DIR] [--record] [NAME]
                                     give the cases to Docker: the installed one, or that below DIR
cargo xtask instructions [--record]  count the instructions of commands that have nothing to do, and compare them
                                     with those recorded
cargo xtask image ROOTFS.tar NAME    write an image archive of one layer to standard output";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["tidy"] => tidy::run(workspace()),
        ["test", rest @ ..] => suite::run(workspace(), rest),
        ["coverage"] => cases::coverage(false),
        ["coverage", "--deny-missing"] => cases::coverage(true),
        ["judge", rest @ ..] => cases::judge(workspace(), rest),
        ["instructions"] => exit_code(instructions::run(workspace(), false)),
        ["instructions", "--record"] => exit_code(instructions::run(workspace(), true)),
        ["image", rootfs, name] => image::run(Path::new(rootfs), name),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn exit_code(success: bool) -> ExitCode {
    if success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The workspace's root directory.
fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies in the workspace")
}
