//! The answers of calls for people, in the form of Docker's.

use std::fmt::Write as _;

use super::{CheckReport, Finding, Need, OutlineReport, Source, Span, TargetsReport};
use crate::table;

/// How many lines of the Dockerfile are shown before and after a finding.
const LINES_AROUND: usize = 2;
const RULER: &str = "--------------------";

/// The findings. An error is not shown here; it is told as every error is.
pub fn check(report: &CheckReport) -> String {
    let mut out = match (report.findings.len(), &report.error) {
        (0, Some(_)) => return String::new(),
        (0, None) => return "Check complete, no warnings found.\n".to_owned(),
        (1, _) => "Check complete, 1 warning has been found!\n".to_owned(),
        (many, _) => format!("Check complete, {many} warnings have been found!\n"),
    };
    for finding in &report.findings {
        out.push_str(&warning(finding, &report.source));
    }
    out
}

fn warning(finding: &Finding, source: &Source) -> String {
    let url = finding.url.as_ref().map_or_else(String::new, |url| format!(" - {url}"));
    let mut out = format!("\nWARNING: {}{url}\n{}\n", finding.rule, finding.detail);
    out.push_str(&excerpt(source, finding.span));
    if let Some(help) = &finding.help {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "help: {help}");
    }
    out
}

/// The lines of a span, marked, among their neighbours.
fn excerpt(source: &Source, span: Span) -> String {
    let location = source.location(span);
    let (first, last) = (location.start.line, location.end.line);
    let shown = first.saturating_sub(LINES_AROUND)..=last + LINES_AROUND;
    let mut out = format!("{}:{first}\n{RULER}\n", source.name());
    for (line, text) in (1..).zip(source.text().lines()).filter(|(line, _)| shown.contains(line)) {
        let mark = if (first..=last).contains(&line) { ">>>" } else { "   " };
        let text: String =
            text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect();
        let _ = writeln!(out, " {line:>3} | {mark} {}", text.trim_start_matches('\u{feff}'));
    }
    out.push_str(RULER);
    out.push('\n');
    out
}

/// What a target takes.
pub fn outline(report: &OutlineReport) -> String {
    let outline = &report.outline;
    let mut parts = Vec::new();
    if let Some(name) = &outline.name {
        let mut part = format!("TARGET:      {name}\n");
        if let Some(description) = &outline.description {
            let _ = writeln!(part, "DESCRIPTION: {description}");
        }
        parts.push(part);
    }
    let args: Vec<Vec<String>> = outline
        .args
        .iter()
        .map(|arg| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            vec![arg.name.clone(), text(&arg.value), text(&arg.description)]
        })
        .collect();
    parts.extend(
        (!args.is_empty()).then(|| table::render_narrow(&["BUILD ARG", "VALUE", "DESCRIPTION"], &args)),
    );
    for (title, needs) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        let row = |need: &Need| {
            vec![need.id.clone(), if need.is_required { "true".to_owned() } else { String::new() }]
        };
        let rows: Vec<Vec<String>> = needs.iter().map(row).collect();
        parts.extend((!rows.is_empty()).then(|| table::render_narrow(&[title, "REQUIRED"], &rows)));
    }
    let caches: Vec<Vec<String>> = outline.caches.iter().map(|cache| vec![cache.id.clone()]).collect();
    parts.extend((!caches.is_empty()).then(|| table::render_narrow(&["CACHE"], &caches)));
    parts.join("\n")
}

/// Which targets there are.
pub fn targets(report: &TargetsReport) -> String {
    let row = |target: &super::Target| {
        let name = match (&target.name, target.is_default) {
            (Some(name), true) => format!("{name} (default)"),
            (Some(name), false) => name.clone(),
            (None, _) => "(default)".to_owned(),
        };
        vec![name, target.description.clone().unwrap_or_default()]
    };
    let rows: Vec<Vec<String>> = report.targets.iter().map(row).collect();
    table::render_narrow(&["TARGET", "DESCRIPTION"], &rows)
}
