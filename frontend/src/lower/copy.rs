//! COPY, and what ADD and WORKDIR share with it: changes to the stage's filesystem.

use llb::{
    ChmodMode, CopyAction, FileAction, FileOp, Input, Metadata, MkdirAction, MkfileAction, Op, Owner,
    UserName,
};
use parser::ast::{Copy, CopySource, Heredoc, Instruction, Word};
use parser::span::Span;

use super::base_image::Content;
use super::{CONTEXT, Lowering, StageState};
use crate::error::LowerError;
use crate::history;
use crate::stage::Stage;

/// What COPY and ADD have in common.
pub(super) struct Request<'a> {
    pub(super) keyword: &'static str,
    pub(super) sources: &'a [CopySource],
    pub(super) destination: &'a Word,
    pub(super) chown: Option<&'a Word>,
    pub(super) chmod: Option<&'a Word>,
    pub(super) link: bool,
    pub(super) parents: bool,
    pub(super) excludes: &'a [Word],
    /// Whether local archives are unpacked.
    pub(super) unpack_archives: bool,
}

/// Sources, in their order. Neighbours from one place are one part.
pub(super) enum Part {
    /// Paths of a filesystem.
    Paths {
        /// Where they are.
        from: Content,
        /// The paths, expanded.
        paths: Vec<String>,
        /// Whether those that are archives are unpacked.
        unpack_archives: bool,
    },
    /// A file whose content stands in the Dockerfile.
    File(MkfileAction),
}

/// Where a step writes to, and as whose.
pub(super) struct Target {
    /// As the Dockerfile has it, expanded.
    written: String,
    /// Absolute.
    destination: String,
    owner: Option<Owner>,
    mode: Option<ChmodMode>,
}

impl<'a> Lowering<'a> {
    pub(super) fn copy(
        &mut self,
        state: &mut StageState,
        stage: &Stage<'a>,
        instruction: &Instruction,
        copy: &Copy,
    ) -> Result<(), LowerError> {
        let request = Request {
            keyword: "COPY",
            sources: &copy.sources,
            destination: &copy.destination,
            chown: copy.chown.as_ref(),
            chmod: copy.chmod.as_ref(),
            link: copy.link,
            parents: copy.parents,
            excludes: &copy.excludes,
            unpack_archives: false,
        };
        let from = match &copy.from {
            None => Some(Content::Local(CONTEXT.to_owned())),
            Some(from) => self.copy_from(state, stage, from)?,
        };
        let Some(from) = from else {
            let message = "COPY copies from an empty filesystem, which has nothing to copy";
            return Err(LowerError::at("empty-source", instruction.span, message));
        };
        let target = self.target(state, &request)?;
        let (mut parts, mut shown) = (Vec::new(), Vec::new());
        for source in request.sources {
            match source {
                CopySource::Path(written) => {
                    let path = self.expander.word(written, &state.environment)?;
                    if copy.from.is_none() {
                        self.check_ignored(&request, &path, written.span);
                    }
                    shown.push(path.clone());
                    push_path(&mut parts, from.clone(), path, request.unpack_archives);
                }
                CopySource::Heredoc(heredoc) => {
                    shown.push(format!("<<{}", heredoc.name));
                    parts.push(Part::File(self.heredoc_file(state, heredoc, &target)?));
                }
            }
        }
        self.file_step(state, instruction, &request, target, parts, shown)
    }

    /// Makes the build check for sources that the ignore file excludes.
    pub(super) fn check_ignored(&self, request: &Request<'_>, path: &str, span: Span) {
        self.expander.findings().copied_source(request.keyword, path, &self.options.ignored, span);
    }

    /// What `--from` names: a stage's filesystem, a named context or an image. `None` is an empty one.
    fn copy_from(
        &mut self,
        state: &StageState,
        stage: &Stage<'a>,
        from: &Word,
    ) -> Result<Option<Content>, LowerError> {
        if self.named_context(&from.text).is_some() {
            return self.content_by_name(from, &state.platform);
        }
        match self.stages.copy_source(stage.index, from)? {
            Some(index) => Ok(self.stage_root(index)?.map(Content::Filesystem)),
            None => self.content_by_name(from, &state.platform),
        }
    }

    /// Adds the step of COPY or ADD, and its history. `shown` are the sources as people see them.
    pub(super) fn file_step(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        request: &Request<'_>,
        target: Target,
        parts: Vec<Part>,
        mut shown: Vec<String>,
    ) -> Result<(), LowerError> {
        // An owner by name is looked up in the stage, so such a layer is not independent of it.
        let link = request.link && !target.owner.as_ref().is_some_and(is_named);
        let mut inputs: Vec<Input> = state.root.into_iter().filter(|_| !link).collect();
        let has_base = !inputs.is_empty();
        let mut actions = Vec::new();
        for part in parts {
            actions.push(match part {
                Part::File(file) => FileAction::Mkfile(file),
                Part::Paths { from, paths, unpack_archives } => {
                    // Copying a stage into itself is legal; the same input then fills both slots.
                    let slot = inputs.len() as u32;
                    inputs.push(match from {
                        Content::Local(name) => self.local(&name),
                        Content::Filesystem(input) => input,
                    });
                    FileAction::Copy(CopyAction {
                        allow_wildcards: true,
                        owner: target.owner.clone(),
                        mode: target.mode.clone(),
                        unpack_archives,
                        parents: request.parents,
                        excludes: request.excludes.iter().map(|word| word.text.clone()).collect(),
                        ..CopyAction::new(slot, paths, destination(request, &target))
                    })
                }
            });
        }
        let metadata = self.step(state, instruction);
        let op = Op::File(FileOp { has_base, actions });
        let copied = self.graph.add(op, &state.platform, &inputs, metadata.clone());
        state.root = Some(match state.root.filter(|_| link) {
            Some(root) => {
                let metadata = Metadata { name: format!("LINK {}", metadata.name), ..metadata };
                self.graph.add(Op::Merge, &state.platform, &[root, copied], metadata)
            }
            None => copied,
        });
        shown.push(target.written);
        let text = created_by(request, &shown, &self.history_flags(state, request)?);
        history::layer(&mut state.config, text, self.epoch);
        Ok(())
    }

    /// The destination, owner and mode of a request.
    pub(super) fn target(&self, state: &StageState, request: &Request<'_>) -> Result<Target, LowerError> {
        let written = self.expander.word(request.destination, &state.environment)?;
        if written.is_empty() {
            let message = format!("the destination of {} is empty after expansion", request.keyword);
            return Err(LowerError::at("empty-destination", request.destination.span, message));
        }
        let destination = absolute(state.workdir(), &written);
        if request.sources.len() > 1 && !destination.ends_with('/') {
            let message = format!(
                "when {} has more than one source, the destination must be a directory and end with a /",
                request.keyword
            );
            let help = format!("write \"{written}/\"");
            return Err(LowerError::with_help(
                "destination-not-directory",
                request.destination.span,
                message,
                help,
            ));
        }
        let owner = request.chown.map(|chown| self.owner(state, chown)).transpose()?.flatten();
        let mode = request.chmod.map(|chmod| self.mode(state, chmod)).transpose()?;
        Ok(Target { written, destination, owner, mode })
    }

    pub(super) fn heredoc_file(
        &self,
        state: &StageState,
        heredoc: &Heredoc,
        target: &Target,
    ) -> Result<MkfileAction, LowerError> {
        let content = if heredoc.expand {
            self.expander.heredoc(&heredoc.content, heredoc.span, &state.environment)?
        } else {
            heredoc.content.clone()
        };
        Ok(MkfileAction {
            path: target.destination.clone(),
            name: heredoc.name.clone(),
            mode: 0o644,
            chmod: target.mode.clone(),
            content: content.into_bytes(),
            owner: target.owner.clone(),
            time: None,
        })
    }

    fn owner(&self, state: &StageState, written: &Word) -> Result<Option<Owner>, LowerError> {
        let text = self.expander.word(written, &state.environment)?;
        if text.is_empty() {
            return Ok(None);
        }
        Owner::parse(&text).map(Some).ok_or_else(|| {
            let message = format!("invalid owner \"{text}\"");
            let help = "write user[:group], each a name or a number";
            LowerError::with_help("invalid-chown", written.span, message, help)
        })
    }

    fn mode(&self, state: &StageState, written: &Word) -> Result<ChmodMode, LowerError> {
        let text = self.expander.word(written, &state.environment)?;
        parse_mode(&text).ok_or_else(|| {
            let message = format!("invalid mode \"{text}\"");
            let help = "write octal digits up to 07777 as in 755, or symbols as in u=rwX,go=rX";
            LowerError::with_help("invalid-chmod", written.span, message, help)
        })
    }

    /// `--chown` and `--chmod` as history shows them.
    fn history_flags(&self, state: &StageState, request: &Request<'_>) -> Result<String, LowerError> {
        let mut flags = String::new();
        for (name, word) in [("chown", request.chown), ("chmod", request.chmod)] {
            if let Some(word) = word {
                let value = self.expander.word(word, &state.environment)?;
                flags.push_str(&format!(" --{name}={value}"));
            }
        }
        Ok(flags)
    }

    pub(super) fn workdir(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        path: &Word,
    ) -> Result<(), LowerError> {
        let written = self.expander.word(path, &state.environment)?;
        if written.is_empty() {
            return Err(LowerError::at("empty-workdir", path.span, "WORKDIR is empty after expansion"));
        }
        if !std::mem::replace(&mut state.workdir_set, true) {
            self.expander.findings().first_workdir(&written, path.span);
        }
        let directory = clean(&absolute(state.workdir(), &written));
        let metadata = self.step(state, instruction);
        state.config.config.working_dir = directory.clone();
        let text = format!("WORKDIR {directory}");
        if directory == "/" {
            history::metadata(&mut state.config, text, self.epoch);
            return Ok(());
        }
        let owner = Owner::parse(&state.config.config.user);
        let inputs: Vec<Input> = state.root.into_iter().collect();
        let mkdir = MkdirAction { path: directory, mode: 0o755, owner, make_parents: true, time: None };
        let actions = vec![FileAction::Mkdir(mkdir)];
        let op = Op::File(FileOp { has_base: !inputs.is_empty(), actions });
        state.root = Some(self.graph.add(op, &state.platform, &inputs, metadata));
        history::layer(&mut state.config, text, self.epoch);
        Ok(())
    }
}

/// Adds a path to the part before, if that is of the same kind.
pub(super) fn push_path(parts: &mut Vec<Part>, from: Content, path: String, unpack_archives: bool) {
    match parts.last_mut() {
        Some(Part::Paths { from: last, paths, unpack_archives: unpack })
            if *last == from && *unpack == unpack_archives =>
        {
            paths.push(path);
        }
        _ => parts.push(Part::Paths { from, paths: vec![path], unpack_archives }),
    }
}

/// With several sources the destination is a directory, also for a part with only one of them; so it is
/// when paths are kept.
fn destination(request: &Request<'_>, target: &Target) -> String {
    let is_directory = request.parents && !target.destination.ends_with('/');
    if is_directory { format!("{}/", target.destination) } else { target.destination.clone() }
}

fn is_named(owner: &Owner) -> bool {
    let named = |name: &UserName| matches!(name, UserName::Name(_) | UserName::NameIn { .. });
    named(&owner.user) || owner.group.as_ref().is_some_and(named)
}

fn created_by(request: &Request<'_>, shown: &[String], flags: &str) -> String {
    format!("{}{flags} {} # buildkit", request.keyword, shown.join(" "))
}

/// Octal up to 07777, or symbols that chmod would take.
fn parse_mode(text: &str) -> Option<ChmodMode> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return u32::from_str_radix(text, 8).ok().filter(|bits| *bits <= 0o7777).map(ChmodMode::Bits);
    }
    let clause = |clause: &str| {
        let operator = clause.find(['+', '-', '=']);
        operator.is_some_and(|at| {
            clause[..at].bytes().all(|b| b"ugoa".contains(&b))
                && clause[at..].bytes().all(|b| b"+-=rwxXstugo".contains(&b))
        })
    };
    text.split(',').all(clause).then(|| ChmodMode::Symbolic(text.to_owned()))
}

/// `path` below `workdir` unless it is absolute, cleaned; a trailing slash (or `.`) stays a slash.
pub(super) fn absolute(workdir: &str, path: &str) -> String {
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("{workdir}/{path}") };
    let cleaned = clean(&joined);
    let directory =
        path.ends_with('/') || path == "." || path.ends_with("/.") || path == ".." || path.ends_with("/..");
    if directory && cleaned != "/" { format!("{cleaned}/") } else { cleaned }
}

/// A path without `.`, `..` and double slashes; `..` stops at the root.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_cleaned_and_keep_their_slash() {
        let cases = [
            ("/w", "a", "/w/a"),
            ("/w", "a/", "/w/a/"),
            ("/w", ".", "/w/"),
            ("/", ".", "/"),
            ("/w", "../x", "/x"),
            ("/w", "/a//b/../c", "/a/c"),
            ("/w", "../../..", "/"),
        ];
        for (workdir, path, expected) in cases {
            assert_eq!(absolute(workdir, path), expected, "{workdir} {path}");
        }
    }

    #[test]
    fn modes_are_octal_or_symbolic() {
        assert_eq!(parse_mode("755"), Some(ChmodMode::Bits(0o755)));
        assert_eq!(parse_mode("u=rwX,go=rX"), Some(ChmodMode::Symbolic("u=rwX,go=rX".to_owned())));
        assert_eq!(parse_mode("+x"), Some(ChmodMode::Symbolic("+x".to_owned())));
        for bad in ["", "8", "17777", "rw", "z+x", "u+q"] {
            assert_eq!(parse_mode(bad), None, "{bad}");
        }
    }
}
