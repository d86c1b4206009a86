//! `lap system start-containers`

use std::process::ExitCode;

use super::{StoreChoice, open};
use crate::error::{CliError, FAILED};
use crate::prune_args::StartContainersArgs;
use crate::terminal::{print, print_line};

/// Starts the containers that are to run whenever the machine does, and prints their names.
pub(crate) fn start_containers(
    store: &StoreChoice,
    args: &StartContainersArgs,
) -> Result<ExitCode, CliError> {
    let engine = open(store)?;
    if args.systemd_unit {
        let program = std::env::current_exe()
            .map_err(|error| CliError::failed(format!("cannot find our own program: {error}")))?;
        print(&unit(&program.display().to_string(), &engine.root().display().to_string()));
        return Ok(ExitCode::SUCCESS);
    }
    let mut code = ExitCode::SUCCESS;
    for started in engine.start_containers_of_boot()? {
        match started.result {
            Ok(()) => print_line(&started.name),
            Err(error) => {
                CliError::engine(&error).report();
                code = ExitCode::from(FAILED);
            }
        }
    }
    Ok(code)
}

/// A unit that starts the containers. Their shims belong to it, so that the end of the machine is told to them, and
/// they end the containers as asked. That one container cannot be started must not end the others, hence the `-`.
fn unit(program: &str, root: &str) -> String {
    format!(
        "[Unit]\n\
         Description=Containers of lap that run whenever the machine does\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         Delegate=yes\n\
         ExecStart=-{} --root {} system start-containers\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n",
        quoted(program),
        quoted(root)
    )
}

/// A word as systemd reads it (`systemd.service(5)`, "Command lines").
fn quoted(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_starts_the_containers_of_this_store() {
        let unit = unit("/usr/bin/lap", "/srv/my store/100%");
        assert!(
            unit.contains(
                "ExecStart=-\"/usr/bin/lap\" --root \"/srv/my store/100%%\" system start-containers\n"
            ),
            "{unit}"
        );
    }
}
