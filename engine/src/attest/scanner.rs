//! What is in an image as another image says that looks through it: a scanner, which runs like a step over what was built.
//!
//! It finds the files at `BUILDKIT_SCAN_SOURCE`, and further ones in the directory `BUILDKIT_SCAN_SOURCE_EXTRAS`; what it was told besides
//! is in variables `BUILDKIT_SCAN_…`. Each JSON file that it leaves in `BUILDKIT_SCAN_DESTINATION` is a statement of in-toto. Source:
//! BuildKit, `docs/attestations/sbom-protocol.md`.

use std::collections::HashMap;
use std::sync::Arc;

use base::{Digest, Platform};
use frontend::{LoweredImage, MetaResolver as _};
use llb::{
    BindMount, ExecMount, ExecOp, Graph, GraphBuilder, ImageSource, Input, Metadata, MountKind, Op, SourceOp,
};
use serde_json::Value;
use snapshotter::Tree;
use solver::{Limits, Schedule, SolveError};

use super::Predicate;
use super::sbom::TYPE;
use crate::assemble::Assembly;
use crate::contexts::Contexts;
use crate::error::{EngineError, StepError};
use crate::layouts::Layouts;
use crate::ops::{BuildOps, StepResult};
use crate::remote::Fetcher;
use crate::request::Scanner;
use crate::resolve::SourceResolver;
use crate::source_policy::Governed;

/// Where a scanner finds what it looks through.
const SOURCE: &str = "/run/src/core/sbom";

/// The directory with what it may look through besides.
const EXTRAS: &str = "/run/src/extras";

/// Where it leaves what it has found.
const DESTINATION: &str = "/run/out";

/// The largest statement, in bytes.
const LARGEST: u64 = 40 << 20;

/// The most statements of one image.
const MOST: usize = 100;

/// What a scanner says of one image.
pub(super) fn predicates(
    assembly: &Assembly<'_>,
    lowered: &LoweredImage,
    root: Option<StepResult>,
    scanner: &Scanner,
    extras: &[(String, StepResult)],
) -> Result<Vec<Predicate>, EngineError> {
    // It is no part of the graph of the build, and its record tells of it beside the steps.
    let progress = assembly.progress.aside();
    let fetcher = Fetcher { progress: &progress, ..*assembly.sharing.cache.fetcher() };
    let scan = planned(&fetcher, assembly, lowered, root, scanner, extras)?;
    let contexts = Contexts::none();
    let given = scan.given;
    let ops = BuildOps::over(&scan.graph, &contexts, assembly.request, &fetcher, (assembly.sharing, given));
    let schedule = Schedule { limits: Limits::for_cores(1), keep_going: false };
    let wrong = |why| EngineError::ScannerResult { image: scanner.image.familiar(), why };
    let failed = |source: StepError| EngineError::Scanner {
        image: scanner.image.familiar(),
        source: Box::new(source),
    };
    let solved = match solver::solve(&scan.graph, &[scan.process.vertex], schedule, &ops, assembly.cancel) {
        Ok(solved) => solved,
        Err(SolveError::Cancelled) => return Err(EngineError::Cancelled),
        Err(SolveError::Stalled(waiting)) => return Err(wrong(waiting.to_string())),
        Err(SolveError::Failed { first, .. }) => {
            return Err(match first.error {
                StepError::Engine(EngineError::Cancelled) => EngineError::Cancelled,
                error => failed(error),
            });
        }
    };
    let Some(outputs) = solved.outputs.first() else { return Ok(Vec::new()) };
    let left = assembly.sharing.here(outputs.part(scan.process.output), assembly.cancel)?;
    let tree = Tree::overlay(assembly.engine.store.view_dirs(left.snapshot)?)?;
    let all = statements(&tree, scanner)?;
    if all.is_empty() {
        let message = format!("the scanner {} has left no statement", scanner.image.familiar());
        progress.warn("Scanner", message);
    }
    Ok(all)
}

/// A scanner over what was built.
struct Scan {
    graph: Graph,
    /// What it leaves.
    process: Input,
    /// What was built, by the names that it has in the graph.
    given: HashMap<Digest, StepResult>,
}

fn planned(
    fetcher: &Fetcher<'_>,
    assembly: &Assembly<'_>,
    lowered: &LoweredImage,
    root: Option<StepResult>,
    scanner: &Scanner,
    extras: &[(String, StepResult)],
) -> Result<Scan, EngineError> {
    let (host, layouts) = (Platform::host(), Layouts::default());
    let resolver = SourceResolver::new(*fetcher, &layouts, assembly.request.pull);
    let resolver = Governed { policies: &assembly.request.policies, resolver: &resolver };
    let wrong = |why: String| EngineError::ScannerResult { image: scanner.image.familiar(), why };
    let image =
        resolver.resolve(&scanner.image, &host).map_err(|error| match error.downcast::<EngineError>() {
            Ok(error) => *error,
            Err(other) => wrong(other.to_string()),
        })?;
    let config = &image.config.config;
    let args: Vec<String> =
        config.entrypoint.iter().flatten().chain(config.cmd.iter().flatten()).cloned().collect();
    let chain = base::image::chain_id(&image.config.rootfs.diff_ids);
    let (Some(chain_id), false) = (chain, args.is_empty()) else {
        return Err(wrong("it is no scanner: it has no files, or says no command".to_owned()));
    };
    let mut graph = GraphBuilder::new();
    let mut given = HashMap::new();
    let metadata = |name: String| Metadata { name, ..Metadata::default() };
    let reference = image.reference.to_string();
    let name = format!("[{}] scanner {}", lowered.platform, image.reference);
    let source = ImageSource { reference, manifest: image.manifest, chain_id, layers: None };
    let program = graph.add(Op::Source(SourceOp::Image(source)), &host, &[], metadata(name));
    let (mut inputs, mut mounts) = (vec![program], Vec::new());
    let extras = extras.iter().map(|(name, what)| (format!("{EXTRAS}/sbom-{name}"), Some(*what)));
    for (target, what) in std::iter::once((SOURCE.to_owned(), root)).chain(extras) {
        let input = what.map(|what| {
            let known = Digest::of(what.content().as_bytes());
            given.insert(known, what);
            let source =
                ImageSource { reference: String::new(), manifest: known, chain_id: known, layers: None };
            inputs.push(graph.add(Op::Source(SourceOp::Image(source)), &host, &[], Metadata::default()));
            (inputs.len() - 1) as u32
        });
        mounts.push(bind(target, input, false));
    }
    mounts.push(bind(DESTINATION.to_owned(), None, true));
    let cwd = if config.working_dir.is_empty() { "/" } else { config.working_dir.as_str() };
    let op = ExecOp {
        has_root: true,
        env: config.env.iter().cloned().chain(environment(scanner, inputs.len() > 2)).collect(),
        cwd: cwd.to_owned(),
        user: config.user.clone(),
        mounts,
        ..ExecOp::new(args)
    };
    let name = format!("[{}] generating sbom using {}", lowered.platform, scanner.image);
    let process = graph.add(Op::Exec(op), &host, &inputs, metadata(name));
    let graph = graph.finish().map_err(|error| wrong(error.to_string()))?;
    // Result 0 is the scanner's own filesystem.
    Ok(Scan { graph, process: Input { output: 1, ..process }, given })
}

fn bind(target: String, input: Option<u32>, kept: bool) -> ExecMount {
    let kind = MountKind::Bind(BindMount { input, source: "/".to_owned(), writable: kept, kept });
    ExecMount { target, kind }
}

fn environment(scanner: &Scanner, has_extras: bool) -> Vec<String> {
    let mut env =
        vec![format!("BUILDKIT_SCAN_DESTINATION={DESTINATION}"), format!("BUILDKIT_SCAN_SOURCE={SOURCE}")];
    if has_extras {
        env.push(format!("BUILDKIT_SCAN_SOURCE_EXTRAS={EXTRAS}"));
    }
    env.extend(scanner.parameters.iter().map(|(name, value)| format!("BUILDKIT_SCAN_{name}={value}")));
    env
}

/// The statements that a scanner has left, by the names of their files.
fn statements(tree: &Tree, scanner: &Scanner) -> Result<Vec<Predicate>, EngineError> {
    let wrong = |why: String| EngineError::ScannerResult { image: scanner.image.familiar(), why };
    let mut entries = tree.read_dir(&tree.root()?)?;
    entries.sort_by(|a, b| a.name().cmp(b.name()));
    let mut all = Vec::new();
    for entry in entries {
        let name = entry.name().to_string_lossy().into_owned();
        if entry.kind() != sys::stat::Kind::File || !name.ends_with(".json") {
            continue;
        }
        if all.len() >= MOST {
            return Err(wrong(format!("it has left more than {MOST} statements")));
        }
        let predicate = statement(&tree.read(&entry, LARGEST)?, &name);
        all.push(predicate.map_err(|why| wrong(format!("its file {name} {why}")))?);
    }
    Ok(all)
}

/// A statement that is not about a certain image, or says itself what it is about.
fn statement(content: &[u8], file: &str) -> Result<Predicate, String> {
    let mut document: Value =
        serde_json::from_slice(content).map_err(|error| format!("is no statement: {error}"))?;
    let kind = document["predicateType"].as_str().unwrap_or_default();
    if kind != TYPE {
        return Err(format!("has a predicate of type {kind:?}, and not {TYPE}"));
    }
    let subjects = document["subject"].take();
    let has_subjects = subjects.as_array().is_some_and(|subjects| !subjects.is_empty());
    Ok(Predicate {
        kind: TYPE,
        file: file.to_owned(),
        inline_only: false,
        content: Arc::new(document["predicate"].take()),
        subjects: has_subjects.then_some(subjects),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_of_one_kind_and_keep_what_they_are_about() {
        let read = |text: &str| statement(text.as_bytes(), "x.spdx.json");
        let plain =
            read(&format!(r#"{{"predicateType":"{TYPE}","subject":[],"predicate":{{"a":1}}}}"#)).unwrap();
        assert_eq!((plain.content["a"].as_i64(), plain.subjects), (Some(1), None));
        let subject = r#"[{"name":"x","digest":{"sha256":"00"}}]"#;
        let about =
            read(&format!(r#"{{"predicateType":"{TYPE}","subject":{subject},"predicate":{{}}}}"#)).unwrap();
        assert_eq!(about.subjects.unwrap()[0]["name"], "x");
        assert!(
            read(r#"{"predicateType":"https://slsa.dev/provenance/v1"}"#)
                .unwrap_err()
                .contains("predicate of type")
        );
        assert!(read("[1").unwrap_err().contains("no statement") && read("7").is_err());
    }
}
