//! `lap inspect`, and `lap container inspect`: the documents that Docker shows.

use std::process::ExitCode;

use docker::documents;
use engine::error::EngineError;
use serde_json::Value;

use super::super::{StoreChoice, open};
use crate::container_args::{AnyInspectArgs, ContainerInspectArgs};
use crate::error::{CliError, FAILED};
use crate::template;
use crate::terminal::print_line;

/// Shows containers in full.
pub(super) fn containers(store: &StoreChoice, args: &ContainerInspectArgs) -> Result<ExitCode, CliError> {
    let engine = open(store)?;
    show(&args.containers, args.format.as_deref(), |name| {
        Ok(documents::containers::document(&engine, &engine.container(name)?, args.size)?)
    })
}

/// Shows whatever has a name: containers, else images, else networks, else volumes.
pub(crate) fn any(store: &StoreChoice, args: &AnyInspectArgs) -> Result<ExitCode, CliError> {
    let engine = open(store)?;
    let kind = args.kind.as_deref();
    let of_kind = |wanted: &str| kind.is_none_or(|kind| kind == wanted);
    show(&args.names, args.format.as_deref(), |name| {
        if of_kind("container") {
            match engine.container(name) {
                Err(EngineError::NoSuchContainer(_)) if kind.is_none() => {}
                found => return Ok(documents::containers::document(&engine, &found?, args.size)?),
            }
        }
        if of_kind("image") {
            match engine.inspect(name) {
                Err(EngineError::NoSuchImage(_)) if kind.is_none() => {}
                found => return Ok(documents::images::document(&found?, &engine.image_layers(name)?)),
            }
        }
        if of_kind("network") {
            match engine.find_network(name) {
                Err(error) if error.is_missing_network() && kind.is_none() => {}
                found => return Ok(documents::networks::document(&engine, &found?)?),
            }
        }
        match engine.volume(name) {
            Err(error) if error.is_missing_volume() && kind.is_none() => {
                Err(CliError::failed(format!("No such object: {name}")))
            }
            found => Ok(documents::volumes::document(&found?)),
        }
    })
}

/// Prints what is found of all names, and fails if something is not.
pub(in super::super) fn show(
    names: &[String],
    format: Option<&str>,
    find: impl Fn(&str) -> Result<Value, CliError>,
) -> Result<ExitCode, CliError> {
    let mut found = Vec::new();
    let mut code = ExitCode::SUCCESS;
    for name in names {
        match find(name) {
            Ok(value) => found.push(value),
            Err(error) => {
                error.report();
                code = ExitCode::from(FAILED);
            }
        }
    }
    match format {
        Some(format) if format != "json" => {
            for value in &found {
                print_line(&template::fill(format, value)?);
            }
        }
        Some(_) => print_line(&Value::from(found).to_string()),
        None => print_line(&format!("{:#}", Value::from(found))),
    }
    Ok(code)
}
