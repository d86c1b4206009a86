//! What a supervisor tells of its container as it happens, for whoever wants to hear.

use std::time::Duration;

use super::health::HealthStatus;
use crate::network::endpoint::NetworkName;
use crate::request::TtySize;

/// Something that has happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It is connected to a user-defined network, or the default one.
    JoinedNetwork(Option<NetworkName>),
    /// It is not any more.
    LeftNetwork(Option<NetworkName>),
    /// Its program runs.
    Started,
    /// It was sent a signal that somebody asked for.
    Killed(i32),
    /// The kernel has killed a process of it for lack of memory.
    OutOfMemory,
    /// Its program has ended.
    Died {
        /// The exit code.
        code: i32,
        /// How long it ran.
        ran: Duration,
    },
    /// It has ended because somebody asked for that.
    Stopped,
    /// It was started again because somebody asked for that.
    Restarted,
    /// Its processes stand still.
    Paused,
    /// They go on.
    Unpaused,
    /// Somebody is connected with its streams.
    Attached,
    /// Somebody has left it.
    Detached,
    /// Its terminal has another size.
    Resized(TtySize),
    /// Its limits or its restart policy have changed.
    Updated,
    /// It is well, or is not.
    Health(HealthStatus),
    /// A further process was started.
    ExecStarted {
        /// What it is called.
        id: String,
        /// Its command line.
        command: String,
    },
    /// A further process has ended.
    ExecDied {
        /// What it is called.
        id: String,
        /// Its exit code.
        code: i32,
    },
}

/// Who hears the news. It may not fail, and nothing waits for what it does.
pub trait Teller {
    /// Something has happened.
    fn tell(&mut self, news: News);

    /// The container has another name from now on.
    fn renamed(&mut self, name: String);
}

/// Nobody hears them.
#[derive(Debug, Clone, Copy)]
pub struct Silence;

impl Teller for Silence {
    fn tell(&mut self, _: News) {}

    fn renamed(&mut self, _: String) {}
}
