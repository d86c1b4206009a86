//! Runs this very test program again in a user namespace of its own.
//!
//! Root and 65,535 more users and groups exist in it. Root there may do to them what root may, but not what
//! only the machine's root may: make devices, or set attributes named `trusted.`.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use crate::judges;

/// Root stays root, and others are users that the machine does not have (`user_namespaces(7)`).
const MAP: &str = "0 0 1\n1 100000 65535\n";

/// Says that it runs and waits until its users are mapped.
const SCRIPT: &str = r#"echo running; read -r mapped; exec "$0" "$@" 2>&1"#;

/// Runs it with these arguments and this variable. `Err` is all that it wrote, if it failed. `None`, after
/// saying why, where there can be no user namespace.
pub fn run_self(args: &[&str], (name, value): (&str, &str)) -> Option<Result<(), String>> {
    crate::privilege::root()?;
    let unshare = judges::program("unshare")?;
    let mut child = Command::new(unshare.path())
        .args(["--user", "--mount", "sh", "-c", SCRIPT])
        .arg(std::env::current_exe().expect("this program has a path"))
        .args(args)
        .env(name, value)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("unshare starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line");
    if line != "running\n" {
        let output = child.wait_with_output().expect("it ends");
        let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return crate::privilege::missing(&format!("no user namespaces: {reason}"));
    }
    for kind in ["uid_map", "gid_map"] {
        std::fs::write(format!("/proc/{}/{kind}", child.id()), MAP).expect("root may map users");
    }
    child.stdin.take().expect("a pipe").write_all(b"mapped\n").expect("it waits");
    let mut text = String::new();
    stdout.read_to_string(&mut text).expect("text");
    let output = child.wait_with_output().expect("it ends");
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Some(if output.status.success() { Ok(()) } else { Err(text) })
}

/// Whether this process is in one: only the first maps every id to itself.
pub fn is_inside() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").expect("the kernel has user namespaces");
    !map.split_whitespace().eq(["0", "0", "4294967295"])
}
