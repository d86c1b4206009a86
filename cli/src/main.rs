//! `lap`: builds Dockerfiles, keeps images, and runs them.
//!
//! This crate reads the command line and the environment, translates them into the engine's requests,
//! draws what the engine says, and chooses the exit code. Nothing is decided here about building.

mod absent;
mod args;
mod attest_args;
mod build_filter;
mod build_flags;
mod build_targets;
mod cache_args;
mod cache_mount_args;
mod call;
mod commands;
mod compose_args;
mod config_file;
mod container_args;
mod context;
mod daemon_args;
mod debug_args;
mod device_args;
mod docker_args;
mod docker_config;
mod dockerd_args;
mod error;
mod go_flags;
mod history_args;
mod image_args;
mod isolation_args;
mod key_args;
mod layer_args;
mod limit_args;
mod listing;
mod live_args;
mod log_args;
mod log_driver_args;
mod manifest_args;
mod mount_args;
mod network_args;
mod network_commands;
mod oci_args;
mod output;
mod pairs;
mod places;
mod prune_args;
mod ps_format;
mod reference_args;
mod registry_args;
mod render;
mod retention;
mod shim;
mod signals;
mod step_args;
mod supervision_args;
mod template;
mod terminal;
mod units;
mod volume_args;

use engine::table;
use std::process::ExitCode;

use clap::FromArgMatches as _;

fn main() -> ExitCode {
    engine::keep_ended_children();
    if let Some(code) = commands::oci_runtime::run_by_name() {
        return code;
    }
    if let Some(code) = shim::command() {
        return code;
    }
    let cli = match commands::daemon::by_name() {
        Some(Ok(cli)) => cli,
        Some(Err(error)) => return error.report(),
        None => match typed() {
            Ok(cli) => cli,
            Err(absent) => return absent.report(),
        },
    };
    match commands::dispatch(cli) {
        Ok(code) => code,
        Err(error) => error.report(),
    }
}

/// The command line as typed. What is no command line ends here; what would be one of Docker is told.
fn typed() -> Result<args::Cli, error::CliError> {
    let command = commands::reference::command;
    let matches = match go_flags::parse(command, std::env::args_os().collect()) {
        Ok(matches) => matches,
        Err((error, words)) => {
            match absent::explain(&error).or_else(|| go_flags::explain(command, &error, &words)) {
                Some(explained) => return Err(explained),
                None => error.exit(),
            }
        }
    };
    Ok(args::Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::args::Cli::command().debug_assert();
    }
}
