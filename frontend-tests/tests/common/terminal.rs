//! A person at a terminal: a pseudo terminal with `lap` on it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::termios::{LocalModes, tcgetattr, tcsetwinsize};
use testkit::TestEnv;

/// How long to wait for what has to come. Generous, since it only ends what hangs.
const DEADLINE: Duration = Duration::from_secs(60);

/// `lap` running on a terminal of its own.
pub(crate) struct Terminal {
    child: Child,
    master: File,
    slave: OwnedFd,
    pieces: Receiver<Vec<u8>>,
    shown: String,
}

impl Terminal {
    /// Starts `lap ARGS…` on a terminal of 40 lines of 120 characters.
    pub(crate) fn start(env: &TestEnv, args: &[&str]) -> Self {
        let mut command = Command::new(testkit::binary::lap());
        command.arg("--root").arg(env.root()).args(args);
        command.env_clear().env("HOME", env.home()).env("LAPSTRAKE_GC", "off");
        command.envs(testkit::env::layer_variables());
        Self::of(command)
    }

    /// Starts a command on such a terminal.
    pub(crate) fn of(mut command: Command) -> Self {
        let size = Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(Some(&size), None).unwrap();
        let (master, slave) = (File::from(pair.master), pair.slave);
        let end = || Stdio::from(slave.try_clone().unwrap());
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let (sender, pieces) = channel();
        let mut reader = master.try_clone().unwrap();
        // Ends when the terminal does, which is when this value and the command are gone.
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut chunk) {
                if sender.send(chunk[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { child, master, slave, pieces, shown: String::new() }
    }

    /// Types something.
    pub(crate) fn write(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until `text` is shown, and gives what was shown before that since the last time.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(at) = self.shown.find(text) {
                let mut before: String = self.shown.drain(..at + text.len()).collect();
                before.truncate(at);
                return before;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.pieces.recv_timeout(left) {
                Ok(piece) => self.shown.push_str(&String::from_utf8_lossy(&piece)),
                Err(_) => panic!("{text:?} was not shown, but {:?}", self.shown),
            }
        }
    }

    /// Whether what is typed is shown.
    pub(crate) fn echoes(&self) -> bool {
        tcgetattr(&self.slave).unwrap().local_modes.contains(LocalModes::ECHO)
    }

    /// Whether keys go to the command one by one and are not shown.
    pub(crate) fn is_raw(&self) -> bool {
        let mode = tcgetattr(&self.slave).unwrap();
        !mode.local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO)
    }

    /// Waits until what is typed is not shown.
    pub(crate) fn wait_until_hidden(&self) {
        let deadline = Instant::now() + DEADLINE;
        while self.echoes() {
            assert!(Instant::now() < deadline, "what is typed is shown");
            std::thread::yield_now();
        }
    }

    /// Waits until keys go to the command one by one.
    pub(crate) fn wait_until_raw(&self) {
        let deadline = Instant::now() + DEADLINE;
        while !self.is_raw() {
            assert!(Instant::now() < deadline, "the terminal is not raw");
            std::thread::yield_now();
        }
    }

    /// Changes the size and tells the command.
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.slave, size).unwrap();
        self.signal(Signal::SIGWINCH);
    }

    /// Sends a signal to the command.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// The command's process id.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Waits for the end of the command, and answers its exit code; `None` when a signal killed it.
    pub(crate) fn finish(&mut self) -> Option<i32> {
        let deadline = Instant::now() + DEADLINE;
        let pid = rustix::process::Pid::from_child(&self.child);
        let fd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = rustix::event::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: 0 };
        let mut polled = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
        assert_eq!(rustix::event::poll(&mut polled, Some(&timeout)), Ok(1), "lap does not end");
        self.child.wait().unwrap().code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A test that failed leaves nothing behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
