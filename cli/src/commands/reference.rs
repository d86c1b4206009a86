//! What tells about the command line, made from its definition: grouped help, `lap completion` and `lap man`.

use std::process::ExitCode;

use clap::{Command, CommandFactory as _};

use crate::args::Cli;
use crate::error::CliError;
use crate::reference_args::{CompletionArgs, ManArgs};
use crate::terminal::print;

/// What most people need first, in Docker's order.
const COMMON: [&str; 12] =
    ["run", "exec", "ps", "build", "pull", "push", "images", "login", "logout", "search", "version", "info"];

/// Mere groups of commands. What also takes something else than a command is none. A list, because commands are not
/// defined further than their names and first lines until they are needed.
const MANAGEMENT: [&str; 12] = [
    "container",
    "manifest",
    "image",
    "compose",
    "volume",
    "network",
    "cache-mount",
    "builder",
    "system",
    "store",
    "registry",
    "key",
];

/// Columns of a command's name.
const NAME_WIDTH: usize = 16;

/// The definition of the command line, with commands in groups where they are listed.
pub(crate) fn command() -> Command {
    let command = Cli::command();
    let (common, others): (Vec<_>, Vec<_>) = command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .partition(|command| COMMON.contains(&command.get_name()));
    let (management, others): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|command| MANAGEMENT.contains(&command.get_name()));
    let mut common = common;
    common.sort_by_key(|command| COMMON.iter().position(|name| *name == command.get_name()));
    let groups = [
        group("Common Commands", &common),
        group("Management Commands", &management),
        group("Commands", &others),
    ];
    let template = format!(
        "Usage:  lap [OPTIONS] COMMAND\n\n{{about}}\n\n{}Global Options:\n{{options}}\n\nRun 'lap COMMAND --help' for more information on a command.\n",
        groups.concat()
    );
    command.help_template(template)
}

fn group(title: &str, commands: &[&Command]) -> String {
    let line = |command: &&Command| {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        format!("  {:NAME_WIDTH$}{about}\n", command.get_name())
    };
    let lines: String = commands.iter().map(line).collect();
    format!("{title}:\n{lines}\n")
}

/// Prints what a shell reads to complete what is typed.
pub(super) fn completion(args: &CompletionArgs) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(clap_complete::Shell::from(args.shell), &mut Cli::command(), "lap", &mut script);
    print(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}

/// Writes a manual page for every command.
pub(super) fn man(args: &ManArgs) -> Result<ExitCode, CliError> {
    let directory = &args.directory;
    let written =
        std::fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(Cli::command(), directory));
    written.map_err(|error| {
        CliError::failed(format!("cannot write manual pages to {}: {error}", directory.display()))
    })?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn groups_of_commands_are_listed_as_such() {
        let mut command = Cli::command();
        command.build();
        let is_group = |command: &&Command| {
            let commands = command.get_subcommands().filter(|command| command.get_name() != "help").count();
            let is_shown = !command.is_hide_set() && command.get_name() != "help";
            is_shown && commands > 0 && command.get_positionals().next().is_none()
        };
        let groups: Vec<_> = command.get_subcommands().filter(is_group).map(Command::get_name).collect();
        assert_eq!(groups, MANAGEMENT);
    }

    /// The first lines of commands. They are lost if what has the arguments of a command has a documentation comment, so
    /// these have ordinary ones.
    fn first_lines(command: &Command, path: &str, found: &mut BTreeMap<String, String>) {
        for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
            let path = format!("{path} {}", command.get_name());
            found.insert(path.clone(), command.get_about().map(ToString::to_string).unwrap_or_default());
            first_lines(command, &path, found);
        }
    }

    #[test]
    fn first_lines_are_the_same_before_and_after_a_command_is_needed() {
        let mut command = Cli::command();
        let mut listed = BTreeMap::new();
        first_lines(&command, "", &mut listed);
        command.build();
        let mut shown = BTreeMap::new();
        first_lines(&command, "", &mut shown);
        shown.retain(|path, _| listed.contains_key(path));
        assert_eq!(shown, listed);
        assert!(listed.len() > 50, "{listed:?}");
    }
}
