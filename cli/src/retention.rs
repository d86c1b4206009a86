//! The file with the rules of automatic collection, and carrying them out around a build.

use std::ffi::OsString;

use base::{Event, EventSink};
use engine::Engine;
use engine::retention::Retention;

use crate::commands::environment;
use crate::config_file::FILE;
use crate::error::CliError;
use crate::terminal::complain;
use crate::units;

/// Says who collects after a build.
const COLLECT: &str = "LAPSTRAKE_GC";

/// `LAPSTRAKE_GC`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Collect {
    /// A process that goes on when the build has ended.
    Background,
    /// The build's process, after it has told the result.
    Wait,
    /// Nobody.
    Off,
}

/// What a build, or another command that fills the store, needs to know of automatic collection.
pub(crate) struct AutoCollect {
    retention: Retention,
    collect: Collect,
}

impl AutoCollect {
    /// With the rules of the configuration file, and what the environment says.
    pub(crate) fn new(retention: Retention) -> Result<Self, CliError> {
        let collect = match environment(COLLECT).as_deref() {
            None | Some("background") => Collect::Background,
            Some("wait") => Collect::Wait,
            Some("off") => Collect::Off,
            Some(other) => {
                let message = format!("{COLLECT} is \"{other}\"");
                return Err(CliError::usage(message, "it can be background, wait or off"));
            }
        };
        Ok(Self { retention, collect })
    }

    /// Warns when there is less room than the rules want. That the file system does not tell is no reason
    /// to stop: the build would say what is wrong.
    pub(crate) fn warn_of_low_space(&self, engine: &Engine, events: &dyn EventSink) {
        let Ok(Some(low)) = engine.room(&self.retention) else { return };
        let message = format!(
            "{} has {} free, and should have {}; lap builder prune makes room",
            low.path.display(),
            units::bytes(low.free),
            units::bytes(low.wanted),
        );
        let (code, excerpt) = ("LowDiskSpace".to_owned(), String::new());
        events.emit(Event::Warning { vertex: None, code, message, excerpt, url: None, place: None });
    }

    /// Collects, if it is time for that. What goes wrong here does not make a build fail.
    pub(crate) fn collect_if_due(&self, engine: &Engine) {
        let done = match self.collect {
            Collect::Off => Ok(()),
            Collect::Wait => engine.collect(&self.retention, true).map(drop),
            Collect::Background => match engine.is_collection_due(&self.retention) {
                Ok(true) => self.start(engine),
                due => due.map(drop),
            },
        };
        if let Err(error) = done {
            complain(&format!("WARNING: cannot collect what the cache need not keep: {error}"));
        }
    }

    fn start(&self, engine: &Engine) -> Result<(), engine::error::EngineError> {
        // Without a name of our own, the next build tries again.
        let Ok(program) = std::env::current_exe() else { return Ok(()) };
        let args = ["--root".into(), engine.root().into(), "store".into(), "gc".into(), "--if-due".into()];
        let file = self.retention.file().and_then(|file| std::path::absolute(file).ok());
        let variables: Vec<(OsString, OsString)> =
            file.map(|file| (FILE.into(), file.into())).into_iter().collect();
        engine.collect_in_background(&program, &args, &variables)
    }
}
