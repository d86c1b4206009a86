//! `lap compose logs`

use std::process::ExitCode;

use engine::containers::{Logs, LogsRequest, Record};
use engine::error::EngineError;
use engine::following::Follow as _;
use engine::request::Selection;

use super::super::{StoreChoice, now};
use super::scope::{Member, Scope};
use super::shown::{Lines, Style, coloured, follow, style};
use crate::compose_args::{ProjectArgs, ServiceLogsArgs};
use crate::error::CliError;
use crate::terminal::complain;

/// Shows what containers have written, in the order of its times; or goes on with what they write.
pub(super) fn show(
    store: &StoreChoice,
    project: &ProjectArgs,
    args: &ServiceLogsArgs,
) -> Result<ExitCode, CliError> {
    let scope = Scope::open(store, project, &args.services)?;
    let mut members = scope.members(&args.services)?;
    members.retain(|member| args.index.is_none_or(|index| member.number == index));
    let selection = args.lines.selection(now())?;
    let names: Vec<String> = members.iter().map(|member| member.short_name(&scope.name)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let coloured = coloured(&project.ansi, args.no_color);
    let styles: Vec<Style> = names
        .iter()
        .enumerate()
        .map(|(index, name)| style(name, width, index, coloured, (args.no_log_prefix, args.lines.timestamps)))
        .collect();
    match args.lines.follow {
        true => follow_all(&scope, &members, &styles, selection),
        false => merged(&scope, &members, styles, selection)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A container without a log has written nothing that could be shown, which is told.
fn told(member: &Member, error: &EngineError) {
    complain(&format!("WARNING: {}: {error}", member.name()));
}

fn follow_all(scope: &Scope, members: &[Member], styles: &[Style], selection: Selection) {
    std::thread::scope(|threads| {
        for (member, style) in members.iter().zip(styles) {
            let show = move || {
                if let Err(error) = follow(&scope.engine, &member.container.id, selection, style) {
                    told(member, &error);
                }
            };
            let thread = std::thread::Builder::new().name("compose logs".to_owned());
            if thread.spawn_scoped(threads, show).is_err() {
                complain("WARNING: what a container writes is not shown: there are too many threads");
            }
        }
    });
}

/// A log that is read together with others.
struct Open {
    logs: Logs,
    next: Record,
    lines: Lines,
}

/// Shows records of all logs by their times; those of one log stay in their order.
fn merged(
    scope: &Scope,
    members: &[Member],
    styles: Vec<Style>,
    selection: Selection,
) -> Result<(), CliError> {
    let mut open = Vec::new();
    for (member, style) in members.iter().zip(styles) {
        let request = LogsRequest { container: member.container.id.clone(), selection, follow: false };
        match scope.engine.logs(&request) {
            Ok(mut logs) => {
                if let Some(next) = logs.next()? {
                    open.push(Open { logs, next, lines: Lines::new(style) });
                }
            }
            Err(error) => told(member, &error),
        }
    }
    while let Some(index) = (0..open.len()).min_by_key(|index| open[*index].next.time) {
        let earliest = &mut open[index];
        if !earliest.lines.show(&earliest.next) {
            return Ok(());
        }
        match earliest.logs.next()? {
            Some(next) => earliest.next = next,
            None => open.remove(index).lines.finish(),
        }
    }
    Ok(())
}
