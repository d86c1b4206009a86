//! Builds at the same time in one process: a step that both need runs once, whoever of them is cancelled.

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::thread::scope;

use base::CancelToken;
use base::event::{Event, EventSink};
use crossbeam_channel::{Receiver, Sender, unbounded};
use engine::Engine;
use engine::error::BuildError;
use engine::request::LoadSource;

use crate::support::{options, request};

/// An engine with `busybox:latest`; `None` where there can be none.
fn engine(directory: &Path) -> Option<Engine> {
    let options = options(directory)?;
    let engine = Engine::open(options).unwrap();
    let archive = directory.join("busybox.tar");
    testkit::images::busybox().write_archive(&archive);
    engine.load(LoadSource::Path(archive), &[], &CancelToken::new()).unwrap();
    Some(engine)
}

/// Hands events on.
struct Told(Sender<Event>);

impl EventSink for Told {
    fn emit(&self, event: Event) {
        // Nobody listens any more when a test has seen what it waited for.
        let _ = self.0.send(event);
    }
}

/// Waits until a build says that it waits for another.
fn wait_until_it_waits(events: &Receiver<Event>) {
    let waits = |event: Event| matches!(event, Event::Status { id, .. } if id.starts_with("waiting for another build"));
    while !waits(events.recv().expect("the build ends without waiting")) {}
}

/// All that was written by steps.
fn logs(events: &Receiver<Event>) -> String {
    let data = |event| if let Event::Log { data, .. } = event { data } else { Vec::new() };
    String::from_utf8(events.try_iter().flat_map(data).collect()).unwrap()
}

/// A step that calls a server, prints its answer, and a step above it.
fn dockerfile(server: &TcpListener) -> String {
    let port = server.local_addr().unwrap().port();
    format!(
        "FROM busybox\nRUN nc 127.0.0.1 {port} < /dev/null > /answer && cat /answer\nRUN test -s /answer\n"
    )
}

#[test]
fn a_step_of_two_builds_runs_once_although_the_first_is_cancelled() {
    let directory = tempfile::tempdir().unwrap();
    let Some(engine) = engine(directory.path()) else { return };
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let request = request(&dockerfile(&server));
    let (first_told, _first_events) = unbounded();
    let (second_told, second_events) = unbounded();
    let cancel = CancelToken::new();
    let (first, second) = scope(|scope| {
        let first = scope.spawn(|| engine.build(&request, Arc::new(Told(first_told)), &cancel));
        let (mut caller, _) = server.accept().unwrap();
        let second = scope.spawn(|| engine.build(&request, Arc::new(Told(second_told)), &CancelToken::new()));
        wait_until_it_waits(&second_events);
        cancel.cancel();
        caller.write_all(b"the answer\n").unwrap();
        drop(caller);
        (first.join().unwrap(), second.join().unwrap())
    });
    assert!(matches!(first, Err(BuildError::Cancelled)), "{first:?}");
    assert!(second.is_ok(), "{second:?}");
    assert!(logs(&second_events).contains("the answer"), "a build sees what a step writes that it waits for");
    server.set_nonblocking(true).unwrap();
    assert!(server.accept().is_err(), "the step has run twice");
}

#[test]
fn a_step_ends_with_the_last_build_that_wants_it() {
    let directory = tempfile::tempdir().unwrap();
    let Some(engine) = engine(directory.path()) else { return };
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let request = request(&dockerfile(&server));
    let (told, events) = unbounded();
    let tokens = [CancelToken::new(), CancelToken::new()];
    scope(|scope| {
        let (unheard, _) = unbounded();
        let first = scope.spawn(|| engine.build(&request, Arc::new(Told(unheard)), &tokens[0]));
        let (mut caller, _) = server.accept().unwrap();
        let second = scope.spawn(|| engine.build(&request, Arc::new(Told(told)), &tokens[1]));
        wait_until_it_waits(&events);
        tokens.iter().for_each(CancelToken::cancel);
        // The step's process is gone, and so its end of the connection.
        assert_eq!(caller.read(&mut [0]).unwrap_or(0), 0);
        for build in [first, second] {
            let result = build.join().unwrap();
            assert!(matches!(result, Err(BuildError::Cancelled)), "{result:?}");
        }
    });
}
