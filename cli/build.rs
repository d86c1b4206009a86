//! How the binary that users get is linked, so that it is small and begins with little to do.
#![allow(clippy::disallowed_methods, reason = "cargo tells a build script what is built by its environment")]
#![allow(clippy::disallowed_macros, reason = "cargo is told what to do on standard output")]

/// What the linker is told, which is the `lld` that comes with Rust.
const FLAGS: [&str; 4] = [
    // 75,000 addresses in a position-independent binary: 1.8 MB that every process would read, or 17 kB as here. C libraries know it
    // from glibc 2.36 on, that of Debian 12.
    "-z,pack-relative-relocs",
    // Functions of the same instructions are there once. Nothing compares addresses of functions.
    "--icf=all",
    // A panic ends the process, so nobody needs to know how to go back through frames; it names its place in the source all the same.
    // Backtraces are for debug builds.
    "--no-eh-frame-hdr",
    // Names of functions are of no use without them.
    "--strip-all",
];

/// Leaves out what `--no-eh-frame-hdr` is the index of.
const SCRIPT: &str = "release.ld";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SCRIPT}");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    let native = is("CARGO_CFG_TARGET_ARCH", "x86_64") && is("CARGO_CFG_TARGET_ENV", "gnu");
    if is("PROFILE", "release") && native {
        for flag in FLAGS {
            println!("cargo::rustc-link-arg-bins=-Wl,{flag}");
        }
        let dir = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| ".".to_owned());
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{dir}/{SCRIPT}");
    }
}
