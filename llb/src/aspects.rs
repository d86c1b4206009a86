//! Operations as texts for people: what a step is, part by part, so that two of them can be compared and the
//! difference named.
//!
//! [`aspects`] says the same as `identity`'s key, in words: two operations have equal aspects exactly when they
//! have equal keys. What is no part of the key is no part of the aspects, but may be [shown](Aspect::shown)
//! with one: the name under which an image was had. Values of secrets are not part of an operation at all.

use base::git_url::without_password;
use base::{KeyHasher, Platform};
use serde::{Deserialize, Serialize};

use crate::op::{
    BindMount, CacheMount, ChmodMode, CopyAction, CopyRules, ExecMount, ExecOp, FileAction, FileOp,
    GitSource, HttpSource, ImageSource, MkdirAction, MkfileAction, MountKind, NetworkMode, Op, Owner, Rlimit,
    RmAction, SecretMount, SecurityMode, Sharing, SourceOp, SshMount, SymlinkAction, TmpfsMount, UserName,
};

/// How many characters of a long text are shown beside its hash.
const SHOWN: usize = 60;

/// One part of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aspect {
    /// What it is: `command`, `env PATH`, `mount /root/.cache`.
    pub name: String,
    /// What it is set to. Equal values are equal parts of the key.
    pub value: String,
    /// What to show in place of the value, which is a digest then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<String>,
}

/// The aspects of `op` for `platform`, in the order of the key.
pub fn aspects(op: &Op, platform: &Platform) -> Vec<Aspect> {
    let mut list = List::default();
    let Platform { os, architecture, variant, os_version, .. } = platform;
    list.add("platform", [os, architecture, variant, os_version].map(String::as_str).join("/"));
    match op {
        Op::Source(SourceOp::Image(image)) => list.image(image),
        Op::Source(SourceOp::Local(local)) => list.add("directory", &local.name),
        Op::Source(SourceOp::Http(file)) => list.http(file),
        Op::Source(SourceOp::Git(commit)) => list.git(commit),
        Op::Exec(exec) => list.exec(exec),
        Op::File(file) => list.file(file),
        Op::Merge => list.add("merge", "layers on top of each other"),
        Op::Diff => list.add("diff", "what has changed"),
    }
    list.0
}

#[derive(Default)]
struct List(Vec<Aspect>);

impl List {
    fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.push(Aspect { name: name.into(), value: value.into(), shown: None });
    }

    fn flag(&mut self, name: &str, value: bool) {
        if value {
            self.add(name, "yes");
        }
    }

    fn image(&mut self, image: &ImageSource) {
        let ImageSource { reference, manifest: _, chain_id, layers: _ } = image;
        let (name, value, shown) = ("image", chain_id.to_string(), Some(reference.clone()));
        self.0.push(Aspect { name: name.to_owned(), value, shown });
    }

    fn http(&mut self, file: &HttpSource) {
        let HttpSource { url, digest, filename, mode, uid, gid, mtime } = file;
        let shown = Some(format!("{} ({digest})", without_password(url)));
        self.0.push(Aspect { name: "file of the web".to_owned(), value: digest.to_string(), shown });
        self.add("name", filename);
        self.add("mode", octal(*mode));
        self.add("owner", format!("{uid}:{gid}"));
        if let Some(mtime) = mtime {
            self.add("time", mtime.to_string());
        }
    }

    fn git(&mut self, commit: &GitSource) {
        let GitSource { remote, commit, subdir, keep_git_dir, submodules, commit_times } = commit;
        self.add("repository", without_password(remote));
        self.add("commit", commit);
        self.add("subdirectory", subdir);
        self.flag(".git kept", *keep_git_dir);
        self.flag("submodules", *submodules);
        self.flag("times of the commit", *commit_times);
    }

    fn exec(&mut self, exec: &ExecOp) {
        let ExecOp {
            has_root,
            args,
            env,
            proxy_env: _,
            cwd,
            user,
            network,
            security,
            hostname,
            files,
            mounts,
            devices,
            read_only_root,
            hosts,
            rlimits,
            exit_codes,
        } = exec;
        self.command(args);
        self.flag("root filesystem", *has_root);
        for entry in env {
            let (name, value) = entry.split_once('=').unwrap_or((entry, "(no value)"));
            self.add(format!("env {name}"), value);
        }
        self.add("working directory", cwd);
        self.add("user", user);
        match network {
            NetworkMode::Default => {}
            NetworkMode::Host => self.add("network", "host"),
            NetworkMode::None => self.add("network", "none"),
        }
        self.flag("insecure", *security == SecurityMode::Insecure);
        if let Some(hostname) = hostname {
            self.add("host name", hostname);
        }
        for file in files {
            let value = format!("{} {}", octal(file.mode), content(&file.content));
            self.add(format!("here-document {}", file.path), value);
        }
        for mount in mounts {
            self.add(format!("mount {}", mount.target), shown_mount(mount));
        }
        for device in devices {
            self.add(
                format!("device {}", device.name),
                if device.required { "required" } else { "optional" },
            );
        }
        self.flag("root filesystem read-only", *read_only_root);
        for (name, address) in hosts {
            self.add(format!("host {name}"), address.to_string());
        }
        for Rlimit { name, soft, hard } in rlimits {
            self.add(format!("limit {name}"), format!("{soft}:{hard}"));
        }
        if !exit_codes.is_empty() {
            self.add("exit codes", format!("{exit_codes:?}"));
        }
    }

    /// The command as it was written, where it is one for a shell.
    fn command(&mut self, args: &[String]) {
        match args {
            [shell @ .., flag, script] if flag == "-c" => {
                self.add("command", script);
                self.add("shell", format!("{shell:?}"));
            }
            args => self.add("command", format!("{args:?}")),
        }
    }

    fn file(&mut self, file: &FileOp) {
        let FileOp { has_base, actions } = file;
        self.flag("base", *has_base);
        for action in actions {
            match action {
                FileAction::Copy(copy) => self.copy(copy),
                FileAction::Mkfile(file) => self.mkfile(file),
                FileAction::Mkdir(directory) => self.mkdir(directory),
                FileAction::Rm(RmAction { path, allow_missing, allow_wildcards }) => {
                    self.add("removed", path);
                    self.flag("may be missing", *allow_missing);
                    self.flag("wildcards", *allow_wildcards);
                }
                FileAction::Symlink(SymlinkAction { path, target, owner, time }) => {
                    self.add(format!("link {path}"), target);
                    self.owner(owner.as_ref());
                    self.time(*time);
                }
            }
        }
    }

    fn copy(&mut self, copy: &CopyAction) {
        let CopyAction {
            input,
            sources: _,
            allow_wildcards,
            destination,
            owner,
            mode,
            unpack_archives,
            parents,
            excludes,
            rules,
        } = copy;
        self.add("sources", format!("{:?} of input {input}", copy.plain_sources()));
        self.add("destination", destination);
        self.flag("wildcards", *allow_wildcards);
        self.owner(owner.as_ref());
        self.mode("--chmod", mode.as_ref());
        self.flag("archives unpacked", *unpack_archives);
        self.flag("--parents", *parents);
        for pattern in excludes {
            self.add("--exclude", pattern);
        }
        let usual = CopyRules::default();
        let CopyRules { follow_links, allow_no_match, contents_only, make_parents, replace, .. } = rules;
        self.flag("links kept as sources", *follow_links != usual.follow_links);
        self.flag("wildcards must match", *allow_no_match != usual.allow_no_match);
        self.flag("directories themselves", *contents_only != usual.contents_only);
        self.flag("destination must exist", *make_parents != usual.make_parents);
        self.flag("replaces", *replace);
        for pattern in &rules.includes {
            self.add("only", pattern);
        }
        for path in &rules.required {
            self.add("required", path);
        }
        self.time(rules.time);
    }

    fn time(&mut self, time: Option<i64>) {
        if let Some(time) = time {
            self.add("time", time.to_string());
        }
    }

    fn mkfile(&mut self, file: &MkfileAction) {
        let MkfileAction { path, name, mode, chmod, content: bytes, owner, time } = file;
        self.add("file", path);
        self.add("name in a directory", name);
        self.add("content", content(bytes));
        self.add("mode", octal(*mode));
        self.mode("--chmod", chmod.as_ref());
        self.owner(owner.as_ref());
        self.time(*time);
    }

    fn mkdir(&mut self, directory: &MkdirAction) {
        let MkdirAction { path, mode, owner, make_parents, time } = directory;
        self.add("new directory", path);
        self.add("mode", octal(*mode));
        self.owner(owner.as_ref());
        self.flag("parents must exist", !make_parents);
        self.time(*time);
    }

    fn owner(&mut self, owner: Option<&Owner>) {
        let Some(Owner { user, group }) = owner else { return };
        let group = group.as_ref().map(|group| format!(":{}", shown_user(group))).unwrap_or_default();
        self.add("--chown", format!("{}{group}", shown_user(user)));
    }

    fn mode(&mut self, name: &str, mode: Option<&ChmodMode>) {
        match mode {
            None => {}
            Some(ChmodMode::Bits(bits)) => self.add(name, octal(*bits)),
            Some(ChmodMode::Symbolic(text)) => self.add(name, format!("\"{text}\"")),
        }
    }
}

fn octal(mode: u32) -> String {
    format!("{mode:04o}")
}

/// A name that looks like a number is not one.
fn shown_user(user: &UserName) -> String {
    match user {
        UserName::Id(id) => id.to_string(),
        UserName::Name(name) => format!("\"{name}\""),
        UserName::NameIn { name, input } => format!("\"{name}\" of input {input}"),
    }
}

/// A hash, and the beginning for people.
fn content(bytes: &[u8]) -> String {
    let hash = KeyHasher::new("lapstrake/aspect/v1").bytes(bytes).finish();
    let text = String::from_utf8_lossy(bytes);
    let beginning: String = text.chars().take(SHOWN).collect();
    format!("{} bytes, {}: {beginning:?}", bytes.len(), hash.hex())
}

fn shown_mount(mount: &ExecMount) -> String {
    let input =
        |input: &Option<u32>| input.map_or_else(|| "nothing".to_owned(), |input| format!("input {input}"));
    let owner = |mode: u32, uid: u32, gid: u32| format!("mode={},uid={uid},gid={gid}", octal(mode));
    match &mount.kind {
        MountKind::Bind(BindMount { input: slot, source, writable, kept }) => {
            let access = match (writable, kept) {
                (true, true) => "rw,kept",
                (true, false) => "rw",
                (false, true) => "ro,kept",
                (false, false) => "ro",
            };
            format!("type=bind,from={},source={source:?},{access}", input(slot))
        }
        MountKind::Cache(CacheMount { id: _, input: slot, source, sharing, read_only, mode, uid, gid }) => {
            let sharing = match sharing {
                Sharing::Shared => "shared",
                Sharing::Private => "private",
                Sharing::Locked => "locked",
            };
            let access = if *read_only { "ro" } else { "rw" };
            let owner = owner(*mode, *uid, *gid);
            format!("type=cache,from={},source={source:?},sharing={sharing},{access},{owner}", input(slot))
        }
        MountKind::Tmpfs(TmpfsMount { size }) => format!("type=tmpfs,size={size:?}"),
        MountKind::Secret(SecretMount { id, as_file, env, required, mode, uid, gid }) => {
            let owner = owner(*mode, *uid, *gid);
            format!("type=secret,id={id:?},file={as_file},env={env:?},required={required},{owner}")
        }
        MountKind::Ssh(SshMount { id, required, mode, uid, gid }) => {
            format!("type=ssh,id={id:?},required={required},{}", owner(*mode, *uid, *gid))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named<'a>(aspects: &'a [Aspect], name: &str) -> &'a Aspect {
        aspects.iter().find(|aspect| aspect.name == name).unwrap()
    }

    #[test]
    fn a_shell_command_is_shown_as_it_was_written() {
        let args = ["/bin/bash", "-o", "pipefail", "-c", "make | tee log"].map(str::to_owned);
        let list = aspects(&Op::Exec(ExecOp::new(args.to_vec())), &Platform::host());
        assert_eq!(named(&list, "command").value, "make | tee log");
        assert_eq!(named(&list, "shell").value, r#"["/bin/bash", "-o", "pipefail"]"#);
    }

    #[test]
    fn long_texts_are_cut_and_passwords_left_out() {
        let text = "x".repeat(10_000);
        let file = MkfileAction {
            path: "/f".to_owned(),
            name: "f".to_owned(),
            mode: 0o644,
            chmod: None,
            content: text.into_bytes(),
            owner: None,
            time: None,
        };
        let op = Op::File(FileOp { has_base: false, actions: vec![FileAction::Mkfile(file)] });
        assert!(named(&aspects(&op, &Platform::host()), "content").value.len() < 200);

        let url = "https://me:hunter2@example.com/r.git".to_owned();
        let commit = GitSource {
            remote: url,
            commit: "0".repeat(40),
            subdir: String::new(),
            keep_git_dir: false,
            submodules: false,
            commit_times: false,
        };
        let list = aspects(&Op::Source(SourceOp::Git(commit)), &Platform::host());
        assert!(!format!("{list:?}").contains("hunter2"), "{list:?}");
    }
}
