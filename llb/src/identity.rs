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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use base::{Digest, Platform};

    use super::*;
    use crate::op::{ImageSource, LocalSource};

    fn exec() -> ExecOp {
        ExecOp {
            args: vec!["true".to_owned()],
            env: Vec::new(),
            proxy_env: Vec::new(),
            cwd: "/".to_owned(),
            user: String::new(),
            network: NetworkMode::Default,
            files: Vec::new(),
        }
    }

    fn execs() -> Vec<Op> {
        let text = |text: &str| text.to_owned();
        let file = ScriptFile { path: text("/s"), mode: 0o755, content: b"x".to_vec() };
        let variants = [
            exec(),
            ExecOp { args: vec![text("true"), String::new()], ..exec() },
            ExecOp { env: vec![text("A=1"), text("B=2")], ..exec() },
            ExecOp { env: vec![text("B=2"), text("A=1")], ..exec() },
            ExecOp { cwd: text("/tmp"), ..exec() },
            ExecOp { user: text("0"), ..exec() },
            ExecOp { network: NetworkMode::None, ..exec() },
            ExecOp { network: NetworkMode::Host, ..exec() },
            ExecOp { files: vec![file.clone()], ..exec() },
            ExecOp { files: vec![ScriptFile { mode: 0o644, ..file.clone() }], ..exec() },
            ExecOp { files: vec![ScriptFile { content: b"y".to_vec(), ..file.clone() }], ..exec() },
            ExecOp { files: vec![ScriptFile { path: text("/t"), ..file }], ..exec() },
        ];
        variants.into_iter().map(Op::Exec).collect()
    }

    fn copy() -> CopyAction {
        CopyAction {
            input: 0,
            sources: vec!["a".to_owned()],
            allow_wildcards: false,
            destination: "/d".to_owned(),
            owner: None,
            mode: None,
            unpack_archives: false,
        }
    }

    fn files() -> Vec<Op> {
        let owner = |group| Some(Owner { user: UserName::Id(1), group });
        let named = |name: &str| Some(Owner { user: UserName::Name(name.to_owned()), group: None });
        let mkdir = MkdirAction { path: "/d".to_owned(), mode: 0o755, owner: None };
        let mkfile = MkfileAction {
            path: "/d".to_owned(),
            name: "f".to_owned(),
            mode: 0o644,
            chmod: None,
            content: b"x".to_vec(),
            owner: None,
        };
        let actions = [
            FileAction::Copy(copy()),
            FileAction::Copy(CopyAction { input: 1, ..copy() }),
            FileAction::Copy(CopyAction { sources: vec!["a".to_owned(), "b".to_owned()], ..copy() }),
            FileAction::Copy(CopyAction { allow_wildcards: true, ..copy() }),
            FileAction::Copy(CopyAction { destination: "/d/".to_owned(), ..copy() }),
            FileAction::Copy(CopyAction { owner: owner(None), ..copy() }),
            FileAction::Copy(CopyAction { owner: owner(Some(UserName::Id(1))), ..copy() }),
            FileAction::Copy(CopyAction { owner: named("1"), ..copy() }),
            FileAction::Copy(CopyAction { mode: Some(ChmodMode::Bits(0o644)), ..copy() }),
            FileAction::Copy(CopyAction { mode: Some(ChmodMode::Symbolic("420".to_owned())), ..copy() }),
            FileAction::Copy(CopyAction { unpack_archives: true, ..copy() }),
            FileAction::Mkdir(mkdir.clone()),
            FileAction::Mkdir(MkdirAction { path: "/e".to_owned(), ..mkdir.clone() }),
            FileAction::Mkdir(MkdirAction { mode: 0o700, ..mkdir.clone() }),
            FileAction::Mkdir(MkdirAction { owner: owner(None), ..mkdir }),
            FileAction::Mkfile(mkfile.clone()),
            FileAction::Mkfile(MkfileAction { path: "/e".to_owned(), ..mkfile.clone() }),
            FileAction::Mkfile(MkfileAction { name: "g".to_owned(), ..mkfile.clone() }),
            FileAction::Mkfile(MkfileAction { mode: 0o600, ..mkfile.clone() }),
            FileAction::Mkfile(MkfileAction { chmod: Some(ChmodMode::Bits(0o644)), ..mkfile.clone() }),
            FileAction::Mkfile(MkfileAction { content: b"y".to_vec(), ..mkfile.clone() }),
            FileAction::Mkfile(MkfileAction { owner: owner(None), ..mkfile }),
        ];
        let file = |action| Op::File(FileOp { has_base: false, actions: vec![action] });
        let mut all: Vec<Op> = actions.into_iter().map(file).collect();
        all.push(Op::File(FileOp { has_base: true, actions: vec![FileAction::Copy(copy())] }));
        all.push(Op::File(FileOp { has_base: false, actions: vec![FileAction::Copy(copy()); 2] }));
        all
    }

    fn image(reference: &str, chain: &str) -> Op {
        Op::Source(SourceOp::Image(ImageSource {
            reference: reference.to_owned(),
            manifest: Digest::of(reference.as_bytes()),
            chain_id: Digest::of(chain.as_bytes()),
        }))
    }

    fn local(name: &str) -> Op {
        Op::Source(SourceOp::Local(LocalSource { name: name.to_owned() }))
    }

    fn host() -> Platform {
        Platform::new("linux", "amd64", "")
    }

    #[test]
    fn everything_that_decides_the_result_is_in_the_key() {
        let sources = [image("a", "1"), image("a", "2"), local("context"), local("other")];
        let all: Vec<Op> = execs().into_iter().chain(files()).chain(sources).collect();
        let mut seen = HashMap::new();
        for op in &all {
            if let Some(other) = seen.insert(op_key(op, &host()), op) {
                panic!("{op:?} and {other:?} have one key");
            }
        }
        assert_eq!(seen.len(), all.len());
    }

    #[test]
    fn the_platform_is_in_the_key() {
        let keys = [host(), Platform::new("linux", "arm64", ""), Platform::new("linux", "amd64", "v3")]
            .map(|platform| op_key(&Op::Exec(exec()), &platform));
        assert!(keys[0] != keys[1] && keys[0] != keys[2]);
    }

    #[test]
    fn where_to_get_an_image_and_how_to_reach_the_network_are_not() {
        assert_eq!(op_key(&image("a", "1"), &host()), op_key(&image("b", "1"), &host()));
        let proxy_env = vec!["http_proxy=http://10.0.0.1".to_owned()];
        let with_proxy = Op::Exec(ExecOp { proxy_env, ..exec() });
        assert_eq!(op_key(&with_proxy, &host()), op_key(&Op::Exec(exec()), &host()));
    }

    #[test]
    fn keys_are_pinned() {
        let copy = Op::File(FileOp { has_base: true, actions: vec![FileAction::Copy(copy())] });
        let keys = [Op::Exec(exec()), copy, image("a", "1")].map(|op| op_key(&op, &host()).hex());
        assert_eq!(keys, GOLDEN);
    }

    /// Change only together with the version in the domain.
    const GOLDEN: [&str; 3] = [
        "4b4bfe33d33ed70c519d763b84f89b269ae809824ed1562bca6d84daa6b2e2ac",
        "8c17574da707ea1fcac93bf34e4ac8a24f9e6da2ebefabb86ed93446d9bf1182",
        "35b283df86e5657e768fe0807b41aebc1bc8673b9bf71fdc5afb2b5e5fdb7c65",
    ];
}
