//! The builds of a daemon, from the call that begins one until its caller has its answer.
//!
//! Each has a thread of its own, which does what its client asks one after the other: a client that solves with the Dockerfile
//! frontend by itself asks once, one that steers the build itself (the gateway) as often as it likes, until it returns a result.

pub(crate) mod brought;
mod caches;
mod containers;
mod definitions;
mod failures;
mod frontends;
pub(crate) mod here;
mod opening;
mod results;
mod sources;
mod steer;

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base::{CancelToken, Digest, Timestamp};
use engine::Engine;
use engine::history::HistoryLimits;
use engine::request::Entitlement;
use engine::retention::Retention;
use engine::session::SessionProcess;
use tokio::runtime::Handle;
use tokio::sync::{Notify, broadcast, oneshot};
use tonic::Status;

use self::here::Here;
use crate::Options;
use crate::debug::Counts;
use crate::history::{self, Change};
use crate::linked::Linked;
use crate::proto::{control, frontend};
use crate::record::{self, Noted};
use crate::session::{Session, Sessions};
use crate::status::{StatusLog, Step};
use crate::traces::{self, Trace};
use crate::uploads::Uploads;

/// How long the daemon waits for another build before it gives memory back.
const REST: Duration = Duration::from_secs(2);

/// How long after that it does so once more.
const LONG_REST: Duration = Duration::from_secs(12);

/// How long a call that is about a build waits for it: the calls of a client race.
const ARRIVAL: Duration = Duration::from_secs(10);

/// How many builds that are over are remembered with all that they said, for clients that come late.
const REMEMBERED: usize = 8;

/// How many more are remembered with nothing but what they said, for how long, and with how much output: the calls of a client race, and those
/// of a hundred clients do not come in their order.
const HEARD: usize = 256;
const LATE: Duration = Duration::from_secs(10);
const LITTLE: usize = 16 << 10;

/// Where an answer goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Status>>;

/// What a client asks of its build.
pub(crate) enum Command {
    Solve(Box<frontend::SolveRequest>, Reply<frontend::SolveResponse>),
    ResolveImage(Box<frontend::ResolveImageConfigRequest>, Reply<frontend::ResolveImageConfigResponse>),
    ResolveSource(Box<frontend::ResolveSourceMetaRequest>, Reply<frontend::ResolveSourceMetaResponse>),
    ReadFile(frontend::ReadFileRequest, Reply<frontend::ReadFileResponse>),
    ReadDir(frontend::ReadDirRequest, Reply<frontend::ReadDirResponse>),
    StatFile(frontend::StatFileRequest, Reply<frontend::StatFileResponse>),
    /// The same of a container, which is named instead of a result.
    ReadFileIn(frontend::ReadFileRequest, Reply<frontend::ReadFileResponse>),
    ReadDirIn(frontend::ReadDirRequest, Reply<frontend::ReadDirResponse>),
    StatFileIn(frontend::StatFileRequest, Reply<frontend::StatFileResponse>),
    /// Makes the result of this id one that other builds can begin with.
    Evaluate(String, Reply<()>),
    NewContainer(Box<frontend::NewContainerRequest>, Reply<frontend::NewContainerResponse>),
    /// Ends the container of this name.
    ReleaseContainer(String, Reply<frontend::ReleaseContainerResponse>),
    StartProcess(Box<frontend::InitMessage>, Reply<Arc<SessionProcess>>),
    Return(Box<frontend::ReturnRequest>, Reply<frontend::ReturnResponse>),
}

/// A build, running or over.
pub(crate) struct Build {
    /// The client's name of it.
    pub(crate) id: String,
    pub(crate) request: control::SolveRequest,
    pub(crate) session: Option<Arc<Session>>,
    pub(crate) status: Arc<StatusLog>,
    pub(crate) created: Timestamp,
    pub(crate) outcome: Mutex<Option<Outcome>>,
    /// What becomes known for its record.
    pub(crate) noted: Mutex<Noted>,
    /// The trace that it is part of.
    pub(crate) trace: Option<Trace>,
    /// What its client tells of that.
    pub(crate) spans: Mutex<traces::Said>,
    /// What is built, if it is a build of this process.
    here: Option<Here>,
    commands: Mutex<Option<Sender<Command>>>,
    cancel: CancelToken,
}

/// How a build ended.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) completed: Timestamp,
    pub(crate) response: Result<HashMap<String, String>, Status>,
}

impl Build {
    /// Asks something of the build and waits for the answer.
    ///
    /// # Errors
    /// The build is over, or answers so.
    pub(crate) async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Status> {
        let (reply, answer) = oneshot::channel();
        let over = || Status::not_found(format!("the build {} is over", self.id));
        {
            let commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
            commands.as_ref().ok_or_else(over)?.send(command(reply)).map_err(|_| over())?;
        }
        answer.await.unwrap_or_else(|_| Err(over()))
    }

    /// Begins a step of the daemon's own.
    pub(crate) fn step(&self, name: &str, unique: &str) -> Step<'_> {
        Step::begin(&self.status, name, &format!("{unique}\n{}", self.id))
    }

    /// Whether nobody wants its result any more.
    fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    fn stop(&self) {
        self.cancel.cancel();
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// All builds of a daemon.
pub(crate) struct Builds {
    pub(crate) engine: Arc<Engine>,
    pub(crate) sessions: Arc<Sessions>,
    /// Archives that come by calls of their own.
    pub(crate) uploads: Uploads,
    /// How builds have ended.
    pub(crate) counts: Counts,
    /// Results that other builds begin with.
    pub(crate) linked: Linked,
    /// What clients may ask for that gives steps more rights.
    pub(crate) allowed: Vec<Entitlement>,
    retention: Retention,
    pub(crate) jobs: Option<NonZeroUsize>,
    /// Labels of the worker that somebody has asked for.
    pub(crate) labels: Vec<(String, String)>,
    /// What this builder is called by clients: the same from one start to the next.
    pub(crate) worker_id: String,
    /// How many builds are remembered, and for how long.
    pub(crate) history_limits: Option<HistoryLimits>,
    runtime: Handle,
    pub(crate) running: Mutex<HashMap<String, Arc<Build>>>,
    /// How many builds there have been.
    begun: AtomicU64,
    over: Mutex<VecDeque<Arc<Build>>>,
    /// What others have said that have ended lately, and when they ended.
    heard: Mutex<VecDeque<(Instant, String, Arc<StatusLog>)>>,
    changed: Notify,
    /// What happens to the history.
    pub(crate) changes: broadcast::Sender<Change>,
}

/// Stops a build whose caller does not wait for it any more.
struct StopOnDrop(Arc<Build>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Builds {
    pub(crate) fn new(engine: Arc<Engine>, options: &Options, runtime: Handle) -> Self {
        let Options { allowed, retention, jobs, labels, history, .. } = options;
        let (allowed, retention, labels) = (allowed.clone(), retention.clone(), labels.clone());
        let builds = Self::of(engine, runtime);
        Self { allowed, retention, jobs: *jobs, labels, history_limits: *history, ..builds }
    }

    /// Those of an engine, which allow nothing beyond what is usual.
    fn of(engine: Arc<Engine>, runtime: Handle) -> Self {
        let sessions = Arc::default();
        let (running, over, heard, changed) = Default::default();
        let root = engine.info().map(|info| info.root.display().to_string()).unwrap_or_default();
        let worker_id = Digest::of(root.as_bytes()).hex()[..25].to_owned();
        Self {
            engine,
            sessions,
            uploads: Uploads::default(),
            counts: Counts::default(),
            linked: Linked::default(),
            allowed: Vec::new(),
            retention: Retention::default(),
            jobs: None,
            labels: Vec::new(),
            worker_id,
            history_limits: None,
            runtime,
            running,
            begun: AtomicU64::new(0),
            over,
            heard,
            changed,
            changes: broadcast::Sender::new(history::QUEUE),
        }
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Runs a build to its end.
    ///
    /// # Errors
    /// It fails, or there is one of its name.
    pub(crate) async fn run(
        self: &Arc<Self>,
        request: control::SolveRequest,
        trace: Option<Trace>,
    ) -> Result<HashMap<String, String>, Status> {
        let id = request.r#ref.clone();
        if id.is_empty() {
            return Err(Status::invalid_argument("a build needs a ref"));
        }
        let session = match request.session.as_str() {
            "" => None,
            id => Some(self.sessions.get(id).await?),
        };
        let (sender, receiver) = channel();
        let build = Arc::new(Build {
            id: id.clone(),
            request,
            session,
            status: Arc::default(),
            created: engine::now(),
            outcome: Mutex::default(),
            noted: Mutex::default(),
            trace,
            spans: Mutex::default(),
            here: None,
            commands: Mutex::new(Some(sender)),
            cancel: CancelToken::new(),
        });
        {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            if running.contains_key(&id) {
                return Err(Status::already_exists(format!("there is a build {id} already")));
            }
            running.insert(id.clone(), Arc::clone(&build));
            self.begun.fetch_add(1, Ordering::Relaxed);
        }
        self.changed.notify_waiters();
        if !build.request.internal {
            self.tell(Change::Begun(Arc::clone(&build)));
        }
        let stop = StopOnDrop(Arc::clone(&build));
        let result = self.run_on_thread(&build, receiver).await;
        drop(stop);
        result
    }

    /// Runs a build on a thread of its own. When nobody waits for it, its thread still puts it away.
    async fn run_on_thread(
        self: &Arc<Self>,
        build: &Arc<Build>,
        receiver: Receiver<Command>,
    ) -> Result<HashMap<String, String>, Status> {
        let (sender, answer) = oneshot::channel();
        let thread = std::thread::Builder::new().name("build".to_owned()).spawn({
            let (builds, build) = (Arc::clone(self), Arc::clone(build));
            move || {
                let response = steer::run(&builds, &build, &receiver);
                builds.put_away(&build, response.clone());
                // Who does not wait for it does not want it.
                let _ = sender.send(response);
                // A failed build has filled the disk as well. The next one tries again what goes wrong.
                if builds.engine.is_collection_due(&builds.retention).unwrap_or(false) {
                    let _ = builds.engine.collect(&builds.retention, true);
                }
                builds.rest();
            }
        });
        if let Err(error) = thread {
            let status = Status::resource_exhausted(format!("cannot start a thread for the build: {error}"));
            self.put_away(build, Err(status.clone()));
            return Err(status);
        }
        let gone = async {
            match &build.session {
                Some(session) => session.closed().await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(answer);
        let interrupted = || Status::internal("the build has ended without an answer");
        tokio::select! {
            response = &mut answer => response.unwrap_or_else(|_| Err(interrupted())),
            () = gone => {
                build.stop();
                answer.await.unwrap_or_else(|_| Err(interrupted()))
            }
        }
    }

    /// Gives memory back when no build has begun for a while, and none runs.
    fn rest(self: &Arc<Self>) {
        let (builds, begun) = (Arc::clone(self), self.begun.load(Ordering::Relaxed));
        self.runtime.spawn(async move {
            // The second time also of what clients have told that went late, and of threads that have ended since.
            for rest in [REST, LONG_REST] {
                tokio::time::sleep(rest).await;
                let is_idle = builds.running.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
                if !is_idle || builds.begun.load(Ordering::Relaxed) != begun {
                    return;
                }
                builds.heard.lock().unwrap_or_else(PoisonError::into_inner).clear();
                let resting = Arc::clone(&builds);
                let _ = tokio::task::spawn_blocking(move || resting.engine.release_memory()).await;
            }
        });
    }

    fn put_away(&self, build: &Arc<Build>, response: Result<HashMap<String, String>, Status>) {
        let outcome = Outcome { completed: engine::now(), response };
        self.counts.add(outcome.response.is_ok());
        let is_kept = record::keep(self, build, &outcome);
        *build.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        build.commands.lock().unwrap_or_else(PoisonError::into_inner).take();
        build.status.close();
        {
            let mut over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
            over.push_back(Arc::clone(build));
            self.hear(build);
            if over.len() > REMEMBERED {
                over.pop_front();
            }
        }
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&build.id);
        self.changed.notify_waiters();
        if !build.request.internal {
            let id = build.id.clone();
            self.tell(if is_kept { Change::Kept(id) } else { Change::Forgotten(id) });
        }
    }

    /// Remembers what a build has said that is in no history, if that is little.
    fn hear(&self, build: &Build) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        // The others are in the history.
        if build.request.internal && build.status.output() <= LITTLE {
            heard.push_back((Instant::now(), build.id.clone(), Arc::clone(&build.status)));
        }
        while heard.len() > HEARD || heard.front().is_some_and(|(at, ..)| at.elapsed() > LATE) {
            heard.pop_front();
        }
    }

    /// What a build has said that has ended lately.
    pub(crate) fn heard_of(&self, id: &str) -> Option<Arc<StatusLog>> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter().rev().find(|(_, known, _)| known == id).map(|(.., status)| Arc::clone(status))
    }

    /// A build by its name, which may begin in a moment.
    ///
    /// # Errors
    /// It does not.
    pub(crate) async fn get(&self, id: &str) -> Result<Arc<Build>, Status> {
        let arrival = async {
            loop {
                let changed = self.changed.notified();
                match self.known(id) {
                    Some(build) => return build,
                    None => changed.await,
                }
            }
        };
        tokio::time::timeout(ARRIVAL, arrival).await.map_err(|_| {
            Status::not_found(format!("no such build {id}: it has not begun, or ended long ago"))
        })
    }

    /// A build that runs, or that has ended a moment ago.
    pub(crate) fn known(&self, id: &str) -> Option<Arc<Build>> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        running.or_else(|| {
            let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
            over.iter().rev().find(|build| build.id == id).cloned()
        })
    }

    /// Builds that have ended a moment ago.
    pub(crate) fn ended(&self) -> Vec<Arc<Build>> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Stops all builds, and waits for them.
    pub(crate) async fn drain(&self) {
        loop {
            let changed = self.changed.notified();
            let running: Vec<_> =
                self.running.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
            if running.is_empty() {
                return;
            }
            running.iter().for_each(|build| build.stop());
            changed.await;
        }
    }
}
