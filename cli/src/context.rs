//! What `lap build` was pointed at: a directory, a Dockerfile on standard input, or a tar there.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use engine::request::{ContextSource, DockerfileSource};

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
    let directory = directory(context)?;
    let dockerfile = match file {
        None => DockerfileSource::Default,
        Some("-") => DockerfileSource::Text(read_stdin()?),
        Some(path) => DockerfileSource::File(PathBuf::from(path)),
    };
    Ok(Sources { context: ContextSource::Directory(directory), dockerfile, _spool: None })
}

fn directory(path: &str) -> Result<PathBuf, CliError> {
    if ["http://", "https://", "git://", "git@", "ssh://"].iter().any(|prefix| path.starts_with(prefix)) {
        let hint = "clone or download it first, and give the directory";
        return Err(CliError::usage(format!("a context from \"{path}\" is not supported yet"), hint));
    }
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
    let data = read_stdin()?;
    if !engine::context::is_archive(&data) {
        if file.is_some() {
            let hint = "pipe a tar archive that has the file, or drop -f";
            return Err(CliError::usage("standard input is a Dockerfile, not an archive".to_owned(), hint));
        }
        let dockerfile = DockerfileSource::Text(data);
        return Ok(Sources { context: ContextSource::Empty, dockerfile, _spool: None });
    }
    let spool =
        spool(&data).map_err(|error| CliError::failed(format!("cannot keep the context: {error}")))?;
    let dockerfile =
        file.map_or(DockerfileSource::Default, |path| DockerfileSource::InContext(path.to_owned()));
    Ok(Sources { context: ContextSource::Archive(spool.path().to_owned()), dockerfile, _spool: Some(spool) })
}

fn spool(data: &[u8]) -> std::io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(data)?;
    Ok(file)
}

fn read_stdin() -> Result<Vec<u8>, CliError> {
    let mut data = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut data);
    read.map_err(|error| CliError::failed(format!("cannot read standard input: {error}")))?;
    Ok(data)
}
