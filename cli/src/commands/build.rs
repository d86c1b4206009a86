//! `lap build`

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use engine::Engine;
use engine::config_file::ConfigFile;
use engine::error::BuildError;
use engine::report::BuildReport;
use engine::request::{
    BuildRequest, ContextModes, ContextSource, Destination, DockerfileSource, FailureOutput, Output,
    SharedCaches,
};
use engine::source_policy::SourcePolicies;

use super::{
    StoreChoice, debug, environment, network_mode, open, parsed, platforms, pull_policy, source_date_epoch,
    with_environment,
};
use crate::args::BuildArgs;
use crate::build_targets::Targets;
use crate::call::Question;
use crate::debug_args::OnError;
use crate::docker_config::DockerConfig;
use crate::error::CliError;
use crate::pairs::pairs;
use crate::render::{self, FailedStep, Mode};
use crate::retention::AutoCollect;
use crate::terminal::{complain, print_line};
use crate::{build_flags, build_targets, cache_args, call, config_file, context, signals};

/// Builds, tells the result, and writes the id file.
pub(crate) fn build(store: &StoreChoice, args: BuildArgs) -> Result<ExitCode, CliError> {
    let call = call::parse(args.call.as_deref(), args.check)?;
    let cancel = signals::cancel_token();
    let sources = context::sources(&args.context, args.file.as_deref())?;
    let config = config_file::read()?;
    let request = request(&args, &sources, &config)?;
    let collector = AutoCollect::new(config.retention)?;
    let renderer = render::renderer(if args.quiet { Mode::Quiet } else { args.progress });
    let engine = open(store)?;
    if let (Some(Question::Outline), [_, ..]) = (call.question, request.further_targets.as_slice()) {
        let hint = "ask for one target after the other";
        return Err(CliError::usage("--call=outline is about one target".to_owned(), hint));
    }
    if let Some(question) = call.question {
        return call::ask(call, question, &engine, &request, &renderer, &cancel);
    }
    collector.warn_of_low_space(&engine, renderer.as_ref());
    let result = engine.build(&request, renderer.clone(), &cancel);
    renderer.finish();
    if let (Ok(BuildReport { record: Some(record), .. }), true) = (&result, tells_timing(&args)) {
        complain(&format!("\n{}", render::timing(&record.timing)));
    }
    let told = match result {
        Ok(report) => tell(&args, &request, &report),
        Err(error) => tell_failure(&args, &request, &engine, (&error, &renderer.failed_steps())),
    };
    // A failed build has filled the disk as well.
    collector.collect_if_due(&engine);
    told
}

/// Tells why the build failed. With `--on-error shell` that is told at once, before the shell.
fn tell_failure(
    args: &BuildArgs,
    request: &BuildRequest,
    engine: &Engine,
    (error, steps): (&BuildError, &[FailedStep]),
) -> Result<ExitCode, CliError> {
    let failure = CliError::build(error, steps);
    match (args.failure.on_error, error.kept()) {
        (Some(OnError::Shell), Some(build)) => {
            let code = failure.report();
            debug::after_build(engine, build, request);
            Ok(code)
        }
        _ => Err(failure),
    }
}

/// Programs read the other forms.
fn tells_timing(args: &BuildArgs) -> bool {
    !args.quiet && !matches!(args.progress, Mode::Quiet | Mode::Rawjson)
}

/// Writes the files about the result, and prints the id when that is all that is wanted.
fn tell(args: &BuildArgs, request: &BuildRequest, report: &BuildReport) -> Result<ExitCode, CliError> {
    if let Some(path) = &args.iidfile {
        write(path, &build_targets::ids(report))?;
    }
    if let Some(path) = &args.metadata_file {
        write(path, &format!("{:#}\n", build_targets::metadata(report)))?;
    }
    if args.quiet && !writes_to_stdout(request) {
        report.targets.iter().for_each(|target| print_line(&target.image_id.to_string()));
    }
    Ok(ExitCode::SUCCESS)
}

/// What the words of `lap build` mean.
pub(super) fn from_words(words: &[String]) -> Result<BuildArgs, CliError> {
    parsed("build", words)
}

/// The same of a context that was found already.
pub(super) fn request_of(
    words: &[String],
    context: ContextSource,
    dockerfile: DockerfileSource,
) -> Result<BuildRequest, CliError> {
    let mut words = words.to_vec();
    // It has to be there, and is not looked at.
    words.push(".".to_owned());
    let sources = context::Sources { context, dockerfile, _spool: None };
    request(&from_words(&words)?, &sources, &config_file::read()?)
}

/// The variable that names the file of a source policy, for all of BuildKit's clients.
const SOURCE_POLICY: &str = "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY";

/// The policy of the file that the environment names.
fn source_policies() -> Result<SourcePolicies, CliError> {
    let mut policies = SourcePolicies::default();
    if let Some(path) = environment(SOURCE_POLICY) {
        let failed = |error: &dyn std::error::Error| {
            CliError::failed(format!("{SOURCE_POLICY}: {path}: {}", base::fault::chain(error)))
        };
        let text = std::fs::read_to_string(&path).map_err(|error| failed(&error))?;
        policies.add_document(&text).map_err(|error| failed(&error))?;
    }
    Ok(policies)
}

pub(super) fn request(
    args: &BuildArgs,
    sources: &context::Sources,
    config: &ConfigFile,
) -> Result<BuildRequest, CliError> {
    args.docker.check()?;
    let targets = Targets::of(args)?;
    let mut build_args: BTreeMap<String, String> =
        args.build_args.iter().filter_map(|entry| with_environment(entry)).collect();
    for (name, value) in DockerConfig::read()?.proxies() {
        build_args.entry(name).or_insert(value);
    }
    let given = build_args.get("SOURCE_DATE_EPOCH").cloned().or_else(|| environment("SOURCE_DATE_EPOCH"));
    let epoch_of_context = given.as_deref() == Some("context");
    let epoch = match given.filter(|_| !epoch_of_context) {
        Some(text) => {
            let epoch = source_date_epoch(&text)?;
            build_args.insert("SOURCE_DATE_EPOCH".to_owned(), text);
            Some(epoch)
        }
        None => None,
    };
    Ok(BuildRequest {
        policies: source_policies()?,
        nested: BTreeMap::new(),
        context: sources.context.clone(),
        dockerfile: sources.dockerfile.clone(),
        tags: targets.tags,
        outputs: targets.outputs,
        build_args,
        labels: pairs(&args.labels),
        target: targets.stage,
        further_targets: targets.further,
        platforms: platforms(&args.platforms)?,
        keep_going: args.steps.keep_going,
        jobs: args.steps.jobs.or(config.jobs),
        no_cache: args.no_cache,
        no_cache_filter: args.no_cache_filter.clone(),
        attestations: args.attest.asked()?,
        caches: SharedCaches {
            wait: args.cache_wait,
            signer: args.cache_key.clone(),
            policy: args.cache_policy.clone(),
            ..cache_args::parse(&args.cache_from, &args.cache_to, &args.cache_mounts, &environment)?
        },
        context_modes: args
            .context_modes
            .map(ContextModes::from)
            .or(config.context_modes)
            .unwrap_or_default(),
        named_contexts: context::named(&args.build_contexts)?,
        allow: build_flags::entitlements(&args.allow)?,
        secrets: build_flags::secrets(&args.secrets, &environment)?,
        ssh: build_flags::ssh(&args.ssh, &environment)?,
        steps: build_flags::step_settings(args, &environment)?,
        on_failure: args.failure.output_on_failure.iter().map(|text| failure_output(text)).collect(),
        pull: pull_policy(&args.pull)?,
        network: network_mode(&args.network)?,
        epoch,
        epoch_of_context,
        remembered: !args.no_record,
    })
}

/// `DEST` or `PATH=DEST`.
fn failure_output(text: &str) -> FailureOutput {
    match text.split_once('=') {
        Some((path, destination)) => {
            FailureOutput { path: Some(path.to_owned()), destination: destination.into() }
        }
        None => FailureOutput { path: None, destination: text.into() },
    }
}

fn write(path: &Path, text: &str) -> Result<(), CliError> {
    std::fs::write(path, text)
        .map_err(|error| CliError::failed(format!("cannot write {}: {error}", path.display())))
}

fn writes_to_stdout(request: &BuildRequest) -> bool {
    let is_stream = |output: &Output| match output {
        Output::Oci(to, _) | Output::Docker(to, _) | Output::Tar(to, _) => {
            matches!(to, Destination::Stream(_))
        }
        Output::Store(_)
        | Output::Registry(_)
        | Output::Local(..)
        | Output::OciLayout(..)
        | Output::CacheOnly => false,
    };
    let further = request.further_targets.iter().flat_map(|target| &target.outputs);
    request.outputs.iter().chain(further).any(is_stream)
}
