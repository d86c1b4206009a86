//! Finding and reading the configuration file.

use std::path::PathBuf;

use engine::config_file::ConfigFile;

use crate::commands::environment;
use crate::error::CliError;

/// Names the file, in place of those that are looked for.
pub(crate) const FILE: &str = "LAPSTRAKE_CONFIG";
/// The file of the whole machine.
const SYSTEM_FILE: &str = "/etc/lapstrake/lapstrake.toml";

/// What the file says that the environment names, else the user's, else the machine's, else nothing.
pub(crate) fn read() -> Result<ConfigFile, CliError> {
    let named = environment(FILE).map(PathBuf::from);
    let config = environment("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| environment("HOME").map(|home| PathBuf::from(home).join(".config")));
    let users = config.map(|config| config.join("lapstrake/lapstrake.toml"));
    let candidates = match &named {
        Some(named) => vec![named.clone()],
        None => users.into_iter().chain([PathBuf::from(SYSTEM_FILE)]).collect(),
    };
    for path in candidates {
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                return ConfigFile::parse(&path, &text).map_err(|error| CliError::failed(error.to_string()));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => {}
            Err(error) => {
                return Err(CliError::failed(format!("cannot read {}: {error}", path.display())));
            }
        }
    }
    Ok(ConfigFile::default())
}
