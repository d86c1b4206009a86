//! A clock that is wrong: one that jumps back between builds, and one that goes back all the time.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use base::event::{Event, EventSink};
use base::time::{Clock, FixedClock};
use base::{CancelToken, Timestamp};
use engine::history::document::StepOutcome;
use engine::history::{BuildDetails, Status, trace};
use engine::request::{BuildRequest, ContextSource};
use engine::retention::Retention;
use engine::{Engine, now};

use crate::support::{options, request};

/// A clock that shows a second less each time somebody looks.
struct Backwards {
    start: i64,
    looks: AtomicI64,
}

impl Clock for Backwards {
    fn now(&self) -> Timestamp {
        let looks = self.looks.fetch_add(1, Ordering::SeqCst);
        Timestamp::from_second(self.start - looks).unwrap()
    }
}

struct Unheard;

impl EventSink for Unheard {
    fn emit(&self, _event: Event) {}
}

/// A build of a directory with one file.
fn of_directory(directory: &Path) -> BuildRequest {
    let request = request("FROM scratch\nCOPY f /f\n");
    BuildRequest { context: ContextSource::Directory(directory.to_owned()), ..request }
}

/// Builds, and gives what is remembered of it.
fn build(engine: &Engine, request: &BuildRequest) -> BuildDetails {
    let report = engine.build(request, Arc::new(Unheard), &CancelToken::new()).unwrap();
    engine.build_details(report.record.as_ref().map(|record| record.build.as_str())).unwrap()
}

fn outcome(build: &BuildDetails) -> StepOutcome {
    let steps: Vec<_> = build.steps.iter().filter(|step| !step.is_directory).collect();
    assert_eq!(steps.len(), 1);
    steps[0].document.outcome
}

/// Builds once, again, and after an edit that leaves the size as it is; each time with a clock of `clocks`.
fn three_builds(directory: &Path, clocks: [Arc<dyn Clock>; 3]) -> Option<[BuildDetails; 3]> {
    let context = directory.join("context");
    std::fs::create_dir(&context).unwrap();
    let request = of_directory(&context);
    let builds =
        ["one", "one", "two"].into_iter().zip(clocks).enumerate().map(|(number, (content, clock))| {
            if number != 1 {
                std::fs::write(context.join("f"), content).unwrap();
            }
            let engine = Engine::open_with_clock(options(directory)?, clock).unwrap();
            let build = build(&engine, &request);
            assert_eq!(engine.builds().unwrap().len(), number + 1);
            if number == 2 {
                // What looks at ages comes to an end as well.
                engine.collect(&Retention::default(), false).unwrap();
            }
            Some(build)
        });
    builds.collect::<Option<Vec<_>>>()?.try_into().ok()
}

#[test]
fn a_clock_that_jumped_back_hides_neither_results_nor_changes_nor_reasons() {
    let directory = tempfile::tempdir().unwrap();
    let today = now().as_second();
    let clock = |days: i64| -> Arc<dyn Clock> {
        Arc::new(FixedClock(Timestamp::from_second(today + days * 86_400).unwrap()))
    };
    let Some(builds) = three_builds(directory.path(), [clock(400), clock(0), clock(-1)]) else { return };
    let outcomes = builds.each_ref().map(outcome);
    assert_eq!(outcomes, [StepOutcome::Done, StepOutcome::Cached, StepOutcome::Done]);
    let reasons = builds[2].steps.iter().flat_map(|step| &step.reasons);
    assert_eq!(
        reasons.collect::<Vec<_>>(),
        ["f changed"],
        "records of a later day are earlier builds all the same"
    );
    let Some(engine) = options(directory.path()).map(|options| Engine::open(options).unwrap()) else {
        return;
    };
    let newest = engine.build_details(None).unwrap().summary.id;
    assert_eq!(newest, builds[2].summary.id, "the one that began last, not the one of the latest day");
    let listed: Vec<String> = engine.builds().unwrap().into_iter().map(|build| build.id).collect();
    assert_eq!(listed, [2, 1, 0].map(|number: usize| builds[number].summary.id.clone()));
}

#[test]
fn a_clock_that_goes_back_all_the_time_makes_times_of_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let clock =
        || -> Arc<dyn Clock> { Arc::new(Backwards { start: now().as_second(), looks: AtomicI64::new(0) }) };
    let Some(builds) = three_builds(directory.path(), [clock(), clock(), clock()]) else { return };
    for build in &builds {
        assert_eq!(build.summary.status, Status::Completed);
        let trace = trace::trace(build);
        for event in trace["traceEvents"].as_array().unwrap() {
            assert_eq!(event["dur"], 0, "{event}");
        }
    }
    let outcomes = builds.each_ref().map(outcome);
    assert_eq!(outcomes, [StepOutcome::Done, StepOutcome::Cached, StepOutcome::Done]);
}
