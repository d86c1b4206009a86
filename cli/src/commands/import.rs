//! `lap import`

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use base::git_url::is_http;
use engine::request::{ImportRequest, ImportSource};

use super::{StoreChoice, environment, open, platform, reference, source_date_epoch};
use crate::error::CliError;
use crate::image_args::ImportArgs;
use crate::signals;
use crate::terminal::print_line;

/// Makes an image of a root filesystem, and prints its id.
pub(crate) fn import(store: &StoreChoice, args: ImportArgs) -> Result<ExitCode, CliError> {
    let cancel = signals::cancel_token();
    let name = args.name.as_deref().map(reference).transpose()?;
    if name.as_ref().is_some_and(|name| name.digest.is_some()) {
        let hint = "a digest follows from the content; give a name and a tag";
        return Err(CliError::usage("an image cannot be given a digest".to_owned(), hint));
    }
    let request = ImportRequest {
        source: source(&args.source)?,
        name,
        changes: args.changes,
        message: args.message,
        platform: platform(args.platform.as_deref())?,
        epoch: environment("SOURCE_DATE_EPOCH").map(|text| source_date_epoch(&text)).transpose()?,
    };
    let id = open(store)?.import(request, &cancel)?;
    print_line(&id.to_string());
    Ok(ExitCode::SUCCESS)
}

fn source(text: &str) -> Result<ImportSource, CliError> {
    match text {
        "-" if std::io::stdin().is_terminal() => {
            let hint = "name a file, or pipe an archive in";
            Err(CliError::usage("there is no archive on standard input".to_owned(), hint))
        }
        "-" => Ok(ImportSource::Stream(Box::new(std::io::stdin()))),
        url if is_http(url) => Ok(ImportSource::Url(url.to_owned())),
        path => Ok(ImportSource::File(PathBuf::from(path))),
    }
}
