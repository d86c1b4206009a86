//! `lap history`: the builds that are remembered.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use engine::Engine;
use engine::history::{BuildDetails, BuildSummary, Status, UsageDocument, trace};
use serde_json::{Value, json};

use super::{StoreChoice, images, now, open, transfer};
use crate::build_filter::BuildFilters;
use crate::error::CliError;
use crate::history_args::{
    AnyHistoryArgs, BuildExportArgs, BuildHistoryCommand, BuildImportArgs, BuildInspectArgs, BuildLogsArgs,
    BuildLsArgs, BuildNames, BuildRmArgs, LogForm,
};
use crate::listing::{self, Columns};
use crate::render::{self, Mode};
use crate::terminal::{complain, print, print_line, printable};
use crate::{signals, table, template, units};

/// How much of a name is shown in lists, in characters.
const NAME_SHOWN: usize = 40;

/// An image's history, or what is asked about builds.
pub(crate) fn dispatch(store: &StoreChoice, args: &AnyHistoryArgs) -> Result<ExitCode, CliError> {
    match (&args.builds, &args.image) {
        (Some(BuildHistoryCommand::Ls(args)), _) => list(store, args),
        (Some(BuildHistoryCommand::Inspect(args)), _) => inspect(store, args),
        (Some(BuildHistoryCommand::Logs(args)), _) => logs(store, args),
        (Some(BuildHistoryCommand::Rm(args)), _) => remove(store, args),
        (Some(BuildHistoryCommand::Pin(args)), _) => pin(store, args, true),
        (Some(BuildHistoryCommand::Unpin(args)), _) => pin(store, args, false),
        (Some(BuildHistoryCommand::Export(args)), _) => export(store, args),
        (Some(BuildHistoryCommand::Import(args)), _) => import(store, args),
        (None, Some(image)) => images::history(store, image),
        (None, None) => Err(CliError::usage("no image is named".to_owned(), "lap history ls lists builds")),
    }
}

fn list(store: &StoreChoice, args: &BuildLsArgs) -> Result<ExitCode, CliError> {
    let filters = BuildFilters::parse(&args.filters, now())?;
    let builds: Vec<BuildSummary> =
        open(store)?.builds()?.into_iter().filter(|build| filters.fit(build, now())).collect();
    if let Some(format) = &args.format {
        let columns = Columns {
            template: "{{.ID}}\t{{.Name}}\t{{.Status}}\t{{.CreatedAt}}",
            titles: &[("ID", "BUILD ID")],
        };
        listing::show(&builds.iter().map(fields).collect::<Vec<_>>(), Some(format), &columns)?;
        return Ok(ExitCode::SUCCESS);
    }
    let row = |build: &BuildSummary| {
        let name =
            if args.no_trunc { build.name.clone() } else { build.name.chars().take(NAME_SHOWN).collect() };
        vec![
            build.id.clone(),
            name,
            build.status.name().to_owned(),
            format!("{} ago", units::age(build.created, now())),
            duration(build),
        ]
    };
    let rows: Vec<Vec<String>> = builds.iter().map(row).collect();
    print(&printable(&table::render(&["BUILD ID", "NAME", "STATUS", "CREATED AT", "DURATION"], &rows)));
    Ok(ExitCode::SUCCESS)
}

fn duration(build: &BuildSummary) -> String {
    let end = match (build.ended, build.status) {
        (Some(ended), _) => ended,
        (None, Status::Running) => now(),
        (None, _) => return String::new(),
    };
    format!("{:.1}s", end.duration_since(build.created).as_secs_f64())
}

/// Names after buildx's template fields.
fn fields(build: &BuildSummary) -> Value {
    let seconds = build.ended.map(|ended| ended.duration_since(build.created).as_secs_f64());
    json!({
        "ID": build.id,
        "Ref": build.id,
        "Name": build.name,
        "Status": build.status.name(),
        "CreatedAt": build.created,
        "CompletedAt": build.ended,
        "Duration": duration(build),
        "Seconds": seconds,
        "Pinned": build.pinned,
    })
}

fn inspect(store: &StoreChoice, args: &BuildInspectArgs) -> Result<ExitCode, CliError> {
    let build = open(store)?.build_details(args.build.as_deref())?;
    if let Some(path) = &args.trace {
        let trace = trace::trace(&build).to_string();
        std::fs::write(path, trace)
            .map_err(|error| CliError::failed(format!("cannot write {}: {error}", path.display())))?;
    }
    match &args.format {
        Some(format) => print_line(&template::fill(format, &details_json(&build))?),
        None => print(&printable(&in_full(&build))),
    }
    Ok(ExitCode::SUCCESS)
}

fn details_json(build: &BuildDetails) -> Value {
    let step = |step: &engine::history::RememberedStep| {
        json!({
            "Name": step.name,
            "Outcome": step.document.outcome,
            "Seconds": step.duration().map(|duration| duration.as_secs_f64()),
            "Reasons": step.reasons,
            "Error": step.document.error,
            "Usage": step.document.usage,
        })
    };
    let mut fields = fields(&build.summary);
    let steps: Vec<Value> = build.steps.iter().filter(|step| !step.is_directory).map(step).collect();
    fields["Steps"] = steps.into();
    if let Some(client) = &build.client {
        fields["Ref"] = json!(client.name);
        fields["Response"] = json!(client.response);
    }
    if let Some(document) = &build.document {
        fields["Request"] = json!(document.request);
        fields["Isolation"] = json!(document.isolation);
        fields["Error"] = json!(document.error);
        fields["Image"] = json!(document.image);
        fields["Names"] = json!(document.names);
    }
    fields
}

fn in_full(build: &BuildDetails) -> String {
    let summary = &build.summary;
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "{name:<12} {value}");
        }
    };
    line("Build:", &summary.id);
    line("Name:", &summary.name);
    line("Ref:", build.client.as_ref().map_or("", |client| &client.name));
    line("Status:", summary.status.name());
    line("Started:", &summary.created.to_string());
    line("Duration:", &duration(summary));
    if let Some(document) = &build.document {
        let request = &document.request;
        line("Context:", &request.context);
        line("Dockerfile:", &request.dockerfile);
        line("Target:", request.target.as_deref().unwrap_or_default());
        line("Platforms:", &request.platforms.join(", "));
        let args: Vec<String> =
            request.build_args.iter().map(|(name, value)| format!("{name}={value}")).collect();
        line("Build args:", &args.join(" "));
        line("Isolation:", &document.isolation);
        line("Image:", &document.image.map(|image| image.to_string()).unwrap_or_default());
        line("Names:", &document.names.join(", "));
        line("Error:", document.error.as_deref().unwrap_or_default());
    }
    text.push('\n');
    let rows: Vec<Vec<String>> = build.steps.iter().filter(|step| !step.is_directory).map(step_row).collect();
    text.push_str(&table::render(
        &["STEP", "OUTCOME", "DURATION", "CPU", "MEMORY", "READ / WRITTEN", "WHY"],
        &rows,
    ));
    text
}

fn step_row(step: &engine::history::RememberedStep) -> Vec<String> {
    let outcome = serde_json::to_value(step.document.outcome).unwrap_or_default();
    let used =
        |text: fn(&UsageDocument) -> String| step.document.usage.as_ref().map(text).unwrap_or_default();
    vec![
        step.name.clone(),
        outcome.as_str().unwrap_or_default().replace('_', " "),
        step.duration().map(|duration| format!("{:.1}s", duration.as_secs_f64())).unwrap_or_default(),
        used(|usage| format!("{:.1}s", (usage.cpu_user_ms as f64 + usage.cpu_system_ms as f64) / 1000.0)),
        used(|usage| units::bytes(usage.peak_memory)),
        used(|usage| format!("{} / {}", units::bytes(usage.read_bytes), units::bytes(usage.written_bytes))),
        if step.ran() { step.reasons.first().cloned().unwrap_or_default() } else { String::new() },
    ]
}

fn logs(store: &StoreChoice, args: &BuildLogsArgs) -> Result<ExitCode, CliError> {
    let mode = match args.progress {
        LogForm::Plain => Mode::Plain,
        LogForm::Rawjson => Mode::Rawjson,
    };
    let renderer = render::renderer_to(mode, Box::new(std::io::stdout()));
    for event in open(store)?.build_log(args.build.as_deref())? {
        renderer.emit(event);
    }
    renderer.finish();
    Ok(ExitCode::SUCCESS)
}

fn remove(store: &StoreChoice, args: &BuildRmArgs) -> Result<ExitCode, CliError> {
    let engine = open(store)?;
    // One that is removed changes what ^1 is.
    let builds = match args.all {
        true => all_that_ended(&engine)?,
        false => ids(&engine, &args.builds)?,
    };
    for build in builds {
        print_line(&engine.remove_build(&build)?);
    }
    Ok(ExitCode::SUCCESS)
}

fn all_that_ended(engine: &Engine) -> Result<Vec<String>, CliError> {
    let ended = |build: &BuildSummary| build.status != Status::Running;
    Ok(engine.builds()?.into_iter().filter(ended).map(|build| build.id).collect())
}

/// The whole ids of builds.
fn ids(engine: &Engine, names: &[String]) -> Result<Vec<String>, CliError> {
    names.iter().map(|name| Ok(engine.build_id(Some(name))?)).collect()
}

fn pin(store: &StoreChoice, args: &BuildNames, pinned: bool) -> Result<ExitCode, CliError> {
    let engine = open(store)?;
    for build in &args.builds {
        print_line(&engine.pin_build(build, pinned)?);
    }
    Ok(ExitCode::SUCCESS)
}

fn export(store: &StoreChoice, args: &BuildExportArgs) -> Result<ExitCode, CliError> {
    let cancel = signals::cancel_token();
    let output = args.output.as_deref().filter(|path| *path != Path::new("-"));
    let engine = open(store)?;
    let builds = match (args.all, args.builds.is_empty()) {
        (true, _) => all_that_ended(&engine)?,
        (false, true) => vec![engine.build_id(None)?],
        (false, false) => args.builds.clone(),
    };
    if builds.is_empty() {
        return Err(CliError::failed("there is no build to export".to_owned()));
    }
    engine.export_builds(&builds, &transfer::destination(output)?, &cancel)?;
    Ok(ExitCode::SUCCESS)
}

fn import(store: &StoreChoice, args: &BuildImportArgs) -> Result<ExitCode, CliError> {
    let cancel = signals::cancel_token();
    let archive = args.archive.as_ref().or(args.file.as_ref()).filter(|path| *path != Path::new("-"));
    let source = transfer::source(archive.map(PathBuf::as_path), "name a file, or pipe an archive in")?;
    for build in open(store)?.import_builds(source, &cancel)? {
        print_line(&build.id);
        if !build.is_new {
            complain(&format!("{} was here already and is left as it is", build.id));
        }
    }
    Ok(ExitCode::SUCCESS)
}
