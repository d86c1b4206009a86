//! Instructions of a Dockerfile that change only the config of an image, as `--change` gives them.
//!
//! They are lowered like the Dockerfile of a build that starts from the image, so they mean what they mean there.

use base::image::ImageConfig;
use base::{Digest, GitUrl, Platform, Reference};
use frontend::{HttpRequest, LowerError, MetaResolver, Options, ResolveError, ResolvedHttp, ResolvedImage};
use parser::ast::{Instruction, InstructionKind};
use parser::{Diagnostic, Level};

use crate::error::EngineError;

/// The name by which the instructions know the image.
const IMAGE: &str = "image";

/// The config that `config` becomes by `changes`, an instruction each. The history is not changed.
///
/// # Errors
/// [`EngineError::Change`] names the change that cannot be made.
pub(crate) fn apply(config: ImageConfig, changes: &[String]) -> Result<ImageConfig, EngineError> {
    if changes.is_empty() {
        return Ok(config);
    }
    let text = Text::new(changes);
    let parsed = parser::parse(text.text.as_bytes());
    if let Some(mistake) = parsed.diagnostics.iter().find(|finding| finding.level == Level::Error) {
        return Err(text.mistake(mistake));
    }
    for instruction in parsed.dockerfile.instructions.iter().skip(1) {
        if !is_change(&instruction.kind) {
            let why = format!("{} is not a valid change command", instruction.keyword.text.to_uppercase());
            return Err(text.error(instruction.span.start, why));
        }
    }
    let options = Options { platforms: vec![config.platform()], ..Options::for_host() };
    let (had_path, history) = (has_path(&config), config.history.clone());
    let lowered =
        frontend::lower(&parsed.dockerfile, &options, &OneImage(config)).map_err(|error| match error {
            LowerError::Dockerfile(mistake) => text.mistake(&mistake),
            error => text.error(error.span().map_or(0, |span| span.start), error.to_string()),
        })?;
    let changed = lowered.images.into_iter().next().map(|image| image.config);
    let mut changed = changed.ok_or_else(|| text.error(0, "it gives no image".to_owned()))?;
    changed.history = history;
    // A build gives its image a PATH. A change does not, unless it says so.
    if !had_path && !parsed.dockerfile.instructions.iter().any(sets_path) {
        changed.config.env.retain(|entry| !is_path(entry));
    }
    Ok(changed)
}

fn has_path(config: &ImageConfig) -> bool {
    config.config.env.iter().any(|entry| is_path(entry))
}

fn is_path(entry: &str) -> bool {
    entry.starts_with("PATH=")
}

fn sets_path(instruction: &Instruction) -> bool {
    match &instruction.kind {
        InstructionKind::Env(pairs) => pairs.iter().any(|pair| pair.key.text == "PATH"),
        _ => false,
    }
}

/// What Docker allows: everything that needs no files.
fn is_change(kind: &InstructionKind) -> bool {
    use InstructionKind as Kind;
    matches!(
        kind,
        Kind::Cmd(_)
            | Kind::Entrypoint(_)
            | Kind::Env(_)
            | Kind::Expose(_)
            | Kind::Healthcheck(_)
            | Kind::Label(_)
            | Kind::OnBuild { .. }
            | Kind::StopSignal(_)
            | Kind::User(_)
            | Kind::Volume(_)
            | Kind::Workdir(_)
    )
}

/// The changes as one Dockerfile.
struct Text<'a> {
    text: String,
    /// The changes, and where each begins in `text`.
    changes: Vec<(usize, &'a str)>,
}

impl<'a> Text<'a> {
    fn new(changes: &'a [String]) -> Self {
        let mut all = Self { text: format!("FROM {IMAGE}\n"), changes: Vec::with_capacity(changes.len()) };
        for change in changes {
            all.changes.push((all.text.len(), change));
            all.text.push_str(change);
            all.text.push('\n');
        }
        all
    }

    fn mistake(&self, mistake: &Diagnostic) -> EngineError {
        self.error(mistake.span.start, mistake.message.clone())
    }

    /// The error that what stands at `offset` is wrong.
    fn error(&self, offset: usize, why: String) -> EngineError {
        let change = self.changes.iter().rev().find(|(start, _)| *start <= offset);
        let change = change.or(self.changes.first()).map_or("", |(_, change)| change);
        EngineError::Change { change: change.to_owned(), why }
    }
}

/// Knows one image, whatever it is asked for.
struct OneImage(ImageConfig);

impl MetaResolver for OneImage {
    fn resolve(&self, reference: &Reference, _: &Platform) -> Result<ResolvedImage, ResolveError> {
        let manifest = Digest::of(IMAGE.as_bytes());
        Ok(ResolvedImage { reference: reference.with_digest(manifest), manifest, config: self.0.clone() })
    }

    fn http(&self, request: &HttpRequest) -> Result<ResolvedHttp, ResolveError> {
        Err(format!("{} is not part of an image", request.url).into())
    }

    fn git(&self, url: &GitUrl) -> Result<String, ResolveError> {
        Err(format!("{} is not part of an image", url.shown()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> Result<ImageConfig, EngineError> {
        let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
        apply(ImageConfig::scratch(&Platform::host()), &changes)
    }

    #[test]
    fn every_instruction_without_files_is_a_change() {
        let image = changed(&[
            "CMD [\"/bin/sh\"]",
            "ENTRYPOINT run it",
            "ENV A=1 B=$A",
            "env C=${B:-x}$A",
            "EXPOSE 80 53/udp",
            "HEALTHCHECK --retries=2 CMD true",
            "LABEL name=\"a b\"",
            "ONBUILD RUN echo",
            "STOPSIGNAL SIGINT",
            "USER me",
            "VOLUME /data",
            "WORKDIR sub",
        ])
        .unwrap();
        let config = image.config;
        assert_eq!(config.entrypoint.unwrap(), ["/bin/sh", "-c", "run it"]);
        assert_eq!(config.cmd.unwrap(), ["/bin/sh"]);
        // As in a Dockerfile, variables of the same instruction are not seen yet.
        assert_eq!(config.env, ["A=1", "B=", "C=x1"]);
        assert_eq!(config.exposed_ports.keys().collect::<Vec<_>>(), ["53/udp", "80/tcp"]);
        assert_eq!(config.healthcheck.unwrap().retries, 2);
        assert_eq!(config.labels["name"], "a b");
        assert_eq!(config.on_build, ["RUN echo"]);
        assert_eq!((config.stop_signal.as_str(), config.user.as_str()), ("SIGINT", "me"));
        assert!(config.volumes.contains_key("/data"));
        assert_eq!(config.working_dir, "/sub");
        assert!(image.history.is_empty());
    }

    #[test]
    fn a_path_is_kept_only_when_it_was_asked_for() {
        assert_eq!(changed(&["ENV PATH=/only"]).unwrap().config.env, ["PATH=/only"]);
        assert_eq!(changed(&["USER me"]).unwrap().config.env, Vec::<String>::new());
    }

    #[test]
    fn a_change_that_cannot_be_made_is_named() {
        for (bad, reason) in [
            ("RUN true", "RUN is not a valid change command"),
            ("copy a b", "COPY is not a valid change command"),
            ("FROM busybox", "FROM is not a valid change command"),
            ("SHELL [\"sh\"]", "SHELL is not a valid change command"),
            ("USER", "USER"),
            ("NONSENSE", "NONSENSE"),
            ("STOPSIGNAL", "STOPSIGNAL"),
            ("ENV A=1\nRUN true", "RUN is not a valid change command"),
        ] {
            match changed(&["LABEL fine=yes", bad, "LABEL also=fine"]) {
                Err(EngineError::Change { change, why }) => {
                    assert_eq!(change, bad);
                    assert!(why.contains(reason), "{bad}: {why}");
                }
                other => panic!("{bad}: {other:?}"),
            }
        }
    }
}
