//! `lap top`

use std::process::ExitCode;

use engine::Engine;

use super::super::{StoreChoice, now, open};
use crate::error::CliError;
use crate::live_args::TopArgs;
use crate::ps_format::{self, Surroundings};
use crate::table;
use crate::terminal::print;

/// The least width of a column, as in Docker.
const NARROWEST: usize = 20;

/// Shows the processes of a container.
pub(super) fn show(store: &StoreChoice, args: &TopArgs) -> Result<ExitCode, CliError> {
    let Some((name, options)) = args.container_and_options.split_first() else {
        return Err(CliError::usage("no container is named".to_owned(), "lap top CONTAINER [PS OPTIONS]"));
    };
    print(&text(&open(store)?, name, options)?);
    Ok(ExitCode::SUCCESS)
}

/// The processes of a container as a table.
pub(in crate::commands) fn text(engine: &Engine, name: &str, options: &[String]) -> Result<String, CliError> {
    let lines = match ps_format::columns(options) {
        Some(columns) => {
            let processes = engine.container_processes(name)?;
            let around = Surroundings::here(now(), engine.machine_memory());
            let titles = columns.iter().map(|column| column.title.clone()).collect();
            let row = |process| columns.iter().map(|column| column.cell(process, &around)).collect();
            std::iter::once(titles).chain(processes.iter().map(row)).collect()
        }
        None => {
            let shown = engine.container_ps(name, options)?;
            [vec![shown.titles], shown.rows].concat()
        }
    };
    Ok(table::align_widely(&lines, NARROWEST))
}
