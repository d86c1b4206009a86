//! The canonical encoding of operations, from which keys are made.
//!
//! | part | enters the key | why |
//! |---|---|---|
//! | image reference, manifest digest | no | the root filesystem is named by its chain of diffIDs |
//! | image chain id | yes | it is the content |
//! | local source name | yes | which directory; its content enters with the selection |
//! | args, env, cwd, user, network, script files | yes | the process sees them |
//! | proxy variables | no | they differ between machines and say only how to reach the network |
//! | sources, destination, owner, mode, unpack of a copy | yes | they decide the result |
//! | platform | yes | the same command gives other files on another architecture |
//! | names, positions, descriptions | no | for people |
//!
//! The domains end in a version. Changing this file's encoding means raising it.

use base::{ContentHash, Key, KeyHasher};

use crate::op::{
    ChmodMode, CopyAction, ExecOp, FileAction, FileOp, MkdirAction, MkfileAction, NetworkMode, Op,
    OpPlatform, Owner, ScriptFile, SourceOp, UserName,
};

/// The key of an operation by itself, without its inputs.
pub(crate) fn op_key(op: &Op, platform: &OpPlatform) -> Key {
    let mut hasher = KeyHasher::new("lapstrake/op/v1");
    hasher.str(&platform.os).str(&platform.architecture).str(&platform.variant).str(&platform.os_version);
    match op {
        Op::Source(SourceOp::Image(image)) => hasher.ordinal(0).add(&image.chain_id),
        Op::Source(SourceOp::Local(local)) => hasher.ordinal(1).str(&local.name),
        Op::Exec(exec) => hasher.ordinal(2).add(exec),
        Op::File(file) => hasher.ordinal(3).add(file),
    };
    hasher.finish()
}

impl ContentHash for ExecOp {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        let network = match self.network {
            NetworkMode::Default => 0,
            NetworkMode::Host => 1,
            NetworkMode::None => 2,
        };
        hasher
            .add(&self.args)
            .add(&self.env)
            .str(&self.cwd)
            .str(&self.user)
            .ordinal(network)
            .add(&self.files);
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
        };
    }
}

impl ContentHash for CopyAction {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        hasher.u64(self.input.into()).add(&self.sources).bool(self.allow_wildcards).str(&self.destination);
        hasher.add(&self.owner).add(&self.mode).bool(self.unpack_archives);
    }
}

impl ContentHash for MkfileAction {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        hasher.str(&self.path).str(&self.name).u64(self.mode.into()).add(&self.chmod);
        hasher.bytes(&self.content).add(&self.owner);
    }
}

impl ContentHash for MkdirAction {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        hasher.str(&self.path).u64(self.mode.into()).add(&self.owner);
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
        };
    }
}
