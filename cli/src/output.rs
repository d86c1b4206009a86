//! `--output`: what was typed to the engine's outputs.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use engine::request::{Destination, Output};

use crate::error::CliError;

/// Reads one `--output`: `type=T,dest=D` as CSV, a directory, or `-`.
pub(crate) fn parse(text: &str) -> Result<Output, CliError> {
    if text == "-" {
        return Ok(Output::Tar(stdout()));
    }
    if !text.contains('=') {
        return Ok(Output::Local(PathBuf::from(text)));
    }
    let (mut kind, mut destination, mut as_tar) = (None, None, true);
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("type", value)) => kind = Some(value),
            Some(("dest", value)) => destination = Some(value),
            Some(("tar", "true")) => as_tar = true,
            Some(("tar", "false")) => as_tar = false,
            _ => {
                let message = format!("invalid output \"{text}\": \"{field}\" is not supported");
                return Err(CliError::usage(message, "write type=oci|docker|tar|local,dest=PATH"));
            }
        }
    }
    let archive = |make: fn(Destination) -> Output| match destination {
        Some("-") | None => Ok(make(stdout())),
        Some(path) => Ok(make(Destination::File(PathBuf::from(path)))),
    };
    match kind {
        Some("image") if destination.is_none() => Ok(Output::Store),
        Some("docker") if destination.is_none() => Ok(Output::Store),
        Some("oci") if as_tar => archive(Output::Oci),
        Some("oci") => match destination {
            Some(path) => Ok(Output::OciLayout(PathBuf::from(path))),
            None => Err(CliError::usage("a layout as files needs a dest".to_owned(), "add dest=DIR")),
        },
        Some(other) if !as_tar => {
            let message = format!("--output type={other} cannot be written as tar=false");
            Err(CliError::usage(message, "only type=oci can"))
        }
        Some("docker") => archive(Output::Docker),
        Some("tar") => archive(Output::Tar),
        Some("local") => match destination {
            Some(path) => Ok(Output::Local(PathBuf::from(path))),
            None => Err(CliError::usage("--output type=local needs a dest".to_owned(), "add dest=DIR")),
        },
        Some(other) => {
            let message = format!("unknown output type \"{other}\"");
            Err(CliError::usage(message, "the types are image, oci, docker, tar and local"))
        }
        None => {
            Err(CliError::usage(format!("output \"{text}\" has no type"), "add type=oci|docker|tar|local"))
        }
    }
}

fn stdout() -> Destination {
    Destination::Stream(Arc::new(Mutex::new(std::io::stdout())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_output() {
        assert!(matches!(parse("out"), Ok(Output::Local(path)) if path.as_os_str() == "out"));
        assert!(matches!(parse("-"), Ok(Output::Tar(Destination::Stream(_)))));
        assert!(matches!(parse("type=oci,dest=a.tar"), Ok(Output::Oci(Destination::File(_)))));
        assert!(matches!(parse("type=oci,tar=false,dest=a"), Ok(Output::OciLayout(_))));
        assert!(matches!(parse("type=docker"), Ok(Output::Store)));
        assert!(matches!(parse("type=docker,dest=-"), Ok(Output::Docker(Destination::Stream(_)))));
        for bad in [
            "type=local",
            "type=zip,dest=x",
            "type=oci,tar=false",
            "type=tar,tar=false,dest=x",
            "dest=x",
            "type=oci,compression=zstd,dest=x",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
