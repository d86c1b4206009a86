//! Death and I/O errors at every step of every kind of work on a store.
//!
//! The work is done by another process, this test binary again, which runs only the test [`child`]. At the fail
//! point that the environment variable names it kills itself, or gets an error from the disk. Then the store is
//! opened as if nothing had happened: everything that it serves is right, one collection brings it to where the
//! work began or ended, and the work can be done.
//!
//! Builds without assertions have no fail points, so there is nothing to test in them.
#![cfg(debug_assertions)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test starts processes and speaks with them"
)]

mod common;
mod steps;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use base::{Fault, Faulty};
use snapshotter::{DriverKind, Policy, Store, StoreError};
use steps::{WORKS, Work, held, open, verify};
use sys::failpoint;

const WORK: &str = "SNAPSHOTTER_TEST_WORK";
const DRIVER: &str = "SNAPSHOTTER_TEST_DRIVER";
const ROOT: &str = "SNAPSHOTTER_TEST_ROOT";
const POINT: &str = "SNAPSHOTTER_TEST_POINT";
const HARM: &str = "SNAPSHOTTER_TEST_HARM";

/// What happens at a fail point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    /// The process dies.
    Death,
    /// The disk refuses.
    IoError,
}

/// How a process ended that was to come to harm.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// It did, at the fail point of this name.
    Harmed(String),
    /// It passed fewer points than that.
    Done,
}

fn say(word: &str) {
    println!("said:{word}");
    io::stdout().flush().unwrap();
}

fn die(point: &'static str) -> io::Result<()> {
    say(point);
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
    loop {
        std::thread::park();
    }
}

fn refuse(point: &'static str) -> io::Result<()> {
    say(point);
    Err(rustix::io::Errno::IO.into())
}

/// Not a test by itself when the parent asks for work; else checks that a process that dies is noticed.
#[test]
fn child() {
    let Ok(work) = std::env::var(WORK) else {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("store");
        assert_eq!(
            run_child("open", DriverKind::Native, &root, 0, Harm::Death),
            End::Harmed("create directory".into())
        );
        assert_eq!(run_child("open", DriverKind::Native, &root, 1000, Harm::Death), End::Done);
        return;
    };
    let var = |name| std::env::var(name).unwrap();
    let driver = if var(DRIVER) == "Native" { DriverKind::Native } else { DriverKind::Overlay };
    let action = if var(HARM) == "Death" { die } else { refuse };
    failpoint::arm(var(POINT).parse().unwrap(), action);
    let outcome = do_work(&work, driver, Path::new(&var(ROOT)));
    match (failpoint::disarm(), outcome) {
        (true, outcome) => outcome.unwrap(),
        // Where only tidying up was refused, the work is done all the same.
        (false, Ok(())) => {}
        (false, Err(error)) => expect_clear(&error),
    }
}

fn do_work(work: &str, driver: DriverKind, root: &Path) -> Result<(), StoreError> {
    let options = snapshotter::Options { driver: Some(driver), ..snapshotter::Options::default() };
    let store = Store::open(root, options)?;
    WORKS.iter().find(|known| known.name == work).map_or(Ok(()), |work| (work.run)(&store))
}

/// An error of the disk is said to be one, with the place where it happened.
fn expect_clear(error: &StoreError) {
    assert_eq!(error.fault(), Fault::Environment, "{error:?}");
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        text += &format!(": {source}");
        cause = source.source();
    }
    assert!(text.contains("Input/output error") || text.contains("disk I/O error"), "{text}");
    assert!(text.contains('/') || text.contains("archive entry"), "{text}");
}

fn run_child(work: &str, driver: DriverKind, root: &Path, point: u64, harm: Harm) -> End {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(WORK, work)
        .env(DRIVER, format!("{driver:?}"))
        .env(ROOT, root)
        .env(POINT, point.to_string())
        .env(HARM, format!("{harm:?}"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let said = text.lines().find_map(|line| line.split_once("said:")).map(|(_, word)| word.to_owned());
    let expected = if said.is_some() && harm == Harm::Death {
        output.status.signal() == Some(9)
    } else {
        output.status.success()
    };
    assert!(
        expected,
        "{work} at point {point}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    said.map_or(End::Done, End::Harmed)
}

/// What the store holds before and after a work, garbage not counted.
struct States {
    before: BTreeMap<String, (u64, u64)>,
    after: BTreeMap<String, (u64, u64)>,
}

/// What a collection leaves of it: the collector's own work is finished, others lose nothing that is cached.
fn tidy(store: &Store, work: &Work) -> BTreeMap<String, (u64, u64)> {
    let policy = if work.name == "collect" { Policy::DROP_CACHE } else { Policy::KEEP_CACHE };
    store.gc(policy).unwrap();
    assert!(store.check().unwrap().is_clean(), "{:?}", store.check().unwrap());
    held(store.root())
}

fn learn(work: &Work, driver: DriverKind, root: &Path) -> States {
    let store = open(root, driver);
    work.set_up(&store);
    let before = tidy(&store, work);
    work.set_up(&store);
    (work.run)(&store).unwrap();
    States { before, after: tidy(&store, work) }
}

/// Has `harm` happen at every fail point of `work`. Returns how many there are.
fn harm_everywhere(work: &Work, driver: DriverKind, harm: Harm) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let states = learn(work, driver, &root);
    for point in 0.. {
        work.set_up(&open(&root, driver));
        let End::Harmed(name) = run_child(work.name, driver, &root, point, harm) else { return point };
        let at = format!("{} with {driver:?} and {harm:?} at point {point}, {name}", work.name);
        let store = open(&root, driver);
        assert!(store.check().unwrap().is_sound(), "{at}: {:?}", store.check().unwrap());
        verify(&store);
        let left = tidy(&store, work);
        assert!(
            left == states.before || left == states.after,
            "{at}: {left:?}\nbefore {:?}\nafter {:?}",
            states.before,
            states.after
        );
        verify(&store);
        work.set_up(&store);
        (work.run)(&store).unwrap_or_else(|error| panic!("{at}: again: {error}"));
        assert_eq!(tidy(&store, work), states.after, "{at}: again");
    }
    unreachable!("the work ends")
}

fn harm_all(harm: Harm) {
    let root = rustix::process::geteuid().is_root();
    let drivers: &[DriverKind] =
        if root { &[DriverKind::Native, DriverKind::Overlay] } else { &[DriverKind::Native] };
    // Two at a time: each waits for its children most of the time.
    std::thread::scope(|scope| {
        for driver in drivers {
            scope.spawn(|| {
                for work in &WORKS {
                    let points = harm_everywhere(work, *driver, harm);
                    assert!(points >= 2, "{} passes {points} fail points only", work.name);
                }
            });
        }
    });
}

#[test]
fn death_at_any_step_breaks_nothing() {
    harm_all(Harm::Death);
}

#[test]
fn an_io_error_at_any_step_is_reported_and_breaks_nothing() {
    harm_all(Harm::IoError);
}

#[test]
fn a_store_can_be_opened_after_death_at_any_step_of_its_creation() {
    for point in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("store");
        let end = run_child("open", DriverKind::Native, &root, point, Harm::Death);
        let store = open(&root, DriverKind::Native);
        WORKS[0].set_up(&store);
        (WORKS[0].run)(&store).unwrap();
        store.gc(Policy::KEEP_CACHE).unwrap();
        verify(&store);
        assert!(store.check().unwrap().is_clean(), "point {point}: {:?}", store.check().unwrap());
        if end == End::Done {
            assert!(point > 5, "the creation passes {point} fail points only");
            return;
        }
    }
}
