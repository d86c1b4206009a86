//! Runs every conformance case with `lap`, each as a test of its own: `cargo test -p frontend-tests --test cases -- NAME`.

use std::process::ExitCode;
use std::sync::{Arc, LazyLock};

use frontend_tests::{
    case,
    lap::{Lap, Seed},
    scene,
};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let cases = match case::all() {
        Ok(cases) => cases,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    if testkit::privilege::root().is_none() {
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::from_args();
    let seed = Arc::new(LazyLock::new(Seed::new as fn() -> Seed));
    let trials = cases.into_iter().map(|case| {
        let seed = Arc::clone(&seed);
        Trial::test(case.name.clone(), move || run(&case, &seed))
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn run(case: &case::Case, seed: &Seed) -> Result<(), Failed> {
    let problems = scene::perform(case, &Lap::new(seed));
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Failed::from(format!("{}\n{}", case.about.what, problems.join("\n"))))
    }
}
