//! A team on one cache of records: twenty builders, fifty commits on each of five branches that are built at once, and every step is
//! run exactly once, since who needs what another makes waits for it.
//!
//! Which steps there are follows from the commits alone: a step is another one whenever a file is that it or one before it copies.
//! So the test knows how many there are in all, and compares.
//!
//! Beside it, the same team builds the same with `type=registry`: each branch has one document in a registry, read with the main branch's and
//! overwritten by every build. A model says how many steps that takes if each build of a round reads what the round before wrote; the real
//! team may do a little better or worse, because builds of a round see each other's documents or do not. The first commits show that the model
//! is right; `make soak` builds all of them.

mod common;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::time::{Duration, Instant};

use common::{build, steps_run};
use testkit::{Context, DockerRegistry, TestEnv};

const BUILDERS: usize = 20;
/// So many of them start with nothing every time, as runners of a continuous integration do.
const RUNNERS: usize = 10;
const BRANCHES: usize = 5;
const COMMITS: usize = 50;
/// How many of the commits are built with documents too, unless there is time for all.
const COMPARED: usize = 10;
/// How many services the project has; a commit is built for one of them.
const SERVICES: usize = 3;
/// How many files all services copy first.
const COMMON: usize = 2;
/// How many files each has of its own.
const OWN: usize = 4;
/// How many steps a build has.
const STEPS: usize = COMMON + OWN;

/// A step: the files up to the one that it copies.
type Step = Vec<String>;

/// A build of the team.
struct Job {
    branch: usize,
    builder: usize,
    /// What the steps copy, in order.
    files: Vec<String>,
}

/// Numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    /// The next number below `limit` (Knuth's MMIX generator).
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// What the team builds, in order. Branch 0 is main; the others take over what main has now and then.
fn jobs(seed: u64) -> Vec<Job> {
    let mut numbers = Numbers(seed);
    let files: Vec<String> = (0..COMMON + SERVICES * OWN).map(|file| file.to_string()).collect();
    let mut branches = vec![files; BRANCHES];
    let mut jobs = Vec::new();
    for commit in 0..COMMITS {
        let first = numbers.below(BUILDERS);
        for branch in 0..BRANCHES {
            let own = COMMON + numbers.below(SERVICES) * OWN;
            if branch > 0 && numbers.below(8) == 0 {
                branches[branch] = branches[0].clone();
            } else {
                // What changes often is copied late.
                let step = numbers.below(STEPS).max(numbers.below(STEPS));
                let file = if step < COMMON { step } else { own + step - COMMON };
                branches[branch][file] = format!("{file} of {branch} at {commit}");
            }
            let files = &branches[branch];
            let files = [&files[..COMMON], &files[own..own + OWN]].concat();
            // Builds of one round are of different builders, because they run at once.
            jobs.push(Job { branch, builder: (first + branch * BUILDERS / BRANCHES) % BUILDERS, files });
        }
    }
    jobs
}

impl Job {
    fn steps(&self) -> impl Iterator<Item = Step> {
        (1..=STEPS).map(|count| self.files[..count].to_vec())
    }

    fn starts_empty(&self) -> bool {
        self.builder < RUNNERS
    }
}

/// How many steps would run if each branch had one document that every build overwrites.
fn steps_with_documents(jobs: &[Job]) -> usize {
    let mut documents: HashMap<usize, HashSet<Step>> = HashMap::new();
    let mut stores: HashMap<usize, HashSet<Step>> = HashMap::new();
    let mut run = 0;
    for round in jobs.chunks(BRANCHES) {
        let before = documents.clone();
        for job in round {
            let steps: HashSet<Step> = job.steps().collect();
            let mut known = stores.entry(job.builder).or_default().clone();
            known.extend([0, job.branch].iter().filter_map(|branch| before.get(branch)).flatten().cloned());
            run += steps.difference(&known).count();
            if !job.starts_empty() {
                stores.entry(job.builder).or_default().extend(steps.iter().cloned());
            }
            documents.insert(job.branch, steps);
        }
    }
    run
}

/// What is typed for one cache of records in a directory.
fn with_records(cache: &Path) -> impl Fn(&Job) -> Vec<String> + Sync {
    let path = cache.display();
    let (from, to) = (format!("type=records,src={path}"), format!("type=records,dest={path}"));
    let flags =
        ["--cache-from", &from, "--cache-to", &to, "--cache-wait=60s", "--no-record"].map(str::to_owned);
    move |_| flags.to_vec()
}

/// What is typed for documents in a registry, one for each branch.
fn with_documents(registry: &DockerRegistry) -> impl Fn(&Job) -> Vec<String> + Sync {
    let of_branch =
        |branch: usize| format!("type=registry,ref={}", registry.reference(&format!("team/app:{branch}")));
    move |job| {
        let (main, own) = (of_branch(0), of_branch(job.branch));
        let to = format!("{own},mode=max");
        ["--cache-from", &own, "--cache-from", &main, "--cache-to", &to, "--no-record"]
            .map(str::to_owned)
            .to_vec()
    }
}

/// Has the team build everything with the caches that `flags` name, the branches at once; gives how many steps were run.
fn run(jobs: &[Job], flags: impl Fn(&Job) -> Vec<String> + Sync) -> usize {
    let copies: String = (0..STEPS).map(|file| format!("COPY {file} /\n")).collect();
    let dockerfile = format!("FROM scratch\n{copies}");
    let mut stores: HashMap<usize, TestEnv> = HashMap::new();
    let run_one = |job: &Job, env: &TestEnv| {
        let flags = flags(job);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let context: Context = env.context();
        context.dockerfile(&dockerfile);
        for (file, content) in job.files.iter().enumerate() {
            context.file(&file.to_string(), content);
        }
        steps_run(&build(env, &context, &flags)).len()
    };
    let mut run = 0;
    for round in jobs.chunks(BRANCHES) {
        for job in round {
            if job.starts_empty() {
                stores.remove(&job.builder);
            }
            stores.entry(job.builder).or_insert_with(TestEnv::new);
        }
        run += std::thread::scope(|scope| {
            let (stores, run_one) = (&stores, &run_one);
            let builds = round.iter().map(|job| scope.spawn(move || run_one(job, &stores[&job.builder])));
            let builds: Vec<_> = builds.collect();
            builds.into_iter().map(|build| build.join().expect("a build goes well")).sum::<usize>()
        });
    }
    run
}

#[test]
fn every_step_is_run_once_in_the_whole_team() {
    let seconds = std::env::var("LAPSTRAKE_SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(0));
    for seed in 1.. {
        let jobs = jobs(seed);
        let steps: BTreeSet<Step> = jobs.iter().flat_map(Job::steps).collect();
        let cache = tempfile::tempdir().unwrap();
        assert_eq!(run(&jobs, with_records(cache.path())), steps.len(), "seed {seed}");
        println!("seed {seed}: {} builds, {} different steps; each was run once", jobs.len(), steps.len());
        let all = steps_with_documents(&jobs);
        assert!(all > steps.len() * 11 / 10, "documents that are overwritten would do as well: {all}");
        let Some(registry) = DockerRegistry::start() else { return };
        let compared = if seconds.is_some() { &jobs[..] } else { &jobs[..COMPARED * BRANCHES] };
        let (model, documents) = (steps_with_documents(compared), run(compared, with_documents(&registry)));
        println!(
            "seed {seed}: with type=registry {documents} steps were run in {} builds; the model says {model}, and {all} in all",
            compared.len()
        );
        assert!(documents.abs_diff(model) * 10 <= model, "the model says {model}, and {documents} were run");
        if Instant::now() >= end {
            break;
        }
    }
}
