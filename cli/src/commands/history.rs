//! `lap history ls|inspect|logs|rm`: the builds that are remembered.

use std::fmt::Write as _;
use std::process::ExitCode;

use engine::history::{BuildDetails, BuildSummary, Status, UsageDocument, trace};
use serde_json::{Value, json};

use super::{StoreChoice, images, now, open};
use crate::error::CliError;
use crate::history_args::{
    AnyHistoryArgs, BuildHistoryCommand, BuildInspectArgs, BuildLogsArgs, BuildLsArgs, BuildRmArgs, LogForm,
};
use crate::render::{self, Mode};
use crate::terminal::{print, print_line};
use crate::{table, template, units};

/// How much of a name is shown in lists, in characters.
const NAME_SHOWN: usize = 40;

/// An image's history, or what is asked about builds.
pub(crate) fn dispatch(store: &StoreChoice, args: &AnyHistoryArgs) -> Result<ExitCode, CliError> {
    match (&args.builds, &args.image) {
        (Some(BuildHistoryCommand::Ls(args)), _) => list(store, args),
        (Some(BuildHistoryCommand::Inspect(args)), _) => inspect(store, args),
        (Some(BuildHistoryCommand::Logs(args)), _) => logs(store, args),
        (Some(BuildHistoryCommand::Rm(args)), _) => remove(store, args),
        (None, Some(image)) => images::history(store, image),
        (None, None) => Err(CliError::usage("no image is named".to_owned(), "lap history ls lists builds")),
    }
}

fn list(store: &StoreChoice, args: &BuildLsArgs) -> Result<ExitCode, CliError> {
    let builds = open(store)?.builds()?;
    if let Some(format) = &args.format {
        for build in &builds {
            print_line(&template::fill(format, &fields(build))?);
        }
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
    print(&table::render(&["BUILD ID", "NAME", "STATUS", "CREATED AT", "DURATION"], &rows));
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
        None => print(&in_full(&build)),
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
        used(|usage| format!("{:.1}s", (usage.cpu_user_ms + usage.cpu_system_ms) as f64 / 1000.0)),
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
    let ended = |build: &BuildSummary| build.status != Status::Running;
    let builds = match args.all {
        true => engine.builds()?.into_iter().filter(ended).map(|build| build.id).collect(),
        false => args.builds.clone(),
    };
    for build in builds {
        print_line(&engine.remove_build(&build)?);
    }
    Ok(ExitCode::SUCCESS)
}
