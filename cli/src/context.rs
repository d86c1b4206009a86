//! What `lap build` was pointed at: a directory, a Dockerfile or a tar on standard input, a git repository, or
//! a file of the web.

use std::collections::BTreeMap;
use std::io::{Read, Seek as _};
use std::path::{Path, PathBuf};

use base::GitUrl;
use base::git_url::is_http;
use engine::context::LARGEST_TEXT;
use engine::request::{ContextSource, DockerfileSource, NamedContext};

use crate::error::CliError;

/// The context and the Dockerfile of a build.
pub(crate) struct Sources {
    pub(crate) context: ContextSource,
    pub(crate) dockerfile: DockerfileSource,
    /// Holds a context that came on standard input until the build is over.
    pub(crate) _spool: Option<tempfile::NamedTempFile>,
}

/// Finds out what the arguments mean.
pub(crate) fn sources(context: &str, file: Option<&str>) -> Result<Sources, CliError> {
    if context == "-" {
        return from_stdin(file);
    }
    let context = place(context)?;
    let inside = !matches!(context, ContextSource::Directory(_));
    let dockerfile = match file {
        None => DockerfileSource::Default,
        Some("-") => DockerfileSource::Text(text(std::io::stdin().lock())?),
        Some(url) if is_http(url) => DockerfileSource::Url(url.to_owned()),
        Some(path) if inside => DockerfileSource::InContext(path.to_owned()),
        Some(path) => DockerfileSource::File(PathBuf::from(path)),
    };
    Ok(Sources { context, dockerfile, _spool: None })
}

/// Where the files are. A directory of this name wins over a repository of `github.com`.
fn place(context: &str) -> Result<ContextSource, CliError> {
    if Path::new(context).is_dir() {
        return Ok(ContextSource::Directory(Path::new(context).to_owned()));
    }
    let url = GitUrl::parse_context(context).map_err(|error| {
        let hint = "for example https://github.com/user/repository.git#branch:directory";
        CliError::usage(error.to_string(), hint)
    })?;
    match url {
        Some(url) => Ok(ContextSource::Git(url)),
        None if is_http(context) => Ok(ContextSource::Url(context.to_owned())),
        None => directory(context).map(ContextSource::Directory),
    }
}

/// Reads every `--build-context`.
pub(crate) fn named(flags: &[String]) -> Result<BTreeMap<String, NamedContext>, CliError> {
    flags.iter().map(|flag| named_context(flag)).collect()
}

/// `NAME=VALUE`; names are in lower case, like those of stages.
fn named_context(flag: &str) -> Result<(String, NamedContext), CliError> {
    let Some((name, value)) =
        flag.split_once('=').filter(|(name, value)| !name.is_empty() && !value.is_empty())
    else {
        let hint = "write --build-context NAME=PATH or NAME=docker-image://IMAGE";
        return Err(CliError::usage(format!("invalid build context \"{flag}\""), hint));
    };
    let context = if let Some(image) = value.strip_prefix("docker-image://") {
        NamedContext::Image(super::commands::reference(image)?)
    } else if let Some(layout) = value.strip_prefix("oci-layout://") {
        layout_image(layout)
    } else {
        NamedContext::Files(place(value)?)
    };
    Ok((name.to_lowercase(), context))
}

/// `PATH[:TAG][@DIGEST]`
fn layout_image(text: &str) -> NamedContext {
    if let Some((path, digest)) = text.split_once('@') {
        let directory = path.rsplit_once(':').map_or(path, |(path, _)| path);
        return NamedContext::Layout { directory: directory.into(), image: Some(digest.to_owned()) };
    }
    match text.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => {
            NamedContext::Layout { directory: path.into(), image: Some(tag.to_owned()) }
        }
        _ => NamedContext::Layout { directory: text.into(), image: None },
    }
}

fn directory(path: &str) -> Result<PathBuf, CliError> {
    let metadata = std::fs::metadata(path).map_err(|error| {
        CliError::failed(format!("unable to prepare context: path \"{path}\" cannot be used: {error}"))
    })?;
    if !metadata.is_dir() {
        let hint = "give the directory; the Dockerfile is named with -f";
        return Err(CliError::usage(format!("context \"{path}\" is not a directory"), hint));
    }
    Ok(Path::new(path).to_owned())
}

/// Standard input is a Dockerfile unless it starts like an archive.
fn from_stdin(file: Option<&str>) -> Result<Sources, CliError> {
    if file == Some("-") {
        let hint = "give the context as a directory, or drop -f -";
        return Err(CliError::usage("context and Dockerfile cannot both be standard input".to_owned(), hint));
    }
    let spool =
        spool_stdin().map_err(|error| CliError::failed(format!("cannot keep the context: {error}")))?;
    let cannot_read = |error| CliError::failed(format!("cannot read standard input: {error}"));
    let is_archive = engine::context::is_archive(spool.as_file()).map_err(cannot_read)?;
    if !is_archive {
        if let Some(url) = file.filter(|file| is_http(file)) {
            let hint = "give an archive or a directory as context, or drop -f";
            return Err(CliError::usage(format!("both standard input and {url} are a Dockerfile"), hint));
        }
        if file.is_some() {
            let hint = "pipe a tar archive that has the file, or drop -f";
            return Err(CliError::usage("standard input is a Dockerfile, not an archive".to_owned(), hint));
        }
        let dockerfile = DockerfileSource::Text(text(spool.reopen().map_err(cannot_read)?)?);
        return Ok(Sources { context: ContextSource::Empty, dockerfile, _spool: None });
    }
    let dockerfile = match file {
        None => DockerfileSource::Default,
        Some(url) if is_http(url) => DockerfileSource::Url(url.to_owned()),
        Some(path) => DockerfileSource::InContext(path.to_owned()),
    };
    Ok(Sources { context: ContextSource::Archive(spool.path().to_owned()), dockerfile, _spool: Some(spool) })
}

/// Standard input as a file, which may be larger than memory.
fn spool_stdin() -> std::io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new()?;
    std::io::copy(&mut std::io::stdin().lock(), file.as_file_mut())?;
    file.as_file_mut().rewind()?;
    Ok(file)
}

/// The text of a Dockerfile, or so much of it that the engine sees that it is too large.
fn text(from: impl Read) -> Result<Vec<u8>, CliError> {
    let mut text = Vec::new();
    let read = from.take(LARGEST_TEXT + 1).read_to_end(&mut text);
    read.map_err(|error| CliError::failed(format!("cannot read standard input: {error}")))?;
    Ok(text)
}
