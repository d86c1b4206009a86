//! Runs `lap`, catches all it writes, and never waits longer than a deadline.
//!
//! Two threads read the pipes and hand every piece to one channel; waiting is receiving from that channel. A
//! command is over when it has ended and nobody holds its pipes any more, so a process that outlives its
//! parent is noticed. At the deadline the whole process group is killed and the test fails.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// How long what is awaited of a command may take before the test fails. Generous, since it only ends what hangs.
const DEADLINE: Duration = Duration::from_secs(120);

/// A command that is not started yet: an empty environment, no input.
pub struct Lap {
    program: OsString,
    args: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
    dir: Option<OsString>,
    stdin: Option<Vec<u8>>,
    deadline: Duration,
}

impl Lap {
    /// A command that runs the program at `program`.
    pub fn new(program: &Path) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            envs: Vec::new(),
            dir: None,
            stdin: None,
            deadline: DEADLINE,
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<I, S>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.envs.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets the working directory.
    pub fn current_dir(mut self, dir: &Path) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Gives the command these bytes as its input; without this the input is empty.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Changes how long what is awaited of the command may take: a piece of its output, its end.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs the command to its end, whatever that is.
    pub fn run(self) -> Output {
        self.spawn().finish()
    }

    /// Runs the command and expects exit code 0.
    pub fn ok(self) -> Output {
        self.fails(0)
    }

    /// Runs the command and expects exit code `code`.
    pub fn fails(self, code: i32) -> Output {
        let output = self.run();
        assert_eq!(output.code(), Some(code), "the exit code is not the expected one\n{output}");
        output
    }

    /// Starts the command.
    pub fn spawn(self) -> Running {
        let line = self.to_string();
        let mut command = Command::new(&self.program);
        command.args(&self.args).env_clear().envs(self.envs).process_group(0);
        command.stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(dir) = self.dir {
            command.current_dir(dir);
        }
        let mut child = command.spawn().unwrap_or_else(|error| panic!("start {line}: {error}"));
        let (sender, pieces) = mpsc::channel();
        let mut threads = Vec::new();
        if let (Some(mut pipe), Some(bytes)) = (child.stdin.take(), self.stdin) {
            // A command that does not read its input closes the pipe; that is its right.
            threads.push(std::thread::spawn(move || drop(pipe.write_all(&bytes))));
        }
        threads.push(reader(child.stdout.take(), Stream::Stdout, sender.clone()));
        threads.push(reader(child.stderr.take(), Stream::Stderr, sender));
        Running {
            line,
            child,
            pieces,
            threads,
            stdout: Vec::new(),
            stderr: Vec::new(),
            started: Instant::now(),
            awaited: Instant::now(),
            deadline: self.deadline,
            finished: false,
        }
    }
}

/// Writes a program that can be executed at once. Another process writes it: what is open for writing, as also in the children that other
/// threads are just making, is not executed (`ETXTBSY` of `execve(2)`).
///
/// # Panics
/// It cannot be written.
pub fn program_file(path: &Path, content: &[u8]) {
    let install = Lap::new(Path::new("/usr/bin/install")).args(["-m", "755", "/dev/stdin"]).arg(path);
    install.stdin(content).ok();
}

impl fmt::Display for Lap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.program.display())?;
        self.args.iter().try_for_each(|arg| write!(f, " {}", arg.display()))
    }
}

#[derive(Clone, Copy)]
enum Stream {
    Stdout,
    Stderr,
}

/// A thread that sends what comes out of `pipe` and ends with it.
fn reader(
    pipe: Option<impl Read + Send + 'static>,
    stream: Stream,
    sender: Sender<(Stream, Vec<u8>)>,
) -> JoinHandle<()> {
    let mut pipe = pipe.expect("the pipe was asked for");
    std::thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(length @ 1..) = pipe.read(&mut buffer) {
            if sender.send((stream, buffer[..length].to_vec())).is_err() {
                return;
            }
        }
    })
}

/// A command that runs.
pub struct Running {
    line: String,
    child: Child,
    pieces: Receiver<(Stream, Vec<u8>)>,
    threads: Vec<JoinHandle<()>>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    started: Instant,
    /// Since when something is waited for.
    awaited: Instant,
    deadline: Duration,
    finished: bool,
}

impl Running {
    /// The process id, which is also the id of the command's process group.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id is positive")
    }

    /// Waits until the command's output or error output holds `text`.
    pub fn wait_for(&mut self, text: &str) {
        self.wait_for_times(text, 1);
    }

    /// Waits until the command's output and error output hold `text` so many times, since it was started.
    pub fn wait_for_times(&mut self, text: &str, times: usize) {
        self.awaited = Instant::now();
        let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).matches(text).count();
        while shown(&self.stdout) + shown(&self.stderr) < times {
            if !self.receive() {
                self.give_up(&format!("the command ended without showing {text:?} {times} times"));
            }
        }
    }

    /// Waits until the command has written a whole line to its output that begins with `start`, and gives it.
    pub fn wait_for_line(&mut self, start: &str) -> String {
        self.awaited = Instant::now();
        loop {
            let text = String::from_utf8_lossy(&self.stdout);
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            if let Some(line) = whole.lines().find(|line| line.starts_with(start)) {
                return line.to_owned();
            }
            if !self.receive() {
                self.give_up(&format!("the command ended without a line that begins with {start:?}"));
            }
        }
    }

    /// Sends a signal to the process alone, as `kill` does.
    pub fn signal(&self, signal: Signal) {
        nix::sys::signal::kill(Pid::from_raw(self.pid()), signal).expect("the process is there");
    }

    /// Sends a signal to the whole process group, as a terminal does for Ctrl-C.
    pub fn signal_group(&self, signal: Signal) {
        killpg(Pid::from_raw(self.pid()), signal).expect("the process group is there");
    }

    /// Waits for the end and returns everything the command wrote.
    pub fn finish(mut self) -> Output {
        self.awaited = Instant::now();
        while self.receive() {}
        self.finished = true;
        let status = self.child.wait().expect("the child is ours");
        for thread in std::mem::take(&mut self.threads) {
            thread.join().expect("a reader does not panic");
        }
        Output {
            line: std::mem::take(&mut self.line),
            status,
            stdout: std::mem::take(&mut self.stdout),
            stderr: std::mem::take(&mut self.stderr),
            elapsed: self.started.elapsed(),
        }
    }

    /// Takes the next piece of output; false when both pipes are closed.
    fn receive(&mut self) -> bool {
        let left = self.deadline.saturating_sub(self.awaited.elapsed());
        match self.pieces.recv_timeout(left) {
            Ok((Stream::Stdout, bytes)) => self.stdout.extend(bytes),
            Ok((Stream::Stderr, bytes)) => self.stderr.extend(bytes),
            Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) => self.give_up(&format!("not over after {:?}", self.deadline)),
        }
        true
    }

    fn give_up(&self, reason: &str) -> ! {
        let (stdout, stderr) = (String::from_utf8_lossy(&self.stdout), String::from_utf8_lossy(&self.stderr));
        panic!("{}: {reason}\n--- stdout\n{stdout}\n--- stderr\n{stderr}", self.line);
    }
}

impl Drop for Running {
    /// Ends a command that a failed test left running, with what it started. After [`Running::finish`] there
    /// is nothing to end.
    fn drop(&mut self) {
        if !self.finished {
            let _ = killpg(Pid::from_raw(self.pid()), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// What a command did.
#[derive(Debug)]
pub struct Output {
    line: String,
    status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
    /// From its start to its end.
    pub elapsed: Duration,
}

impl Output {
    /// The exit code, or none if a signal ended the command.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The number of the signal that ended the command, if one did.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Standard output as text.
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Expects standard error to hold each of `texts`.
    pub fn stderr_has(&self, texts: &[&str]) -> &Self {
        let stderr = self.stderr_text();
        for text in texts {
            assert!(stderr.contains(text), "{text:?} is not in the error output\n{self}");
        }
        self
    }

    /// Expects standard output to hold each of `texts`.
    pub fn stdout_has(&self, texts: &[&str]) -> &Self {
        let stdout = self.stdout_text();
        for text in texts {
            assert!(stdout.contains(text), "{text:?} is not in the output\n{self}");
        }
        self
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "$ {}\n{}", self.line, self.status)?;
        write!(f, "--- stdout\n{}\n--- stderr\n{}", self.stdout_text(), self.stderr_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Lap {
        Lap::new(Path::new("/bin/sh")).args(["-c", script])
    }

    #[test]
    fn both_outputs_and_the_exit_code_are_caught() {
        let output = shell("cat; echo oops >&2; exit 7").stdin("in").fails(7);
        output.stdout_has(&["in"]).stderr_has(&["oops"]);
        assert_eq!(output.signal(), None);
    }

    #[test]
    fn an_unread_input_is_no_failure() {
        shell("exit 0").stdin(vec![0; 1 << 20]).ok();
    }

    #[test]
    fn a_signal_is_seen_after_the_awaited_output() {
        let mut running = shell("echo ready; kill -STOP $$").spawn();
        running.wait_for("ready");
        running.signal_group(Signal::SIGKILL);
        assert_eq!(running.finish().signal(), Some(9));
    }

    #[test]
    #[should_panic(expected = "the exit code is not the expected one")]
    fn an_unexpected_success_fails_the_test() {
        shell("exit 0").fails(1);
    }

    #[test]
    #[should_panic(expected = "not over after")]
    fn a_hanging_command_fails_the_test() {
        // The descendant keeps the pipe open; the deadline ends both.
        shell("cat /dev/zero > /dev/null & wait").deadline(Duration::from_millis(50)).run();
    }

    #[test]
    #[should_panic(expected = "ended without showing")]
    fn a_text_that_never_comes_fails_the_test() {
        shell("echo something else").spawn().wait_for("this");
    }
}
