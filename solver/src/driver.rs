//! Turns the planner's actions into work on threads, and feeds what happened back.
//!
//! One loop owns the planner. Look-ups by definition key are quick and happen on this thread, as does
//! telling what begins and ends; everything else runs on a scoped thread of its own, as many at once as
//! the [`Limits`] allow. On the first failure the other work is cancelled, waited for, and the failure
//! returned; a solve that keeps going ends when nothing is left that can be done, with all failures.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::Scope;

use base::{CancelToken, Fault, Faulty, Key};
use crossbeam_channel::{Receiver, Sender};
use llb::{Graph, Input, VertexIndex};

use crate::event::{Action, Event};
use crate::key;
use crate::limits::{Class, Limits, ReadyQueue, distances, longest_ways};
use crate::planner::{Planner, State};
use crate::ports::{Ops, StepOutcome};
use crate::stall::WaitGraph;

/// How a graph is solved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// How much runs at once.
    pub limits: Limits,
    /// After a failure, go on with all that does not depend on what failed.
    pub keep_going: bool,
}

impl From<Limits> for Schedule {
    /// With these limits, up to the first failure.
    fn from(limits: Limits) -> Self {
        Self { limits, keep_going: false }
    }
}

/// The results of a solve.
#[derive(Debug, Clone)]
pub struct Solved<T> {
    /// All results of each target, in their order.
    pub outputs: Vec<T>,
}

/// A vertex that failed.
#[derive(Debug)]
pub struct Failure<E> {
    /// Which one.
    pub vertex: VertexIndex,
    /// Why.
    pub error: E,
}

/// Why a solve gave no results.
#[derive(Debug, thiserror::Error)]
pub enum SolveError<E> {
    /// A vertex failed.
    #[error("a build step failed")]
    Failed {
        /// The first that did.
        first: Failure<E>,
        /// Those that failed after it, in this order, if the solve kept going.
        others: Vec<Failure<E>>,
    },
    /// The cancel token was cancelled.
    #[error("the build was cancelled")]
    Cancelled,
    /// Nothing is left to do and a target has no result: a defect of this crate, or a local directory
    /// was given as a target.
    #[error("the build plan stalled; this is a bug in lapstrake, please report it with what waits:{0}")]
    Stalled(WaitGraph),
}

impl<E: Faulty> Faulty for SolveError<E> {
    fn fault(&self) -> Fault {
        match self {
            Self::Failed { first, .. } => first.error.fault(),
            Self::Cancelled => Fault::Cancelled,
            Self::Stalled(_) => Fault::Bug,
        }
    }
}

/// Makes `targets` of `graph` available. A local directory cannot be a target.
///
/// Actions are carried out through `ops`. When this returns, none of its work is still running.
///
/// # Errors
/// [`SolveError::Failed`] with the first failure, or all of them if the schedule says so, or
/// [`SolveError::Cancelled`].
///
/// # Panics
/// If a method of `ops` panics, after the other work was cancelled and has ended.
pub fn solve<O: Ops>(
    graph: &Graph,
    targets: &[VertexIndex],
    schedule: impl Into<Schedule>,
    ops: &O,
    cancel: &CancelToken,
) -> Result<Solved<O::Output>, SolveError<O::Error>> {
    let schedule = schedule.into();
    let (work, _guard) = cancel.child();
    std::thread::scope(|scope| {
        let (sender, receiver) = crossbeam_channel::unbounded();
        let planner = Planner::new(graph, targets);
        let mut driver = Driver {
            graph,
            ops,
            planner: if schedule.keep_going { planner.keep_going() } else { planner },
            queue: ReadyQueue::new(schedule.limits),
            keep_going: schedule.keep_going,
            distances: distances(graph),
            ways: None,
            started: vec![false; graph.len()],
            ended: vec![false; graph.len()],
            needs_told: false,
            failures: Vec::new(),
            work,
            sender,
        };
        driver.run(scope, &receiver);
        driver.finish(targets, cancel)
    })
}

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
        definition: Option<Key>,
    },
    Execute {
        vertex: VertexIndex,
        inputs: Vec<Option<T>>,
        definition: Key,
        content: Key,
    },
}

type Answer<T, E> = Result<Event<T>, (VertexIndex, E)>;

/// What a thread sends back: the class that is free again, and the answer unless it panicked.
type Message<T, E> = (Class, Option<Answer<T, E>>);

/// Sends a message when it is dropped, so that the loop hears of a thread that panics too.
struct Reply<T, E> {
    sender: Sender<Message<T, E>>,
    class: Class,
    answer: Option<Answer<T, E>>,
}

impl<T, E> Drop for Reply<T, E> {
    fn drop(&mut self) {
        // The receiver is gone only when the loop itself panicked; then nobody needs the answer.
        let _ = self.sender.send((self.class, self.answer.take()));
    }
}

struct Driver<'a, O: Ops> {
    graph: &'a Graph,
    ops: &'a O,
    planner: Planner<O::Output>,
    queue: ReadyQueue<Job<O::Output>>,
    keep_going: bool,
    distances: Vec<u64>,
    /// How long it takes from each vertex to a target; found out when the first vertex has to run.
    ways: Option<Vec<u64>>,
    /// Vertices whose start has been told to `ops`.
    started: Vec<bool>,
    /// Vertices whose end has been told to `ops`.
    ended: Vec<bool>,
    /// Whether it has been told which vertices were found or not needed.
    needs_told: bool,
    failures: Vec<Failure<O::Error>>,
    work: CancelToken,
    sender: Sender<Message<O::Output, O::Error>>,
}

impl<'scope, 'env, 'a: 'scope, O: Ops> Driver<'a, O>
where
    'env: 'scope,
    O::Output: 'scope,
    O::Error: 'scope,
{
    fn run(&mut self, scope: &'scope Scope<'scope, 'env>, receiver: &Receiver<Message<O::Output, O::Error>>) {
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
            match answer {
                Some(Ok(event)) => self.happened(event),
                Some(Err((vertex, error))) => {
                    let actions = self.fail(vertex, error);
                    self.take(actions);
                }
                // The scope hands the panic on once all threads have ended.
                None => self.work.cancel(),
            }
        }
    }

    fn happened(&mut self, event: Event<O::Output>) {
        let vertex = event.vertex();
        let actions = self.planner.handle(event);
        self.tell_done(vertex);
        self.take(actions);
    }

    /// Carries out look-ups at once and queues the rest.
    fn take(&mut self, actions: Vec<Action>) {
        for (vertex, definition) in self.planner.take_keyed() {
            self.ops.keyed(vertex, &definition);
        }
        let mut pending = VecDeque::from(actions);
        while let Some(action) = pending.pop_front() {
            if self.work.is_cancelled() {
                return;
            }
            match action {
                Action::Probe { vertex, key } => match self.ops.lookup(vertex, &key) {
                    Ok(found) => {
                        pending.extend(self.planner.handle(Event::Probed { vertex, found }));
                        self.tell_done(vertex);
                    }
                    Err(error) => pending.extend(self.fail(vertex, error)),
                },
                action => self.enqueue(action),
            }
        }
        self.tell_needs();
    }

    fn enqueue(&mut self, action: Action) {
        let (class, priority, job) = match action {
            // Answered by `take` without a thread.
            Action::Probe { .. } => return,
            Action::LocalKey { vertex, slot } => {
                (Class::Files, self.distances[vertex.index()], Job::LocalKey { vertex, slot })
            }
            Action::ProbeContent { vertex, lookup } => {
                let job = Job::ProbeContent {
                    vertex,
                    inputs: self.inputs(vertex),
                    local_keys: self.planner.local_keys(vertex).to_vec(),
                    op: self.graph.vertex(vertex).op_key,
                    lookup,
                    definition: self.planner.definition(vertex),
                };
                (Class::Files, self.distances[vertex.index()], job)
            }
            Action::Execute { vertex, definition, content } => {
                let inputs = self.inputs(vertex);
                let class = Class::of(&self.graph.vertex(vertex).op);
                (class, self.way(vertex), Job::Execute { vertex, inputs, definition, content })
            }
        };
        self.queue.push(class, priority, job);
    }

    /// Those results of `vertex`'s inputs that it uses, by slot.
    fn inputs(&self, vertex: VertexIndex) -> Vec<Option<O::Output>> {
        let all = self.planner.input_outputs(vertex).into_iter().zip(self.graph.inputs(vertex));
        let part =
            |(outputs, input): (Option<O::Output>, Input)| Some(self.ops.part(&outputs?, input.output));
        all.map(part).collect()
    }

    /// How long it takes from the beginning of `vertex` to a target, by what is known of earlier times.
    fn way(&mut self, vertex: VertexIndex) -> u64 {
        let (graph, ops) = (self.graph, self.ops);
        let ways = self.ways.get_or_insert_with(|| longest_ways(graph, &ops.expected_costs()));
        ways[vertex.index()]
    }

    fn spawn(&mut self, scope: &'scope Scope<'scope, 'env>, class: Class, job: Job<O::Output>) {
        if let Job::Execute { vertex, .. } = job {
            self.started[vertex.index()] = true;
            self.ops.started(vertex);
        }
        let (job, ops) = (Arc::new(job), self.ops);
        let work = || {
            let (job, cancel, sender) = (job.clone(), self.work.clone(), self.sender.clone());
            move || {
                let mut reply = Reply { sender, class, answer: None };
                reply.answer = Some(perform(ops, &job, &cancel));
            }
        };
        let builder = std::thread::Builder::new().name("build-step".to_owned());
        if builder.spawn_scoped(scope, work()).is_err() {
            // The machine gives no more threads, so this one does the work.
            work()();
        }
    }

    /// A vertex has failed: gives what is to be done all the same.
    fn fail(&mut self, vertex: VertexIndex, error: O::Error) -> Vec<Action> {
        let actions = self.planner.handle(Event::Failed { vertex });
        if self.work.is_cancelled() {
            if self.started[vertex.index()] {
                self.tell_end(vertex, StepOutcome::Cancelled);
            }
            return Vec::new();
        }
        self.tell_end(vertex, StepOutcome::Failed(&error));
        self.failures.push(Failure { vertex, error });
        if !self.keep_going {
            self.work.cancel();
        }
        actions
    }

    fn tell_end(&mut self, vertex: VertexIndex, outcome: StepOutcome<'_, O::Error>) {
        if !std::mem::replace(&mut self.ended[vertex.index()], true) {
            self.ops.completed(vertex, outcome);
        }
    }

    /// Tells that `vertex` is done, if it is. A vertex that was found waits for [`Self::tell_needs`], so
    /// that what is below it is told first.
    fn tell_done(&mut self, vertex: VertexIndex) {
        match self.planner.state(vertex) {
            State::Done { cached: false, .. } => self.tell_end(vertex, StepOutcome::Done),
            State::Done { cached: true, .. } if self.needs_told => {
                self.tell_end(vertex, StepOutcome::Cached);
            }
            _ => {}
        }
    }

    /// Once it is settled what has to be made, tells everything else as cached, from the bottom up: what
    /// was found, and what is not needed because something above it was found.
    fn tell_needs(&mut self) {
        if self.needs_told || self.work.is_cancelled() || !self.planner.needs_are_settled() {
            return;
        }
        self.needs_told = true;
        for vertex in self.graph.topological() {
            if matches!(self.planner.state(*vertex), State::Keyed | State::Done { cached: true, .. }) {
                self.tell_end(*vertex, StepOutcome::Cached);
            }
        }
    }

    fn finish(
        mut self,
        targets: &[VertexIndex],
        cancel: &CancelToken,
    ) -> Result<Solved<O::Output>, SolveError<O::Error>> {
        // A failure may have come before the needs were settled.
        self.needs_told = true;
        for vertex in self.graph.topological() {
            self.tell_done(*vertex);
        }
        if self.keep_going && cancel.is_cancelled() {
            return Err(SolveError::Cancelled);
        }
        let mut failures = self.failures.into_iter();
        if let Some(first) = failures.next() {
            return Err(SolveError::Failed { first, others: failures.collect() });
        }
        if cancel.is_cancelled() {
            return Err(SolveError::Cancelled);
        }
        let outputs: Option<Vec<_>> = targets.iter().map(|target| self.planner.output(*target)).collect();
        match outputs {
            Some(outputs) => Ok(Solved { outputs }),
            None => Err(SolveError::Stalled(WaitGraph::of(self.graph, &self.planner, targets))),
        }
    }
}

/// Does one job, on a thread of its own.
fn perform<O: Ops>(ops: &O, job: &Job<O::Output>, cancel: &CancelToken) -> Answer<O::Output, O::Error> {
    match job {
        Job::LocalKey { vertex, slot } => {
            let key = ops.local_key(*vertex, *slot, cancel).map_err(|error| (*vertex, error))?;
            Ok(Event::LocalKey { vertex: *vertex, slot: *slot, key })
        }
        Job::ProbeContent { vertex, inputs, local_keys, op, lookup, definition } => {
            let keys = content_keys(ops, *vertex, inputs, local_keys, cancel);
            let keys = keys.map_err(|error| (*vertex, error))?;
            let found = if *lookup { ops.lookup(*vertex, &key::content(op, &keys)) } else { Ok(None) };
            let found = found.map_err(|error| (*vertex, error))?;
            if let (Some(output), Some(definition)) = (&found, definition) {
                ops.save(definition, output).map_err(|error| (*vertex, error))?;
            }
            Ok(Event::ContentProbed { vertex: *vertex, inputs: keys, found })
        }
        Job::Execute { vertex, inputs, definition, content } => {
            let executed = ops.execute(*vertex, inputs, content, cancel);
            let executed = executed.map_err(|error| (*vertex, error))?;
            ops.save(definition, &executed.output).map_err(|error| (*vertex, error))?;
            Ok(Event::Executed { vertex: *vertex, output: executed.output, reused: executed.reused })
        }
    }
}

/// The content keys of what `vertex` uses of each input, by slot.
fn content_keys<O: Ops>(
    ops: &O,
    vertex: VertexIndex,
    inputs: &[Option<O::Output>],
    local_keys: &[Option<Key>],
    cancel: &CancelToken,
) -> Result<Vec<Key>, O::Error> {
    let slots = inputs.iter().zip(local_keys).enumerate();
    slots
        .map(|(slot, (input, local_key))| match (local_key, input) {
            (Some(key), _) => Ok(*key),
            (None, Some(input)) => ops.content_key(vertex, slot, input, cancel),
            (None, None) => ops.local_key(vertex, slot, cancel),
        })
        .collect()
}
