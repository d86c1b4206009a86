//! COPY, ADD and WORKDIR: changes to the stage's filesystem.

use llb::{ChmodMode, CopyAction, FileAction, FileOp, Input, MkdirAction, MkfileAction, Op, Owner};
use parser::ast::{Add, Copy, CopySource, Heredoc, Instruction, Word};
use parser::span::Span;

use super::{Lowering, StageState};
use crate::error::LowerError;
use crate::history;
use crate::stage::Stage;

/// What COPY and ADD have in common.
struct Request<'a> {
    keyword: &'static str,
    sources: &'a [CopySource],
    destination: &'a Word,
    chown: Option<&'a Word>,
    chmod: Option<&'a Word>,
    unpack_archives: bool,
    from_context: bool,
}

/// The parts of a request after expansion.
struct Expanded {
    paths: Vec<String>,
    heredocs: Vec<MkfileAction>,
    shown: Vec<String>,
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
        let unsupported =
            [(copy.link, "--link"), (copy.parents, "--parents"), (!copy.excludes.is_empty(), "--exclude")];
        refuse(instruction.span, "COPY", &unsupported)?;
        let request = Request {
            keyword: "COPY",
            sources: &copy.sources,
            destination: &copy.destination,
            chown: copy.chown.as_ref(),
            chmod: copy.chmod.as_ref(),
            unpack_archives: false,
            from_context: copy.from.is_none(),
        };
        let from = match &copy.from {
            None => Some(self.context()),
            Some(from) => self.copy_from(state, stage, from)?,
        };
        self.file_step(state, instruction, &request, from)
    }

    pub(super) fn add(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        add: &Add,
    ) -> Result<(), LowerError> {
        let unsupported = [
            (add.link, "--link"),
            (add.keep_git_dir.is_some(), "--keep-git-dir"),
            (add.checksum.is_some(), "--checksum"),
            (!add.excludes.is_empty(), "--exclude"),
        ];
        refuse(instruction.span, "ADD", &unsupported)?;
        for source in &add.sources {
            if let CopySource::Path(word) = source
                && is_remote(&word.text)
            {
                return Err(LowerError::unsupported(word.span, "ADD of a URL or a git repository"));
            }
        }
        let request = Request {
            keyword: "ADD",
            sources: &add.sources,
            destination: &add.destination,
            chown: add.chown.as_ref(),
            chmod: add.chmod.as_ref(),
            unpack_archives: add.unpack.unwrap_or(true),
            from_context: true,
        };
        let context = self.context();
        self.file_step(state, instruction, &request, Some(context))
    }

    /// What `--from` names: a stage's filesystem or an image's. `None` is an empty one.
    fn copy_from(
        &mut self,
        state: &StageState,
        stage: &Stage<'a>,
        from: &Word,
    ) -> Result<Option<Input>, LowerError> {
        match self.stages.copy_source(stage.index, from)? {
            Some(index) => Ok(self.done.get(index).and_then(Option::as_ref).and_then(|done| done.root)),
            None => self.image_by_name(from, &state.platform),
        }
    }

    fn file_step(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        request: &Request<'_>,
        from: Option<Input>,
    ) -> Result<(), LowerError> {
        let expanded = self.expand(state, request)?;
        let Some(from) = from else {
            let message =
                format!("{} copies from an empty filesystem, which has nothing to copy", request.keyword);
            return Err(LowerError::at("empty-source", instruction.span, message));
        };
        let mut inputs: Vec<Input> = state.root.into_iter().collect();
        let has_base = !inputs.is_empty();
        let mut actions = Vec::new();
        if !expanded.paths.is_empty() {
            // Copying a stage into itself is legal; the same input then fills both slots.
            inputs.push(from);
            actions.push(FileAction::Copy(CopyAction {
                allow_wildcards: true,
                owner: expanded.owner.clone(),
                mode: expanded.mode.clone(),
                unpack_archives: request.unpack_archives,
                ..CopyAction::new(u32::from(has_base), expanded.paths, expanded.destination)
            }));
        }
        actions.extend(expanded.heredocs.into_iter().map(FileAction::Mkfile));
        let metadata = self.step(state, instruction);
        let op = Op::File(FileOp { has_base, actions });
        state.root = Some(self.graph.add(op, &state.platform, &inputs, metadata));
        let text = created_by(request, &expanded.shown, &self.history_flags(state, request)?);
        history::layer(&mut state.config, text, self.options.epoch);
        Ok(())
    }

    fn expand(&self, state: &StageState, request: &Request<'_>) -> Result<Expanded, LowerError> {
        let word = |word: &Word| self.expander.word(word, &state.environment);
        let written = word(request.destination)?;
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
        let mut expanded =
            Expanded { paths: Vec::new(), heredocs: Vec::new(), shown: Vec::new(), destination, owner, mode };
        for source in request.sources {
            match source {
                CopySource::Path(written) => {
                    let path = word(written)?;
                    if request.from_context {
                        let findings = self.expander.findings();
                        findings.copied_source(request.keyword, &path, &self.options.ignored, written.span);
                    }
                    expanded.shown.push(path.clone());
                    expanded.paths.push(path);
                }
                CopySource::Heredoc(heredoc) => {
                    expanded.shown.push(format!("<<{}", heredoc.name));
                    let file = self.heredoc_file(state, heredoc, &expanded)?;
                    expanded.heredocs.push(file);
                }
            }
        }
        expanded.shown.push(written);
        Ok(expanded)
    }

    fn heredoc_file(
        &self,
        state: &StageState,
        heredoc: &Heredoc,
        expanded: &Expanded,
    ) -> Result<MkfileAction, LowerError> {
        let content = if heredoc.expand {
            self.expander.heredoc(&heredoc.content, heredoc.span, &state.environment)?
        } else {
            heredoc.content.clone()
        };
        Ok(MkfileAction {
            path: expanded.destination.clone(),
            name: heredoc.name.clone(),
            mode: 0o644,
            chmod: expanded.mode.clone(),
            content: content.into_bytes(),
            owner: expanded.owner.clone(),
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
            history::metadata(&mut state.config, text, self.options.epoch);
            return Ok(());
        }
        let owner = Owner::parse(&state.config.config.user);
        let inputs: Vec<Input> = state.root.into_iter().collect();
        let actions = vec![FileAction::Mkdir(MkdirAction { path: directory, mode: 0o755, owner })];
        let op = Op::File(FileOp { has_base: !inputs.is_empty(), actions });
        state.root = Some(self.graph.add(op, &state.platform, &inputs, metadata));
        history::layer(&mut state.config, text, self.options.epoch);
        Ok(())
    }
}

fn refuse(span: Span, keyword: &str, flags: &[(bool, &str)]) -> Result<(), LowerError> {
    match flags.iter().find(|(used, _)| *used) {
        Some((_, flag)) => Err(LowerError::unsupported(span, &format!("{keyword} {flag}"))),
        None => Ok(()),
    }
}

fn is_remote(text: &str) -> bool {
    ["http://", "https://", "git://", "ssh://", "git@"].iter().any(|prefix| text.starts_with(prefix))
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
fn absolute(workdir: &str, path: &str) -> String {
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("{workdir}/{path}") };
    let cleaned = clean(&joined);
    let directory =
        path.ends_with('/') || path == "." || path.ends_with("/.") || path == ".." || path.ends_with("/..");
    if directory && cleaned != "/" { format!("{cleaned}/") } else { cleaned }
}

/// A path without `.`, `..` and double slashes; `..` stops at the root.
fn clean(path: &str) -> String {
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
