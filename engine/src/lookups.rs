//! What names of images mean in their registries is asked once by builds of one process that want to know at the same time.
//!
//! The first to come asks. The others wait for its answer, be that an image or an error: a registry that does not answer costs all of them
//! together the time that it costs one. The question goes on for as long as somebody wants the answer, also when the build that asks
//! was cancelled meanwhile; then it ends after it. Only builds that are the same to the registry share an answer.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use base::{CancelToken, Key};

use crate::error::EngineError;
use crate::manifest::Image;

/// The questions under way.
#[derive(Default)]
pub(crate) struct Lookups(Mutex<HashMap<Key, Arc<Question>>>);

/// A question under way.
#[derive(Default)]
struct Question {
    state: Mutex<State>,
    changed: Condvar,
    /// What asking is cancelled by.
    cancel: CancelToken,
}

#[derive(Default)]
struct State {
    /// How many want the answer.
    wanted: usize,
    ended: bool,
    /// Nothing if nobody can use it.
    answer: Option<Result<Image, Arc<EngineError>>>,
}

impl Question {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody does not want the answer any more.
    fn leave(&self) {
        let mut state = self.lock();
        state.wanted = state.wanted.saturating_sub(1);
        let is_unwanted = state.wanted == 0;
        drop(state);
        if is_unwanted {
            self.cancel.cancel();
        }
        self.changed.notify_all();
    }

    fn end(&self, answer: Option<Result<Image, Arc<EngineError>>>) {
        let mut state = self.lock();
        state.ended = true;
        state.answer = answer;
        drop(state);
        self.changed.notify_all();
    }

    /// Waits for the answer. `None` is none that anybody can use.
    fn wait(&self, cancel: &CancelToken) -> Result<Option<Image>, EngineError> {
        let mut state = self.lock();
        loop {
            cancel.check()?;
            if state.ended {
                return match &state.answer {
                    Some(Ok(image)) => Ok(Some(image.clone())),
                    Some(Err(error)) => Err(EngineError::Lookup(Arc::clone(error))),
                    None => Ok(None),
                };
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Takes a question away, whatever becomes of asking it.
struct Asking<'a> {
    lookups: &'a Lookups,
    key: Key,
    question: Arc<Question>,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.lookups.lock().remove(&self.key);
        if !self.question.lock().ended {
            self.question.end(None);
        }
    }
}

impl Lookups {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Question>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer of `ask`, or of somebody who asks the same now.
    ///
    /// # Errors
    /// As for `ask`; or `cancel` was cancelled.
    pub(crate) fn once(
        &self,
        key: &Key,
        cancel: &CancelToken,
        ask: impl FnOnce(&CancelToken) -> Result<Image, EngineError>,
    ) -> Result<Image, EngineError> {
        loop {
            cancel.check()?;
            let (question, is_ours) = {
                let mut under_way = self.lock();
                let is_ours = !under_way.contains_key(key);
                let question = Arc::clone(under_way.entry(*key).or_default());
                question.lock().wanted += 1;
                (question, is_ours)
            };
            let leaver = Arc::clone(&question);
            let _guard = cancel.on_cancel(move || leaver.leave());
            if is_ours {
                return self.answer(key, question, cancel, ask);
            }
            if let Some(image) = question.wait(cancel)? {
                return Ok(image);
            }
        }
    }

    fn answer(
        &self,
        key: &Key,
        question: Arc<Question>,
        cancel: &CancelToken,
        ask: impl FnOnce(&CancelToken) -> Result<Image, EngineError>,
    ) -> Result<Image, EngineError> {
        let asking = Asking { lookups: self, key: *key, question };
        let answer = ask(&asking.question.cancel);
        match answer {
            Ok(image) => {
                asking.question.end(Some(Ok(image.clone())));
                cancel.check()?;
                Ok(image)
            }
            // Whoever asked may be the reason that it went wrong. The others ask for themselves.
            Err(_) if cancel.is_cancelled() => Err(EngineError::Cancelled),
            // Nobody else has to be told, and it stays what it is.
            Err(error) if asking.question.lock().wanted <= 1 => Err(error),
            Err(error) => {
                let error = Arc::new(error);
                asking.question.end(Some(Err(Arc::clone(&error))));
                Err(EngineError::Lookup(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;

    use base::image::{Descriptor, ImageConfig, Manifest, media_type};
    use base::{Digest, KeyHasher, Platform};

    use super::*;

    fn image(name: &str) -> Image {
        let descriptor = Descriptor::new(media_type::OCI_MANIFEST, Digest::of(name.as_bytes()), 1);
        let manifest = Manifest {
            schema_version: 2,
            media_type: media_type::OCI_MANIFEST.to_owned(),
            artifact_type: None,
            subject: None,
            config: descriptor.clone(),
            layers: Vec::new(),
            annotations: Default::default(),
        };
        Image { descriptor, manifest, config: ImageConfig::scratch(&Platform::host()) }
    }

    fn key() -> Key {
        KeyHasher::new("test").finish()
    }

    /// Waits until `count` want the answer.
    fn wanted_by(lookups: &Lookups, count: usize) {
        while lookups.lock().get(&key()).is_none_or(|question| question.lock().wanted != count) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn many_ask_and_one_is_sent() {
        let (lookups, asked) = (Lookups::default(), AtomicUsize::new(0));
        let (lookups, asked) = (&lookups, &asked);
        std::thread::scope(|scope| {
            let (sender, receiver) = channel();
            let ask = move |_: &CancelToken| {
                asked.fetch_add(1, Ordering::SeqCst);
                receiver.recv().unwrap()
            };
            let first = scope.spawn(move || lookups.once(&key(), &CancelToken::new(), ask));
            wanted_by(lookups, 1);
            let never = |_: &CancelToken| unreachable!("somebody asks already");
            let others: Vec<_> = (0..8)
                .map(|_| scope.spawn(move || lookups.once(&key(), &CancelToken::new(), never)))
                .collect();
            wanted_by(lookups, 9);
            sender.send(Ok(image("found"))).unwrap();
            for waiting in std::iter::once(first).chain(others) {
                assert_eq!(waiting.join().unwrap().unwrap().descriptor, image("found").descriptor);
            }
        });
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        // The next question is another.
        let failed =
            lookups.once(&key(), &CancelToken::new(), |_| Err(EngineError::NoSuchImage("x".to_owned())));
        assert!(matches!(failed, Err(EngineError::NoSuchImage(_))));
    }

    #[test]
    fn asking_goes_on_for_those_who_wait_and_ends_with_the_last() {
        let lookups = &Lookups::default();
        std::thread::scope(|scope| {
            let (leader, follower) = (CancelToken::new(), CancelToken::new());
            let (sender, receiver) = channel::<()>();
            let ask = move |cancel: &CancelToken| {
                receiver.recv().unwrap();
                assert!(!cancel.is_cancelled(), "somebody waits");
                Ok(image("found"))
            };
            let first = scope.spawn({
                let leader = leader.clone();
                move || lookups.once(&key(), &leader, ask)
            });
            wanted_by(lookups, 1);
            let second = scope.spawn({
                let follower = follower.clone();
                move || lookups.once(&key(), &follower, |_| unreachable!("somebody asks already"))
            });
            wanted_by(lookups, 2);
            leader.cancel();
            wanted_by(lookups, 1);
            sender.send(()).unwrap();
            assert!(matches!(first.join().unwrap(), Err(EngineError::Cancelled)));
            assert_eq!(second.join().unwrap().unwrap().descriptor, image("found").descriptor);
            // Nobody is left: asking ends.
            let leader = CancelToken::new();
            let ask = |cancel: &CancelToken| {
                let (sender, receiver) = channel();
                let _guard = cancel.on_cancel(move || sender.send(()).unwrap());
                receiver.recv().unwrap();
                Err(EngineError::Cancelled)
            };
            let alone = scope.spawn({
                let leader = leader.clone();
                move || lookups.once(&key(), &leader, ask)
            });
            wanted_by(lookups, 1);
            leader.cancel();
            assert!(matches!(alone.join().unwrap(), Err(EngineError::Cancelled)));
        });
    }
}
