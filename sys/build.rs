//! Compiles the first process of containers with `--init`: a static program of three kilobytes that `init_program`
//! embeds. See `init/main.rs`.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "a build script runs the compiler")]

use std::path::PathBuf;
use std::process::Command;

const SOURCE: &str = "init/main.rs";

/// Neither a C library nor anything that unwinds, at addresses that need no relocation.
const OPTIONS: [&str; 10] = [
    "panic=abort",
    "opt-level=s",
    "debuginfo=0",
    "strip=symbols",
    "relocation-model=static",
    "target-feature=+crt-static",
    "link-arg=-nostartfiles",
    "link-arg=-nostdlib",
    "link-arg=-static",
    "link-arg=-Wl,--build-id=none",
];

fn main() {
    println!("cargo::rerun-if-changed={SOURCE}");
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let program = PathBuf::from(variable("OUT_DIR")).join("init");
    let mut command = Command::new(variable("RUSTC"));
    command.args(["--edition", "2024", "--crate-name", "init", "--crate-type", "bin"]);
    command.arg("--target").arg(variable("TARGET"));
    command.args(OPTIONS.iter().flat_map(|option| ["-C", option]));
    if let Ok(linker) = std::env::var("RUSTC_LINKER") {
        command.arg("-C").arg(format!("linker={linker}"));
    }
    let status = command.arg("-o").arg(&program).arg(SOURCE).status();
    assert!(status.is_ok_and(|status| status.success()), "cannot compile {SOURCE}");
}
