//! Reading content while it is received, so that a layer is unpacked while the rest of it is on its way.
//!
//! Who receives it [tells](super::BlobWriter::tell) how far it has come. Who reads waits for what has not come yet, and
//! learns that there is no more only when the whole is what its digest says: until then the end, and with it all that was
//! made of it, is an error.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use sys::fs::PathError;

/// Content that somebody receives, or is going to.
#[derive(Clone, Default)]
pub struct Arriving(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What is written to, once somebody does.
    file: Option<Arc<File>>,
    written: u64,
    end: Option<End>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The whole is there, and is what its digest says.
    Whole,
    /// Nothing more comes.
    Broken,
}

impl Arriving {
    /// Waits until something comes. `false` when nothing does, and also when it broke off before anybody looked.
    pub fn begins(&self) -> bool {
        let mut state = self.lock();
        while state.file.is_none() && state.end.is_none() {
            state = self.wait(state);
        }
        state.file.is_some() && state.end != Some(End::Broken)
    }

    /// Waits for the end. Whether the whole is there, and is what its digest says.
    pub fn is_whole(&self) -> bool {
        let mut state = self.lock();
        loop {
            match state.end {
                Some(end) => return end == End::Whole,
                None => state = self.wait(state),
            }
        }
    }

    /// Says that nothing comes any more, if nobody has said how it ended.
    pub fn end(&self) {
        self.finish(End::Broken);
    }

    /// Reads it from its beginning.
    pub fn reader(&self) -> ArrivingReader {
        ArrivingReader { arriving: self.clone(), position: 0 }
    }

    fn finish(&self, end: End) {
        self.lock().end.get_or_insert(end);
        self.0.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Arriving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arriving").field("written", &self.lock().written).finish_non_exhaustive()
    }
}

/// Reads what arrives.
#[derive(Debug)]
pub struct ArrivingReader {
    arriving: Arriving,
    position: u64,
}

impl Read for ArrivingReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut state = self.arriving.lock();
        let (file, written) = loop {
            match &state.file {
                Some(file) if state.written > self.position => break (Arc::clone(file), state.written),
                _ => {}
            }
            match state.end {
                Some(End::Whole) => return Ok(0),
                Some(End::Broken) => return Err(io::ErrorKind::UnexpectedEof.into()),
                None => state = self.arriving.wait(state),
            }
        };
        drop(state);
        let most = usize::try_from(written - self.position).unwrap_or(usize::MAX).min(into.len());
        let count = file.read_at(&mut into[..most], self.position)?;
        if count == 0 && most > 0 {
            // It is shorter than what was written to it.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += count as u64;
        Ok(count)
    }
}

/// The end of it that a writer has. One that is dropped before it is done says that nothing more comes.
#[derive(Default)]
pub(super) struct Teller(Option<Arriving>);

impl Teller {
    /// Tells of the file at `path`, of which so much was written.
    pub(super) fn begin(&mut self, arriving: &Arriving, path: &Path, written: u64) -> Result<(), PathError> {
        let file = sys::fs::open(path)?;
        {
            let mut state = arriving.lock();
            // One that broke off is not taken up again: who reads it has seen bytes that may have been wrong.
            if state.end.is_some() {
                return Ok(());
            }
            state.file = Some(Arc::new(file));
            state.written = written;
        }
        arriving.0.changed.notify_all();
        self.0 = Some(arriving.clone());
        Ok(())
    }

    pub(super) fn wrote(&self, written: u64) {
        if let Some(arriving) = &self.0 {
            arriving.lock().written = written;
            arriving.0.changed.notify_all();
        }
    }

    /// Everything is there, and right.
    pub(super) fn done(mut self) {
        if let Some(arriving) = self.0.take() {
            arriving.finish(End::Whole);
        }
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        if let Some(arriving) = &self.0 {
            arriving.end();
        }
    }
}
