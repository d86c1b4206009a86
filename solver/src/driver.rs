//! Turns the planner's actions into work on threads, and feeds what happened back.
//!
//! One loop owns the planner. Look-ups by key are quick and happen on this thread; everything else runs
//! on a scoped thread of its own, as many at once as the [`Limits`] allow. On the first failure the other
//! work is cancelled, waited for, and the failure returned.

use base::{CancelToken, Key};
use crossbeam_channel::{Receiver, Sender};
use llb::{Graph, VertexIndex};

use crate::key;
use crate::limits::{Class, Limits, ReadyQueue, distances};
use crate::planner::{Action, Event, Planner, State};
use crate::ports::{Ops, StepOutcome};

/// The results of a solve.
#[derive(Debug, Clone)]
pub struct Solved<T> {
    /// One for each target, in their order.
    pub outputs: Vec<T>,
}

/// Why a solve gave no results.
#[derive(Debug, thiserror::Error)]
pub enum SolveError<E> {
    /// A vertex failed.
    #[error("a build step failed")]
    Failed {
        /// Which one.
        vertex: VertexIndex,
        /// Why.
        error: E,
    },
    /// The cancel token was cancelled.
    #[error("the build was cancelled")]
    Cancelled,
    /// The planner has nothing left to do and a target has no result: a defect of this crate.
    #[error("the build plan stalled with \"{0}\" unfinished; this is a bug in lapstrake, please report it")]
    Stalled(String),
}

/// Makes `targets` of `graph` available.
///
/// `build` must be unique to this build. Actions are carried out through `ops`.
pub fn solve<O: Ops>(
    graph: &Graph,
    targets: &[VertexIndex],
    build: Key,
    limits: Limits,
    ops: &O,
    cancel: &CancelToken,
) -> Result<Solved<O::Output>, SolveError<O::Error>> {
    let (work, _guard) = cancel.child();
    std::thread::scope(|scope| {
        let (sender, receiver) = crossbeam_channel::unbounded();
        let mut driver = Driver {
            graph,
            ops,
            planner: Planner::new(graph, targets, build),
            queue: ReadyQueue::new(limits),
            priority: distances(graph),
            reported: vec![false; graph.len()],
            failure: None,
            work,
            sender,
        };
        driver.run(scope, &receiver);
        driver.finish(targets, cancel)
    })
}

/// What a thread sends back: the event or the error, and the class that is free again.
type Message<T, E> = (Class, Result<Event<T>, (VertexIndex, E)>);

/// What a thread is told to do.
enum Job<T> {
    LocalKey {
        vertex: VertexIndex,
        slot: usize,
    },
    ProbeContent {
        vertex: VertexIndex,
        inputs: Vec<Option<T>>,
        local_keys: Vec<Option<Key>>,
        op: Key,
        lookup: bool,
        saved_as: Option<Key>,
    },
    Execute {
        vertex: VertexIndex,
        inputs: Vec<Option<T>>,
        keys: Vec<Key>,
    },
}

struct Driver<'a, O: Ops> {
    graph: &'a Graph,
    ops: &'a O,
    planner: Planner<O::Output>,
    queue: ReadyQueue<Job<O::Output>>,
    priority: Vec<u32>,
    /// Vertices whose end has been told to `ops`.
    reported: Vec<bool>,
    failure: Option<(VertexIndex, O::Error)>,
    work: CancelToken,
    sender: Sender<Message<O::Output, O::Error>>,
}

impl<'scope, 'env, 'a: 'scope, O: Ops> Driver<'a, O>
where
    'env: 'scope,
    O::Output: 'scope,
    O::Error: 'scope,
{
    fn run(
        &mut self,
        scope: &'scope std::thread::Scope<'scope, 'env>,
        receiver: &Receiver<Message<O::Output, O::Error>>,
    ) {
        let actions = self.planner.start();
        self.take(actions);
        loop {
            if self.work.is_cancelled() {
                self.queue.clear();
            }
            while let Some((class, job)) = self.queue.pop() {
                self.spawn(scope, class, job);
            }
            if self.queue.running() == 0 {
                return;
            }
            let Ok((class, answer)) = receiver.recv() else { return };
            self.queue.finished(class);
            self.answer(answer);
        }
    }

    /// Carries out look-ups at once and queues the rest.
    fn take(&mut self, actions: Vec<Action>) {
        let mut pending: std::collections::VecDeque<Action> = actions.into();
        while let Some(action) = pending.pop_front() {
            match action {
                Action::Probe { vertex, key } => match self.ops.lookup(vertex, &key) {
                    Ok(found) => {
                        let event = Event::Probed { vertex, found };
                        pending.extend(self.planner.handle(event));
                        self.report_if_done(vertex);
                    }
                    Err(error) => self.fail(vertex, error),
                },
                Action::LocalKey { vertex, slot } => {
                    self.push(Class::Files, vertex, Job::LocalKey { vertex, slot });
                }
                Action::ProbeContent { vertex, lookup } => {
                    let job = Job::ProbeContent {
                        vertex,
                        inputs: self.planner.input_outputs(vertex),
                        local_keys: self.planner.local_keys(vertex),
                        op: self.graph.vertex(vertex).op_key,
                        lookup,
                        saved_as: self.planner.saved_as(vertex),
                    };
                    self.push(Class::Files, vertex, job);
                }
                Action::Execute { vertex, keys } => {
                    let class = Class::of(&self.graph.vertex(vertex).op);
                    let inputs = self.planner.input_outputs(vertex);
                    self.push(class, vertex, Job::Execute { vertex, inputs, keys });
                }
            }
        }
    }

    fn push(&mut self, class: Class, vertex: VertexIndex, job: Job<O::Output>) {
        self.queue.push(class, self.priority[vertex.index()], job);
    }

    fn spawn(&self, scope: &'scope std::thread::Scope<'scope, 'env>, class: Class, job: Job<O::Output>) {
        let (ops, work, sender) = (self.ops, self.work.clone(), self.sender.clone());
        scope.spawn(move || {
            let answer = perform(ops, job, &work);
            // The loop outlives every thread it waits for, so the receiver is there.
            let _ = sender.send((class, answer));
        });
    }

    fn answer(&mut self, answer: Result<Event<O::Output>, (VertexIndex, O::Error)>) {
        match answer {
            Ok(event) => {
                let vertex = event.vertex();
                let actions = self.planner.handle(event);
                self.report_if_done(vertex);
                self.take(actions);
            }
            Err((vertex, error)) => self.fail(vertex, error),
        }
    }

    fn fail(&mut self, vertex: VertexIndex, error: O::Error) {
        self.planner.handle(Event::Failed { vertex });
        self.queue.clear();
        if self.work.is_cancelled() {
            // It ended because something else did.
            self.report(vertex, StepOutcome::Cancelled);
            return;
        }
        self.report(vertex, StepOutcome::Failed(&error));
        self.failure = Some((vertex, error));
        self.work.cancel();
    }

    fn report(&mut self, vertex: VertexIndex, outcome: StepOutcome<'_, O::Error>) {
        if !std::mem::replace(&mut self.reported[vertex.index()], true) {
            self.ops.completed(vertex, outcome);
        }
    }

    /// Tells the end of `vertex` unless something below it is still open: those are told first, at the
    /// end, so that a build where all is cached reads from top to bottom.
    fn report_if_done(&mut self, vertex: VertexIndex) {
        let State::Done { cached, .. } = self.planner.state(vertex) else { return };
        let cached = *cached;
        let below_told = |v: &Self| {
            v.graph.inputs(vertex).iter().all(|input| {
                v.reported[input.vertex.index()] || matches!(v.planner.state(input.vertex), State::Local)
            })
        };
        if !cached {
            self.report(vertex, StepOutcome::Done);
        } else if below_told(self) {
            self.report(vertex, StepOutcome::Cached);
        }
    }

    fn finish(
        mut self,
        targets: &[VertexIndex],
        cancel: &CancelToken,
    ) -> Result<Solved<O::Output>, SolveError<O::Error>> {
        let succeeded = targets.iter().all(|target| self.planner.output(*target).is_some());
        for vertex in self.graph.topological() {
            match self.planner.state(*vertex) {
                State::Local => {}
                State::Done { cached: true, .. } | State::Keyed if succeeded => {
                    self.report(*vertex, StepOutcome::Cached);
                }
                State::Done { .. } => self.report(*vertex, StepOutcome::Cached),
                State::Keyed | State::Unkeyed | State::Missing => {}
                _ => self.report(*vertex, StepOutcome::Cancelled),
            }
        }
        if let Some((vertex, error)) = self.failure {
            return Err(SolveError::Failed { vertex, error });
        }
        if cancel.is_cancelled() {
            return Err(SolveError::Cancelled);
        }
        let output = |target: &VertexIndex| {
            let name = || self.graph.vertex(*target).metadata.name.clone();
            self.planner.output(*target).ok_or_else(|| SolveError::Stalled(name()))
        };
        Ok(Solved { outputs: targets.iter().map(output).collect::<Result<_, _>>()? })
    }
}

/// Does one job, on a thread of its own.
fn perform<O: Ops>(
    ops: &O,
    job: Job<O::Output>,
    cancel: &CancelToken,
) -> Result<Event<O::Output>, (VertexIndex, O::Error)> {
    match job {
        Job::LocalKey { vertex, slot } => {
            let key = ops.local_key(vertex, slot, cancel).map_err(|error| (vertex, error))?;
            Ok(Event::LocalKey { vertex, slot, key })
        }
        Job::ProbeContent { vertex, inputs, local_keys, op, lookup, saved_as } => {
            let keys = content_keys(ops, vertex, &inputs, &local_keys, cancel);
            let keys = keys.map_err(|error| (vertex, error))?;
            let key = key::content(&op, &keys);
            let found = if lookup { ops.lookup(vertex, &key) } else { Ok(None) };
            let found = found.map_err(|error| (vertex, error))?;
            if let (Some(output), Some(saved_as)) = (&found, saved_as) {
                ops.save(&saved_as, output).map_err(|error| (vertex, error))?;
            }
            Ok(Event::ContentProbed { vertex, inputs: keys, found })
        }
        Job::Execute { vertex, inputs, keys } => {
            ops.started(vertex);
            let executed = ops.execute(vertex, &inputs, &keys, cancel).map_err(|error| (vertex, error))?;
            let output = executed.output;
            if executed.reused {
                return Ok(Event::Probed { vertex, found: Some(output) });
            }
            for key in &keys {
                ops.save(key, &output).map_err(|error| (vertex, error))?;
            }
            Ok(Event::Executed { vertex, output })
        }
    }
}

fn content_keys<O: Ops>(
    ops: &O,
    vertex: VertexIndex,
    inputs: &[Option<O::Output>],
    local_keys: &[Option<Key>],
    cancel: &CancelToken,
) -> Result<Vec<Key>, O::Error> {
    let slots = inputs.iter().zip(local_keys).enumerate();
    slots
        .map(|(slot, (input, local))| match (input, local) {
            (_, Some(local)) => Ok(*local),
            (Some(input), None) => ops.content_key(vertex, slot, input, cancel),
            (None, None) => ops.local_key(vertex, slot, cancel),
        })
        .collect()
}

impl<T> Event<T> {
    /// The vertex that an event is about.
    fn vertex(&self) -> VertexIndex {
        match self {
            Self::LocalKey { vertex, .. }
            | Self::Probed { vertex, .. }
            | Self::ContentProbed { vertex, .. }
            | Self::Executed { vertex, .. }
            | Self::Failed { vertex } => *vertex,
        }
    }
}
