//! `RUN --mount`: what is mounted for a process.
//!
//! Files of the caller are not mounted where they lie: what a mount names is copied into a filesystem of its
//! own first, so that ignore rules apply, the step sees what its key was made of, and nothing that the step
//! does reaches the caller. Source: Dockerfile reference, "RUN --mount".

use llb::{BindMount, CacheMount, ExecMount, Input, MountKind, SecretMount, Sharing, SshMount, TmpfsMount};
use parser::ast::{Mount, Run, Word};
use parser::span::Span;

use super::base_image::Content;
use super::copy::{absolute, clean};
use super::{CONTEXT, Lowering, StageState};
use crate::error::LowerError;
use crate::stage::Stage;

/// Where secrets appear that say nothing else.
const SECRETS: &str = "/run/secrets/";
/// Where ssh agents appear that say nothing else, followed by their number.
const AGENT: &str = "/run/buildkit/ssh_agent.";
/// The variable that tells programs where the agent is.
const AGENT_VARIABLE: &str = "SSH_AUTH_SOCK";
/// The build argument that keeps cache mounts of different projects apart.
const CACHE_NAMESPACE: &str = "BUILDKIT_CACHE_MOUNT_NS";

/// The keys that a kind of mount takes, besides `type` and `target`.
const KEYS: [(&str, &[&str]); 5] = [
    ("bind", &["from", "source", "readonly", "readwrite"]),
    ("cache", &["from", "source", "id", "sharing", "mode", "uid", "gid", "readonly", "readwrite"]),
    ("tmpfs", &["size"]),
    ("secret", &["id", "required", "mode", "uid", "gid", "env", "source"]),
    ("ssh", &["id", "required", "mode", "uid", "gid"]),
];

/// What a RUN mounts, and the results that it needs for that.
#[derive(Default)]
pub(super) struct Mounts {
    pub(super) mounts: Vec<ExecMount>,
    /// In the order of the slots that the mounts name.
    pub(super) inputs: Vec<Input>,
}

impl Mounts {
    /// The variable that an ssh mount sets, unless the step has it.
    pub(super) fn agent_variable(&self) -> Option<(&'static str, &str)> {
        let agent = self.mounts.iter().find(|mount| matches!(mount.kind, MountKind::Ssh(_)))?;
        Some((AGENT_VARIABLE, &agent.target))
    }

    /// The variables that hold secrets.
    pub(super) fn secret_variables(&self) -> impl Iterator<Item = &str> {
        self.mounts.iter().filter_map(|mount| match &mount.kind {
            MountKind::Secret(secret) => secret.env.as_deref(),
            _ => None,
        })
    }
}

impl<'a> Lowering<'a> {
    /// The mounts of a RUN. Slots count from `first`.
    pub(super) fn mounts(
        &mut self,
        state: &StageState,
        stage: &Stage<'a>,
        run: &Run,
        first: usize,
    ) -> Result<Mounts, LowerError> {
        let mut mounts = Mounts::default();
        for mount in &run.mounts {
            let fields = self.fields(state, mount)?;
            let mount = self.mount(state, stage, &fields, &mut mounts, first)?;
            mounts.mounts.push(mount);
        }
        Ok(mounts)
    }

    /// The options of a mount with their values expanded.
    fn fields(&self, state: &StageState, mount: &Mount) -> Result<Fields, LowerError> {
        let span = mount.raw.span;
        let mut options = Vec::new();
        for (key, value) in &mount.options {
            let key = match key.as_str() {
                "src" => "source",
                "dst" | "destination" => "target",
                "ro" => "readonly",
                "rw" => "readwrite",
                other => other,
            };
            let value = match value {
                None => String::from("true"),
                // A name of a stage or image, which never holds variables.
                Some(value) if key == "from" => value.clone(),
                Some(value) => self.expander.word(&Word { text: value.clone(), span }, &state.environment)?,
            };
            options.push((key.to_owned(), value));
        }
        Fields::new(options, span)
    }

    fn mount(
        &mut self,
        state: &StageState,
        stage: &Stage<'a>,
        fields: &Fields,
        mounts: &mut Mounts,
        first: usize,
    ) -> Result<ExecMount, LowerError> {
        let workdir = state.workdir();
        match fields.kind.as_str() {
            "bind" => {
                let target = fields.target(workdir)?;
                let source = clean(fields.get("source").unwrap_or("/"));
                let from = self.mount_content(state, stage, fields, &source)?;
                let input = slot(mounts, first, from);
                let writable = fields.writable()?;
                Ok(ExecMount {
                    target,
                    kind: MountKind::Bind(BindMount { input, source, writable, kept: false }),
                })
            }
            "cache" => {
                let target = fields.target(workdir)?;
                let source = clean(fields.get("source").unwrap_or("/"));
                let seeded = fields.get("from").is_some();
                let from = if seeded { self.mount_content(state, stage, fields, &source)? } else { None };
                let namespace = self.options.build_args.get(CACHE_NAMESPACE);
                let id = fields.get("id").unwrap_or(&target);
                let id = namespace.map_or_else(|| id.to_owned(), |namespace| format!("{namespace}/{id}"));
                let (mode, uid, gid) = fields.attributes(0o755)?;
                let (sharing, read_only) = (fields.sharing()?, fields.flag("readonly")?);
                let input = slot(mounts, first, from);
                let cache = CacheMount { id, input, source, sharing, read_only, mode, uid, gid };
                Ok(ExecMount { target, kind: MountKind::Cache(cache) })
            }
            "tmpfs" => {
                let size = fields.get("size").map(|size| fields.bytes(size)).transpose()?;
                let target = fields.target(workdir)?;
                Ok(ExecMount { target, kind: MountKind::Tmpfs(TmpfsMount { size }) })
            }
            "secret" => secret(fields, workdir),
            _ => {
                let agents = mounts.mounts.iter().filter(|mount| matches!(mount.kind, MountKind::Ssh(_)));
                let number = agents.count();
                let target = match fields.get("target") {
                    Some(_) => fields.target(workdir)?,
                    None => format!("{AGENT}{number}"),
                };
                let (mode, uid, gid) = fields.attributes(0o600)?;
                let id = fields.get("id").unwrap_or("default").to_owned();
                let required = fields.flag("required")?;
                Ok(ExecMount { target, kind: MountKind::Ssh(SshMount { id, required, mode, uid, gid }) })
            }
        }
    }

    /// What `from` names, as a filesystem that has `source`; `None` is an empty one.
    fn mount_content(
        &mut self,
        state: &StageState,
        stage: &Stage<'a>,
        fields: &Fields,
        source: &str,
    ) -> Result<Option<Input>, LowerError> {
        let content = match fields.get("from") {
            None => Some(Content::Local(CONTEXT.to_owned())),
            Some(name) => {
                let from = Word { text: name.to_owned(), span: fields.span };
                let replaced = self.named_context(name).is_some();
                match self.stages.mount_source(stage.index, &from)?.filter(|_| !replaced) {
                    Some(index) => self.stage_root(index)?.map(Content::Filesystem),
                    None => self.content_by_name(&from, &state.platform)?,
                }
            }
        };
        Ok(content.map(|content| match content {
            Content::Filesystem(input) => input,
            Content::Local(name) => self.local_copy(&name, source),
        }))
    }
}

/// The slot of an input that a mount brings along.
fn slot(mounts: &mut Mounts, first: usize, input: Option<Input>) -> Option<u32> {
    let input = input?;
    mounts.inputs.push(input);
    u32::try_from(first + mounts.inputs.len() - 1).ok()
}

fn secret(fields: &Fields, workdir: &str) -> Result<ExecMount, LowerError> {
    let env = fields.get("env").map(str::to_owned);
    // "source" is an old name of "id".
    let id = fields.get("id").or_else(|| fields.get("source"));
    let written = fields.get("target").is_some().then(|| fields.target(workdir)).transpose()?;
    let id = match (id, &written) {
        (Some(id), _) => id.to_owned(),
        (None, Some(target)) => target.rsplit('/').next().unwrap_or_default().to_owned(),
        (None, None) => {
            let help = "write --mount=type=secret,id=NAME";
            return Err(fields.error("a secret needs an id or a target".to_owned(), help));
        }
    };
    let as_file = env.is_none() || written.is_some();
    let target = written.unwrap_or_else(|| format!("{SECRETS}{id}"));
    let (mode, uid, gid) = fields.attributes(0o400)?;
    let required = fields.flag("required")?;
    let kind = MountKind::Secret(SecretMount { id, as_file, env, required, mode, uid, gid });
    Ok(ExecMount { target, kind })
}

/// The options of one mount: keys in their long form, values expanded, later ones win.
struct Fields {
    kind: String,
    options: Vec<(String, String)>,
    span: Span,
}

impl Fields {
    fn new(options: Vec<(String, String)>, span: Span) -> Result<Self, LowerError> {
        let kind = options.iter().rev().find(|(key, _)| key == "type");
        let kind = kind.map_or_else(|| "bind".to_owned(), |(_, kind)| kind.to_lowercase());
        let fields = Self { kind, options, span };
        let Some((_, keys)) = KEYS.iter().find(|(kind, _)| *kind == fields.kind) else {
            let message = format!("there is no mount type \"{}\"", fields.kind);
            return Err(fields.error(message, "use one of bind, cache, tmpfs, secret, ssh"));
        };
        let known = |key: &str| matches!(key, "type" | "target") || keys.contains(&key);
        if let Some((key, _)) = fields.options.iter().find(|(key, _)| !known(key)) {
            let message = format!("a {} mount has no option \"{key}\"", fields.kind);
            return Err(fields.error(message, &format!("it takes target, {}", keys.join(", "))));
        }
        Ok(fields)
    }

    /// The last value of a key; an empty one is none.
    fn get(&self, key: &str) -> Option<&str> {
        let (_, value) = self.options.iter().rev().find(|(known, _)| known == key)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    fn error(&self, message: String, help: &str) -> LowerError {
        LowerError::with_help("invalid-mount", self.span, message, help)
    }

    /// Where the mount appears, absolute.
    fn target(&self, workdir: &str) -> Result<String, LowerError> {
        let Some(written) = self.get("target") else {
            let message = format!("a {} mount needs a target", self.kind);
            return Err(self.error(message, "write target=/path"));
        };
        let target = clean(&absolute(workdir, written));
        if target == "/" {
            let message = format!("the target of a mount cannot be \"{written}\", the root directory");
            return Err(self.error(message, "mount to a directory below it"));
        }
        Ok(target)
    }

    fn flag(&self, key: &str) -> Result<bool, LowerError> {
        let Some(value) = self.get(key) else { return Ok(false) };
        base::boolean::parse(value).ok_or_else(|| {
            let message = format!("the mount option {key} is true or false, not \"{value}\"");
            self.error(message, &format!("write {key} or {key}=false"))
        })
    }

    /// Whether a bind mount may be written to; what was said last counts.
    fn writable(&self) -> Result<bool, LowerError> {
        let last = self.options.iter().rev().find(|(key, _)| key == "readonly" || key == "readwrite");
        match last.map(|(key, _)| key.as_str()) {
            Some("readwrite") => self.flag("readwrite"),
            Some(_) => Ok(!self.flag("readonly")?),
            None => Ok(false),
        }
    }

    fn sharing(&self) -> Result<Sharing, LowerError> {
        match self.get("sharing").map(str::to_lowercase).as_deref() {
            None | Some("shared") => Ok(Sharing::Shared),
            Some("private") => Ok(Sharing::Private),
            Some("locked") => Ok(Sharing::Locked),
            Some(other) => {
                let message = format!("there is no sharing mode \"{other}\"");
                Err(self.error(message, "use one of shared, private, locked"))
            }
        }
    }

    /// Mode, owner and owning group.
    fn attributes(&self, mode: u32) -> Result<(u32, u32, u32), LowerError> {
        let mode = match self.get("mode") {
            None => mode,
            Some(text) => {
                u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777).ok_or_else(|| {
                    let message = format!("the mount option mode is an octal number, not \"{text}\"");
                    self.error(message, "for example mode=0755")
                })?
            }
        };
        Ok((mode, self.number("uid")?, self.number("gid")?))
    }

    fn number(&self, key: &str) -> Result<u32, LowerError> {
        let Some(text) = self.get(key) else { return Ok(0) };
        text.parse().map_err(|_| {
            let message = format!("the mount option {key} is a number, not \"{text}\"");
            self.error(message, &format!("for example {key}=1000"))
        })
    }

    /// A number of bytes as Docker writes it: `64m`, `1.5GiB`, `4096`.
    fn bytes(&self, text: &str) -> Result<u64, LowerError> {
        base::bytes::parse_binary(text).ok_or_else(|| {
            let message = format!("\"{text}\" is not a size");
            self.error(message, "write bytes, or a number with k, m, g or t, as in size=64m")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(options: &[(&str, &str)]) -> Result<Fields, LowerError> {
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Fields::new(options, Span::default())
    }

    #[test]
    fn each_kind_has_its_own_options() {
        for (kind, key) in [("bind", "size"), ("tmpfs", "from"), ("cache", "required"), ("ssh", "env")] {
            let error = fields(&[("type", kind), (key, "1")]).err().map(|error| error.to_string());
            assert_eq!(error, Some(format!("a {kind} mount has no option \"{key}\"")));
        }
    }

    #[test]
    fn what_is_said_last_decides_about_writing() {
        let writable = |options: &[(&str, &str)]| fields(options).unwrap().writable().unwrap();
        assert!(!writable(&[]));
        assert!(writable(&[("readwrite", "true")]));
        assert!(writable(&[("readonly", "false")]));
        assert!(!writable(&[("readwrite", "true"), ("readonly", "true")]));
    }

    #[test]
    fn targets_are_below_the_root() {
        let target = |text: &str| fields(&[("target", text)]).unwrap().target("/w").ok();
        assert_eq!(target("a/../b").as_deref(), Some("/w/b"));
        assert_eq!(target("/x/").as_deref(), Some("/x"));
        assert_eq!(target("/"), None);
        assert_eq!(target("../.."), None);
    }

    #[test]
    fn a_secret_is_named_by_its_target_and_can_be_a_variable_only() {
        let of = |options: &[(&str, &str)]| {
            let mut all = vec![("type", "secret")];
            all.extend(options);
            let mount = secret(&fields(&all).unwrap(), "/w").unwrap();
            let MountKind::Secret(secret) = mount.kind else { panic!() };
            (mount.target, secret.id, secret.as_file)
        };
        assert_eq!(of(&[("id", "a")]), ("/run/secrets/a".to_owned(), "a".to_owned(), true));
        assert_eq!(of(&[("target", "/x/b")]), ("/x/b".to_owned(), "b".to_owned(), true));
        assert!(!of(&[("id", "a"), ("env", "A")]).2);
        assert!(of(&[("id", "a"), ("env", "A"), ("target", "/t")]).2);
    }
}
