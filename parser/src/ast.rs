//! The syntax tree of a Dockerfile: what was written, with its place, before any expansion.
//!
//! Only types live here. A [`Word`] is the text of one argument exactly as written (quotes, escapes and
//! `$` included, continuations already joined); `crate::word` turns it into values.

use std::fmt;

use crate::span::Span;

/// A whole Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dockerfile {
    /// The directives at the top.
    pub directives: Directives,
    /// The instructions in order, comments and blank lines left out.
    pub instructions: Vec<Instruction>,
}

/// Parser directives (`# name=value` before the first instruction, comment or blank line).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// `syntax`: an image reference.
    pub syntax: Option<Word>,
    /// `escape`: `\` unless the file says `` ` ``.
    pub escape: char,
    /// `check`, as written.
    pub check: Option<Word>,
}

impl Default for Directives {
    fn default() -> Self {
        Self { syntax: None, escape: '\\', check: None }
    }
}

/// Text as written, and where. A flag's value has lost its quotes, as flags do before anything else.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Word {
    /// The text.
    pub text: String,
    /// Where it stands; the span covers continuations that the text no longer has.
    pub span: Span,
}

impl fmt::Debug for Word {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} at {:?}", self.text, self.span)
    }
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// All of it, heredoc bodies included.
    pub span: Span,
    /// The keyword as written.
    pub keyword: Word,
    /// The instruction as one line: continuations joined, comments gone, heredoc bodies not included.
    /// This is what history and progress show.
    pub source: String,
    /// The comment lines right above it, without `#`; an empty line or comment drops those before it.
    pub comments: Vec<Word>,
    /// Its meaning.
    pub kind: InstructionKind,
}

/// The instructions of the Dockerfile language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstructionKind {
    /// `FROM`
    From(From),
    /// `RUN`
    Run(Run),
    /// `COPY`
    Copy(Copy),
    /// `ADD`
    Add(Add),
    /// `ENV`
    Env(Vec<KeyValue>),
    /// `ARG`
    Arg(Vec<ArgDeclaration>),
    /// `WORKDIR`
    Workdir(Word),
    /// `USER`
    User(Word),
    /// `LABEL`
    Label(Vec<KeyValue>),
    /// `EXPOSE`
    Expose(Vec<Word>),
    /// `VOLUME`
    Volume(Vec<Word>),
    /// `ENTRYPOINT`
    Entrypoint(Command),
    /// `CMD`
    Cmd(Command),
    /// `SHELL`
    Shell(Vec<String>),
    /// `STOPSIGNAL`
    StopSignal(Word),
    /// `HEALTHCHECK`
    Healthcheck(Healthcheck),
    /// `ONBUILD`: the trigger parsed (never `FROM`, `ONBUILD` or `MAINTAINER`), and its text for the
    /// image config.
    OnBuild {
        /// The trigger as an instruction.
        trigger: Box<Instruction>,
        /// The trigger as written, on one line.
        text: String,
    },
    /// `MAINTAINER`
    Maintainer(Word),
    /// Something that could not be understood; there is a diagnostic for it.
    Invalid,
}

/// `FROM [--platform=p] image [AS name]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct From {
    /// `--platform`
    pub platform: Option<Word>,
    /// An image, a stage or `scratch`.
    pub image: Word,
    /// The stage's name, as written.
    pub name: Option<Word>,
}

/// A command line: of RUN, CMD, ENTRYPOINT or HEALTHCHECK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A line for the shell, as written; expansion is the shell's.
    Shell(Word),
    /// The exec form.
    Exec {
        /// The arguments, with JSON escapes undone.
        args: Vec<String>,
        /// Where the array stands.
        span: Span,
    },
}

/// `RUN [flags] command` or `RUN [flags] <<EOF`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// `--mount`, one per flag, as written.
    pub mounts: Vec<Mount>,
    /// `--network`
    pub network: Option<Word>,
    /// `--security`
    pub security: Option<Word>,
    /// `--device`, one per flag.
    pub devices: Vec<Word>,
    /// The command. With heredocs it still contains the `<<EOF` markers.
    pub command: Command,
    /// Heredocs in the order of their markers.
    pub heredocs: Vec<Heredoc>,
}

/// `--mount=key=value,…`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The flag's value as written.
    pub raw: Word,
    /// Its parts, split as CSV; a key without `=` has no value.
    pub options: Vec<(String, Option<String>)>,
}

/// `COPY [flags] source… destination`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// `--from`
    pub from: Option<Word>,
    /// `--chown`
    pub chown: Option<Word>,
    /// `--chmod`
    pub chmod: Option<Word>,
    /// `--link`
    pub link: bool,
    /// `--parents`
    pub parents: bool,
    /// `--exclude`, one per flag.
    pub excludes: Vec<Word>,
    /// What to copy.
    pub sources: Vec<CopySource>,
    /// Where to.
    pub destination: Word,
}

/// `ADD [flags] source… destination`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Add {
    /// `--chown`
    pub chown: Option<Word>,
    /// `--chmod`
    pub chmod: Option<Word>,
    /// `--link`
    pub link: bool,
    /// `--keep-git-dir`
    pub keep_git_dir: Option<bool>,
    /// `--checksum`
    pub checksum: Option<Word>,
    /// `--unpack`
    pub unpack: Option<bool>,
    /// `--exclude`, one per flag.
    pub excludes: Vec<Word>,
    /// What to add.
    pub sources: Vec<CopySource>,
    /// Where to.
    pub destination: Word,
}

/// One source of COPY or ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopySource {
    /// A path, pattern or URL.
    Path(Word),
    /// A heredoc; its name is the file's name.
    Heredoc(Heredoc),
}

/// A here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter without quotes.
    pub name: String,
    /// The body, with tabs stripped if the marker was `<<-`. Ends with a newline unless it is empty.
    pub content: String,
    /// Whether variables in the body expand (the delimiter was not quoted).
    pub expand: bool,
    /// The file descriptor in `3<<EOF`; 0 when absent.
    pub descriptor: u32,
    /// Where the body stands.
    pub span: Span,
}

/// `key=value` of ENV and LABEL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key, unexpanded.
    pub key: Word,
    /// The value, unexpanded.
    pub value: Word,
    /// Whether it was the old form `ENV key value`, whose value is the rest of the line.
    pub legacy: bool,
}

/// `name[=default]` of ARG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgDeclaration {
    /// The name, unexpanded.
    pub name: Word,
    /// The default, unexpanded.
    pub default: Option<Word>,
}

/// `HEALTHCHECK`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// `HEALTHCHECK NONE`
    None,
    /// `HEALTHCHECK [flags] CMD command`. Durations are Go durations, in nanoseconds.
    Check {
        /// `--interval`
        interval: Option<i64>,
        /// `--timeout`
        timeout: Option<i64>,
        /// `--start-period`
        start_period: Option<i64>,
        /// `--start-interval`
        start_interval: Option<i64>,
        /// `--retries`
        retries: Option<i64>,
        /// The command.
        command: Command,
    },
}
