//! Definitions become graphs, and what is none never more than an error.

use base::image::ImageConfig;
use base::{Digest, GitUrl};
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::ports::{HttpRequest, ResolveError, ResolvedHttp, ResolvedImage};

/// Knows every image, file and repository.
struct Anything;

impl MetaResolver for Anything {
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<ResolvedImage, ResolveError> {
        let manifest = Digest::of(reference.to_string().as_bytes());
        let mut config = ImageConfig::scratch(platform);
        config.rootfs.diff_ids = vec![manifest];
        Ok(ResolvedImage { reference: reference.with_digest(manifest), manifest, config })
    }

    fn http(&self, request: &HttpRequest) -> Result<ResolvedHttp, ResolveError> {
        let digest = Digest::of(request.url.as_bytes());
        Ok(ResolvedHttp { digest, filename: "file".to_owned(), last_modified: None })
    }

    fn git(&self, _url: &GitUrl) -> Result<String, ResolveError> {
        Ok("0".repeat(40))
    }
}

fn lowered(definition: &pb::Definition) -> Result<LoweredDefinition, DefinitionError> {
    lower(definition, &DefinitionOptions::default(), &Anything)
}

/// A definition that is written down.
#[derive(Default)]
struct Written(Vec<Vec<u8>>);

impl Written {
    fn add(&mut self, op: pb::op::Op, inputs: &[(usize, i64)]) -> usize {
        let input = |(operation, index): &(usize, i64)| pb::Input {
            digest: Digest::of(&self.0[*operation]).to_string(),
            index: *index,
        };
        let inputs = inputs.iter().map(input).collect();
        self.0.push(pb::Op { op: Some(op), inputs, ..pb::Op::default() }.encode_to_vec());
        self.0.len() - 1
    }

    fn source(&mut self, identifier: &str) -> usize {
        let source = pb::SourceOp { identifier: identifier.to_owned(), ..Default::default() };
        self.add(pb::op::Op::Source(source), &[])
    }

    fn files(&mut self, actions: Vec<pb::FileAction>, inputs: &[(usize, i64)]) -> usize {
        self.add(pb::op::Op::File(pb::FileOp { actions }), inputs)
    }

    fn definition(&self, (operation, index): (usize, i64)) -> pb::Definition {
        let digest = Digest::of(&self.0[operation]).to_string();
        let last = pb::Op { inputs: vec![pb::Input { digest, index }], ..Default::default() };
        pb::Definition {
            def: self.0.iter().cloned().chain([last.encode_to_vec()]).collect(),
            ..Default::default()
        }
    }
}

fn mkdir(path: &str, input: i64, output: i64) -> pb::FileAction {
    let action =
        pb::FileActionMkDir { path: path.to_owned(), mode: 0o755, timestamp: -1, ..Default::default() };
    let action = Some(pb::file_action::Action::Mkdir(action));
    pb::FileAction { input, secondary_input: -1, output, action }
}

fn copy(src: &str, input: i64, secondary_input: i64, output: i64) -> pb::FileAction {
    let copy = pb::FileActionCopy {
        src: src.to_owned(),
        dest: "/".to_owned(),
        mode: -1,
        timestamp: -1,
        ..Default::default()
    };
    pb::FileAction { input, secondary_input, output, action: Some(pb::file_action::Action::Copy(copy)) }
}

#[test]
fn nothing_is_an_empty_filesystem() {
    let lowered = lowered(&pb::Definition::default()).unwrap();
    assert_eq!((lowered.target, lowered.graph.len()), (None, 0));
}

#[test]
fn actions_that_follow_each_other_are_one_operation() {
    let mut written = Written::default();
    let made = written.files(vec![mkdir("/a", -1, -1), mkdir("/b", 0, -1), mkdir("/c", 1, 0)], &[]);
    let graph = lowered(&written.definition((made, 0))).unwrap().graph;
    assert_eq!(graph.len(), 1);
    // What is a result in between, or used twice, is an operation of its own.
    let mut written = Written::default();
    let made = written.files(vec![mkdir("/a", -1, 1), mkdir("/b", 0, -1), mkdir("/c", 1, 0)], &[]);
    assert_eq!(lowered(&written.definition((made, 0))).unwrap().graph.len(), 2);
    let mut written = Written::default();
    let made = written.files(vec![mkdir("/a", -1, -1), mkdir("/b", -1, -1), copy("/", 0, 1, 0)], &[]);
    let lowered = lowered(&written.definition((made, 0))).unwrap();
    assert_eq!(lowered.graph.len(), 2);
    assert_eq!(lowered.graph.inputs(lowered.target.unwrap().vertex).len(), 1);
}

#[test]
fn a_directory_of_the_client_is_copied_only_where_it_is_a_filesystem() {
    let mut written = Written::default();
    let local = written.source("local://src");
    let copied = written.files(vec![copy("/x", -1, 0, 0)], &[(local, 0)]);
    assert_eq!(lowered(&written.definition((copied, 0))).unwrap().graph.len(), 2);
    let merged = pb::MergeOp { inputs: vec![pb::MergeInput { input: 0 }, pb::MergeInput { input: 1 }] };
    let merged = written.add(pb::op::Op::Merge(merged), &[(local, 0), (copied, 0)]);
    let lowered = lowered(&written.definition((merged, 0))).unwrap();
    assert_eq!(lowered.graph.len(), 4);
    let directories = Needs::of(&written.definition((merged, 0))).unwrap().directories;
    assert_eq!(directories.iter().map(|local| local.key.as_str()).collect::<Vec<_>>(), ["src"]);
}

#[test]
fn results_are_numbered_once_each() {
    let mut written = Written::default();
    let twice = written.files(vec![mkdir("/a", -1, 0), mkdir("/b", 0, 0)], &[]);
    assert!(matches!(lowered(&written.definition((twice, 0))), Err(DefinitionError::Invalid { .. })));
    let mut written = Written::default();
    let far = written.files(vec![mkdir("/a", -1, i64::MAX)], &[]);
    assert!(matches!(lowered(&written.definition((far, 0))), Err(DefinitionError::Invalid { .. })));
    let meta = pb::Meta { args: vec!["true".to_owned()], ..Default::default() };
    let root = pb::Mount { dest: "/".to_owned(), input: -1, output: i64::MAX, ..Default::default() };
    let exec = pb::ExecOp { meta: Some(meta), mounts: vec![root], ..Default::default() };
    let far = written.add(pb::op::Op::Exec(exec), &[]);
    assert!(matches!(lowered(&written.definition((far, 0))), Err(DefinitionError::Invalid { .. })));
    let one = written.files(vec![mkdir("/a", -1, 0)], &[]);
    let error = lowered(&written.definition((one, 1))).unwrap_err();
    assert!(matches!(error, DefinitionError::MissingOutput { output: 1, outputs: 1, .. }));
}

#[test]
fn a_deep_definition_needs_no_deep_stack() {
    let mut written = Written::default();
    let mut last = written.files(vec![mkdir("/0", -1, 0)], &[]);
    for number in 1..20_000 {
        last = written.files(vec![mkdir(&format!("/{number}"), 0, 0)], &[(last, 0)]);
    }
    assert_eq!(lowered(&written.definition((last, 0))).unwrap().graph.len(), 20_000);
}

#[test]
fn many_results_and_texts_take_time_that_grows_with_them() {
    let mut written = Written::default();
    let actions = (0..20_000).map(|number| mkdir(&format!("/{number}"), number - 1, number)).collect();
    let made = written.files(actions, &[]);
    let definition = written.definition((made, 0));
    let digest = Digest::of(&written.0[made]).to_string();
    let far = Some(pb::Position { line: 400_000, character: i32::MAX });
    let location = pb::Location { source_index: 0, ranges: vec![pb::Range { start: far, end: far }] };
    let locations = [(digest, pb::Locations { locations: vec![location] })].into();
    let info =
        pb::SourceInfo { filename: "f".to_owned(), data: b"line\n".repeat(500_000), ..Default::default() };
    let source = Some(pb::Source { locations, infos: vec![info] });
    assert_eq!(lowered(&pb::Definition { source, ..definition }).unwrap().graph.len(), 20_000);
}

#[test]
fn a_definition_has_a_limited_number_of_directories() {
    let mut written = Written::default();
    let locals: Vec<(usize, i64)> =
        (0..300).map(|number| (written.source(&format!("local://{number}")), 0)).collect();
    let inputs = (0..300).map(|input| pb::MergeInput { input }).collect();
    let merged = written.add(pb::op::Op::Merge(pb::MergeOp { inputs }), &locals);
    let error = Needs::of(&written.definition((merged, 0))).unwrap_err();
    assert!(error.to_string().contains("at most 256 directories"), "{error}");
}

fn small() -> impl Strategy<Value = i64> {
    prop_oneof![-2i64..6, Just(i64::MAX), Just(i64::MIN)]
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("/".to_owned()),
        Just("../..".to_owned()),
        "[a-z/.*\\[]{0,8}",
        Just("local://x".to_owned()),
        Just("docker-image://busybox".to_owned()),
        Just("https://example.com/f".to_owned()),
        Just("git://example.com/r.git#main:sub".to_owned()),
    ]
}

fn some_action() -> impl Strategy<Value = pb::FileAction> {
    (small(), small(), small(), word(), 0..6, any::<i32>()).prop_map(
        |(input, secondary_input, output, path, kind, mode)| {
            use pb::file_action::Action;
            let action = match kind {
                0 => Some(Action::Mkdir(pb::FileActionMkDir { path, mode, ..Default::default() })),
                1 => Some(Action::Mkfile(pb::FileActionMkFile { path, mode, ..Default::default() })),
                2 => Some(Action::Rm(pb::FileActionRm { path, ..Default::default() })),
                3 => Some(Action::Symlink(pb::FileActionSymlink { newpath: path, ..Default::default() })),
                4 => {
                    let (src, dest) = (path.clone(), path);
                    Some(Action::Copy(pb::FileActionCopy { src, dest, mode, ..Default::default() }))
                }
                _ => None,
            };
            pb::FileAction { input, secondary_input, output, action }
        },
    )
}

fn some_mount() -> impl Strategy<Value = pb::Mount> {
    (small(), word(), prop_oneof![Just("/".to_owned()), word()], small(), any::<bool>(), -1..7).prop_map(
        |(input, selector, dest, output, readonly, mount_type)| pb::Mount {
            input,
            selector,
            dest,
            output,
            readonly,
            mount_type,
            ..Default::default()
        },
    )
}

fn some_op() -> impl Strategy<Value = Option<pb::op::Op>> {
    use pb::op::Op;
    let exec =
        (proptest::collection::vec(some_mount(), 0..4), 0..4, word()).prop_map(|(mounts, network, arg)| {
            let meta = pb::Meta { args: vec![arg], ..Default::default() };
            Some(Op::Exec(pb::ExecOp { meta: Some(meta), mounts, network, ..Default::default() }))
        });
    let files = proptest::collection::vec(some_action(), 0..5)
        .prop_map(|actions| Some(Op::File(pb::FileOp { actions })));
    let merge = proptest::collection::vec(small(), 0..4).prop_map(|inputs| {
        let inputs = inputs.into_iter().map(|input| pb::MergeInput { input }).collect();
        Some(Op::Merge(pb::MergeOp { inputs }))
    });
    let diff = (small(), small()).prop_map(|(lower, upper)| {
        let (lower, upper) = (pb::LowerDiffInput { input: lower }, pb::UpperDiffInput { input: upper });
        Some(Op::Diff(pb::DiffOp { lower: Some(lower), upper: Some(upper) }))
    });
    let source =
        word().prop_map(|identifier| Some(Op::Source(pb::SourceOp { identifier, ..Default::default() })));
    prop_oneof![exec, files, merge, diff, source, Just(None), Just(Some(Op::Build(pb::BuildOp::default())))]
}

proptest! {
    #[test]
    fn nonsense_is_an_error_and_nothing_worse(bytes in proptest::collection::vec(any::<Vec<u8>>(), 0..5)) {
        let definition = pb::Definition { def: bytes, ..Default::default() };
        let _ = (lowered(&definition), Needs::of(&definition).map(|needs| needs.pulls_images()));
    }

    #[test]
    fn any_graph_is_lowered_or_refused(
        ops in proptest::collection::vec((some_op(), proptest::collection::vec((any::<prop::sample::Index>(), small()), 0..4)), 1..12),
        result in small(),
    ) {
        let mut written = Written::default();
        for (op, inputs) in ops {
            let known = written.0.len();
            let inputs: Vec<(usize, i64)> =
                inputs.iter().filter(|_| known > 0).map(|(at, output)| (at.index(known), *output)).collect();
            match op {
                Some(op) => drop(written.add(op, &inputs)),
                None => written.0.push(pb::Op::default().encode_to_vec()),
            }
        }
        let definition = written.definition((written.0.len() - 1, result));
        if let (Ok(lowered), Ok(needs)) = (lowered(&definition), Needs::of(&definition)) {
            // Every directory that the graph needs is asked for.
            for index in lowered.graph.topological() {
                if let Op::Source(llb::SourceOp::Local(local)) = &lowered.graph.vertex(*index).op {
                    prop_assert!(needs.directories.iter().any(|known| known.key == local.name));
                }
            }
        }
    }
}
