//! The canonical encoding of operations, from which keys are made.
//!
//! | part | enters the key | why |
//! |---|---|---|
//! | image reference, manifest digest | no | the root filesystem is named by its chain of diffIDs |
//! | image chain id | yes | it is the content |
//! | local source name | yes | which directory; its content enters with the selection |
//! | digest, name, mode, owner and time of a file from the web | yes | they are the file |
//! | URL of a file from the web | no | the digest says what it is |
//! | git remote, commit, directory, what is kept | yes | they decide what is checked out |
//! | args, env, cwd, user, network, rights, script files, devices | yes | the process sees them |
//! | kind, target and options of mounts, names of secrets | yes | the process sees them |
//! | values of secrets, ids of cache mounts | no | another value must not cause a rebuild |
//! | proxy variables | no | they differ between machines and say only how to reach the network |
//! | sources, destination, owner, mode, unpack of a copy | yes | they decide the result |
//! | how a source of a copy is written (`f`, `./f`, `/f`) | no | it is the same source |
//! | hosts, limits and exit codes of a process | yes | they decide how it goes |
//! | platform | yes | the same command gives other files on another architecture |
//! | names, positions, descriptions | no | for people |
//!
//! The domains end in a version. Changing this file's encoding means raising it.

use base::git_url::without_password;
use base::{ContentHash, Key, KeyHasher};

use crate::op::{
    BindMount, CacheMount, ChmodMode, CopyAction, CopyRules, DeviceRequest, ExecMount, ExecOp, FileAction,
    FileOp, GitSource, HttpSource, MkdirAction, MkfileAction, MountKind, NetworkMode, Op, OpPlatform, Owner,
    Rlimit, RmAction, ScriptFile, SecretMount, SecurityMode, Sharing, SourceOp, SshMount, SymlinkAction,
    TmpfsMount, UserName,
};

/// The key of an operation by itself, without its inputs.
pub(crate) fn op_key(op: &Op, platform: &OpPlatform) -> Key {
    let mut hasher = KeyHasher::new("lapstrake/op/v4");
    hasher.str(&platform.os).str(&platform.architecture).str(&platform.variant).str(&platform.os_version);
    match op {
        Op::Source(SourceOp::Image(image)) => hasher.ordinal(0).add(&image.chain_id),
        Op::Source(SourceOp::Local(local)) => hasher.ordinal(1).str(&local.name),
        Op::Exec(exec) => hasher.ordinal(2).add(exec),
        Op::File(file) => hasher.ordinal(3).add(file),
        Op::Source(SourceOp::Http(file)) => hasher.ordinal(4).add(file),
        Op::Source(SourceOp::Git(commit)) => hasher.ordinal(5).add(commit),
        Op::Merge => hasher.ordinal(6),
        Op::Diff => hasher.ordinal(7),
    };
    hasher.finish()
}

impl ContentHash for HttpSource {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        let Self { url: _, digest, filename, mode, uid, gid, mtime } = self;
        hasher.add(digest).str(filename).u64((*mode).into()).u64((*uid).into()).u64((*gid).into());
        hasher.add(&mtime.map(i64::cast_unsigned));
    }
}

impl ContentHash for GitSource {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        let Self { remote, commit, subdir, keep_git_dir, submodules, commit_times } = self;
        hasher.str(&without_password(remote)).str(commit).str(subdir);
        hasher.bool(*keep_git_dir).bool(*submodules).bool(*commit_times);
    }
}

impl ContentHash for ExecOp {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        let Self {
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
        } = self;
        let network = match network {
            NetworkMode::Default => 0,
            NetworkMode::Host => 1,
            NetworkMode::None => 2,
        };
        let security = match security {
            SecurityMode::Sandbox => 0,
            SecurityMode::Insecure => 1,
        };
        hasher.bool(*has_root).add(args).add(env).str(cwd).str(user);
        hasher.ordinal(network).ordinal(security).add(hostname).add(files).add(mounts).add(devices);
        hasher.bool(*read_only_root).u64(hosts.len() as u64);
        for (name, address) in hosts {
            hasher.str(name).str(&address.to_string());
        }
        hasher.add(rlimits).u64(exit_codes.len() as u64);
        for code in exit_codes {
            hasher.u64(i64::from(*code).cast_unsigned());
        }
    }
}

impl ContentHash for ExecMount {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        hasher.str(&self.target);
        match &self.kind {
            MountKind::Bind(bind) => hasher.ordinal(0).add(bind),
            MountKind::Cache(cache) => hasher.ordinal(1).add(cache),
            MountKind::Tmpfs(TmpfsMount { size }) => hasher.ordinal(2).add(size),
            MountKind::Secret(secret) => hasher.ordinal(3).add(secret),
            MountKind::Ssh(ssh) => hasher.ordinal(4).add(ssh),
        };
    }
}

impl ContentHash for BindMount {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        let Self { input, source, writable, kept } = self;
        hasher.add(&input.map(u64::from)).str(source).bool(*writable).bool(*kept);
    }
}

impl ContentHash for CacheMount {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        let Self { id: _, input, source, sharing, read_only, mode, uid, gid } = self;
        let sharing = match sharing {
            Sharing::Shared => 0,
            Sharing::Private => 1,
            Sharing::Locked => 2,
        };
        hasher.add(&input.map(u64::from)).str(source).ordinal(sharing).bool(*read_only);
        hasher.u64((*mode).into()).u64((*uid).into()).u64((*gid).into());
    }
}

impl ContentHash for SecretMount {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        let Self { id, as_file, env, required, mode, uid, gid } = self;
        hasher.str(id).bool(*as_file).add(env).bool(*required);
        hasher.u64((*mode).into()).u64((*uid).into()).u64((*gid).into());
    }
}

impl ContentHash for SshMount {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        let Self { id, required, mode, uid, gid } = self;
        hasher.str(id).bool(*required).u64((*mode).into()).u64((*uid).into()).u64((*gid).into());
    }
}

impl ContentHash for DeviceRequest {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        hasher.str(&self.name).bool(self.required);
    }
}

impl ContentHash for ScriptFile {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        hasher.str(&self.path).u64(self.mode.into()).bytes(&self.content);
    }
}

impl ContentHash for FileOp {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        hasher.bool(self.has_base).add(&self.actions);
    }
}

impl ContentHash for FileAction {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        match self {
            Self::Copy(action) => hasher.ordinal(0).add(action),
            Self::Mkfile(action) => hasher.ordinal(1).add(action),
            Self::Mkdir(action) => hasher.ordinal(2).add(action),
            Self::Rm(RmAction { path, allow_missing, allow_wildcards }) => {
                hasher.ordinal(3).str(path).bool(*allow_missing).bool(*allow_wildcards)
            }
            Self::Symlink(SymlinkAction { path, target, owner, time }) => {
                hasher.ordinal(4).str(path).str(target).add(owner).add(&time.map(i64::cast_unsigned))
            }
        };
    }
}

impl ContentHash for CopyAction {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        hasher.u64(self.input.into()).add(&self.plain_sources()).bool(self.allow_wildcards);
        hasher.str(&self.destination);
        hasher.add(&self.owner).add(&self.mode).bool(self.unpack_archives);
        hasher.bool(self.parents).add(&self.excludes).add(&self.rules);
    }
}

impl ContentHash for CopyRules {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        let Self { follow_links, allow_no_match, contents_only, make_parents, replace, .. } = self;
        let Self { includes, required, time, .. } = self;
        hasher.bool(*follow_links).bool(*allow_no_match).bool(*contents_only).bool(*make_parents);
        hasher.bool(*replace).add(includes).add(required).add(&time.map(i64::cast_unsigned));
    }
}

impl ContentHash for Rlimit {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        let Self { name, soft, hard } = self;
        hasher.str(name).u64(soft.cast_unsigned()).u64(hard.cast_unsigned());
    }
}

impl ContentHash for MkfileAction {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        hasher.str(&self.path).str(&self.name).u64(self.mode.into()).add(&self.chmod);
        hasher.bytes(&self.content).add(&self.owner).add(&self.time.map(i64::cast_unsigned));
    }
}

impl ContentHash for MkdirAction {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        hasher.str(&self.path).u64(self.mode.into()).add(&self.owner).bool(self.make_parents);
        hasher.add(&self.time.map(i64::cast_unsigned));
    }
}

impl ContentHash for ChmodMode {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        match self {
            Self::Bits(bits) => hasher.ordinal(0).u64((*bits).into()),
            Self::Symbolic(text) => hasher.ordinal(1).str(text),
        };
    }
}

impl ContentHash for Owner {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        hasher.add(&self.user).add(&self.group);
    }
}

impl ContentHash for UserName {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        match self {
            Self::Id(id) => hasher.ordinal(0).u64((*id).into()),
            Self::Name(name) => hasher.ordinal(1).str(name),
            Self::NameIn { name, input } => hasher.ordinal(2).str(name).u64((*input).into()),
        };
    }
}

#[cfg(test)]
mod tests;
