//! `lap key`

use std::process::ExitCode;

use engine::error::EngineError;

use crate::error::CliError;
use crate::key_args::{GenerateArgs, KeyCommand};
use crate::terminal::print_line;

pub(crate) fn dispatch(command: KeyCommand) -> Result<ExitCode, CliError> {
    match command {
        KeyCommand::Generate(args) => generate(&args),
    }
}

/// Makes a key, and prints the public half as a policy names it.
fn generate(args: &GenerateArgs) -> Result<ExitCode, CliError> {
    let made = engine::signing::generate(&args.file);
    let files = made.map_err(|error| CliError::engine(&EngineError::from(error)))?;
    print_line(&files.id.to_string());
    Ok(ExitCode::SUCCESS)
}
