//! `lap pull`, `lap load` and `lap save`

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use base::Reference;
use engine::request::{Destination, LoadSource, SaveFormat, SaveRequest};

use super::{StoreChoice, open, platform, platforms};
use crate::error::CliError;
use crate::image_args::{ArchiveFormat, LoadArgs, PullArgs, SaveArgs};
use crate::render::{self, Mode};
use crate::signals;
use crate::terminal::print_line;

/// Downloads an image.
pub(crate) fn pull(store: &StoreChoice, args: &PullArgs) -> Result<ExitCode, CliError> {
    let cancel = signals::cancel_token();
    let platform = platform(args.platform.as_deref())?;
    let renderer = render::renderer(if args.quiet { Mode::Quiet } else { Mode::Auto });
    let engine = open(store)?;
    let pulled = engine.pull(&args.image, platform.as_ref(), renderer.clone(), &cancel);
    renderer.finish();
    let pulled = pulled?;
    if !args.quiet {
        let state = if pulled.up_to_date { "Image is up to date" } else { "Downloaded newer image" };
        print_line(&format!("Digest: {}\nStatus: {state} for {}", pulled.digest, pulled.name));
    }
    print_line(&pulled.name);
    Ok(ExitCode::SUCCESS)
}

/// Loads images into the store.
pub(crate) fn load(store: &StoreChoice, args: &LoadArgs) -> Result<ExitCode, CliError> {
    let cancel = signals::cancel_token();
    let source = source(args.input.as_deref(), "name a file with -i, or pipe an archive in")?;
    let loaded = open(store)?.load(source, &platforms(&args.platforms)?, &cancel)?;
    for image in loaded {
        if args.quiet {
            continue;
        }
        if image.names.is_empty() {
            print_line(&format!("Loaded image ID: {}", image.image_id));
        }
        for name in image.names {
            print_line(&format!("Loaded image: {}", familiar(&name)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes images to an archive.
pub(crate) fn save(store: &StoreChoice, args: &SaveArgs) -> Result<ExitCode, CliError> {
    let cancel = signals::cancel_token();
    let destination = destination(args.output.as_deref())?;
    let format = match args.format {
        ArchiveFormat::DockerArchive => SaveFormat::Docker,
        ArchiveFormat::OciArchive => SaveFormat::Oci,
    };
    let platforms = platforms(&args.platforms)?;
    let request = SaveRequest { images: args.images.clone(), destination, format, platforms };
    open(store)?.save(&request, &cancel)?;
    let _ = std::io::stdout().flush();
    Ok(ExitCode::SUCCESS)
}

/// Where an archive comes from: a file, or standard input. `hint` says how to name one.
pub(super) fn source(input: Option<&Path>, hint: &'static str) -> Result<LoadSource, CliError> {
    match input {
        Some(path) => Ok(LoadSource::Path(path.to_owned())),
        None if std::io::stdin().is_terminal() => {
            Err(CliError::usage("there is no archive on standard input".to_owned(), hint))
        }
        None => Ok(LoadSource::Stream(Box::new(std::io::stdin()))),
    }
}

/// Where an archive goes: the file that `--output` names, or standard output.
pub(super) fn destination(output: Option<&Path>) -> Result<Destination, CliError> {
    match output {
        Some(path) => Ok(Destination::File(path.to_owned())),
        None if std::io::stdout().is_terminal() => {
            let hint = "name a file with -o, or redirect the output";
            Err(CliError::failed_with_hint("refusing to write an archive to a terminal".to_owned(), hint))
        }
        None => Ok(Destination::Stream(Arc::new(Mutex::new(std::io::stdout())))),
    }
}

/// A complete name as people write it.
fn familiar(name: &str) -> String {
    name.parse::<Reference>().map_or_else(|_| name.to_owned(), |reference| reference.familiar())
}
