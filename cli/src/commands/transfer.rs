//! `lap pull`, `lap push`, `lap load` and `lap save`

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use base::Reference;
use base::reference::has_tag;
use engine::error::EngineError;
use engine::push::{PushRequest, PushedImage};
use engine::request::{Destination, LoadSource, SaveFormat, SaveRequest};

use super::{StoreChoice, open, platform, platforms, reference};
use crate::error::CliError;
use crate::image_args::{ArchiveFormat, LoadArgs, PullArgs, PushArgs, SaveArgs};
use crate::render::{self, Mode};
use crate::signals;
use crate::terminal::{complain, print_line};

/// Downloads an image.
pub(crate) fn pull(store: &StoreChoice, args: &PullArgs) -> Result<ExitCode, CliError> {
    let cancel = signals::cancel_token();
    let platform = platform(args.platform.as_deref())?;
    let renderer = render::renderer(if args.quiet { Mode::Quiet } else { Mode::Auto });
    let engine = open(store)?;
    let names = match args.all_tags {
        true if has_tag(&args.image) => {
            return Err(CliError::usage(
                "tag can't be used with --all-tags/-a".to_owned(),
                "leave the tag out",
            ));
        }
        true => engine
            .remote_tags(&args.image, &cancel)?
            .iter()
            .map(|tag| format!("{}:{tag}", args.image))
            .collect(),
        false => vec![args.image.clone()],
    };
    let pulled = names.iter().map(|name| {
        let pulled = engine.pull(name, platform.as_ref(), renderer.clone(), &cancel)?;
        Ok::<_, EngineError>(pulled)
    });
    let pulled = pulled.collect::<Result<Vec<_>, _>>();
    renderer.finish();
    for pulled in pulled? {
        if !args.quiet {
            let state = if pulled.up_to_date { "Image is up to date" } else { "Downloaded newer image" };
            print_line(&format!("Digest: {}\nStatus: {state} for {}", pulled.digest, pulled.name));
        }
        print_line(&pulled.name);
    }
    Ok(ExitCode::SUCCESS)
}

/// Uploads an image. What is printed is what Docker prints where there is no terminal.
pub(crate) fn push(store: &StoreChoice, args: &PushArgs) -> Result<ExitCode, CliError> {
    let cancel = signals::cancel_token();
    let name = reference(&args.image)?;
    if args.all_tags && has_tag(&args.image) {
        return Err(CliError::usage("tag can't be used with --all-tags/-a".to_owned(), "leave the tag out"));
    }
    let request = PushRequest {
        name: args.image.clone(),
        all_tags: args.all_tags,
        platform: platform(args.platform.as_deref())?,
    };
    // A program that reads the output gets lines; progress is for people.
    let mode = if args.quiet || !std::io::stderr().is_terminal() { Mode::Quiet } else { Mode::Auto };
    let renderer = render::renderer(mode);
    if !args.quiet {
        let repository = Reference { tag: None, digest: None, ..name.clone() };
        print_line(&format!("The push refers to repository [{repository}]"));
    }
    let pushed = open(store)?.push(&request, renderer.clone(), &cancel);
    renderer.finish();
    for image in pushed? {
        if args.quiet {
            print_line(&image.name.to_string());
        } else {
            tell_pushed(&image);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn tell_pushed(image: &PushedImage) {
    for blob in &image.blobs {
        print_line(&format!("{}: {}", blob.digest.short(), blob.outcome));
    }
    if !image.left_out.is_empty() {
        let platforms: Vec<String> = image.left_out.iter().map(ToString::to_string).collect();
        complain(&format!(
            "note: the store does not have {} of this image; what it has was pushed",
            platforms.join(", ")
        ));
    }
    let name = image.name.tag.clone().unwrap_or_else(|| image.name.manifest_name());
    print_line(&format!("{name}: digest: {} size: {}", image.digest, image.size));
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
