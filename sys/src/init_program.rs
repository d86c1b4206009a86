//! The program that is the first process of containers with `--init`.
//!
//! It is compiled on its own (`init/main.rs`), so that nothing of ours can be seen or reached through it from inside
//! a container.

/// The program as a file: static, for this kind of machine.
pub const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Runs it with these arguments. Not as the first process of anything, which it does not notice.
    fn run(args: &[&str]) -> (Option<i32>, String) {
        let dir = tempfile::tempdir().unwrap();
        let (file, path) = (dir.path().join("file"), dir.path().join("init"));
        std::fs::write(&file, PROGRAM).unwrap();
        // What children of other tests have open for writing is not executed, so another process writes it.
        let copied = Command::new("install").args(["-m", "755"]).args([&file, &path]).status();
        assert!(copied.unwrap().success());
        let output = Command::new(&path).args(args).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    }

    #[test]
    fn it_is_small_and_ends_as_its_program_does() {
        assert!(PROGRAM.len() < 16 << 10, "{} bytes", PROGRAM.len());
        assert_eq!(run(&["sh", "-c", "echo $1; exit 7", "x", "hello"]), (Some(7), "hello\n".to_owned()));
        assert_eq!(run(&["/bin/sh", "-c", "kill -9 $$"]).0, Some(137));
        let (code, said) = run(&["no-such-program"]);
        assert_eq!(code, Some(127));
        assert!(said.contains("no-such-program") && said.contains("not found"), "{said}");
        assert_eq!(run(&["/etc/passwd"]).0, Some(126));
        assert_eq!(run(&[]).0, Some(127));
    }
}
