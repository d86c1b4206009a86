//! What of a build is looked through for packages besides its result: stages and the build context, if the Dockerfile says so.
//!
//! Source: BuildKit, `docs/attestations/sbom.md`, "Dockerfile configuration".

use llb::{CopyAction, FileAction, FileOp, Input, Metadata, Op};

use super::{CONTEXT, Lowering, StageState};

/// The argument that has the build context looked through, in the stage of the target.
const SCAN_CONTEXT: &str = "BUILDKIT_SBOM_SCAN_CONTEXT";

/// The argument that has a stage looked through.
const SCAN_STAGE: &str = "BUILDKIT_SBOM_SCAN_STAGE";

/// A filesystem that is looked through for packages besides the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// The name of a stage, or `context`.
    pub name: String,
    /// The files.
    pub what: Input,
}

/// Whether an entry of the environment is for the builder and not for processes.
pub(super) fn is_for_builder(entry: &str) -> bool {
    entry.split_once('=').is_some_and(|(name, _)| [SCAN_CONTEXT, SCAN_STAGE].contains(&name))
}

impl Lowering<'_> {
    /// What is looked through besides the result of `target`, by name.
    pub(super) fn scans(&mut self, target: usize) -> Vec<Scan> {
        let mut scans = Vec::new();
        if !self.options.scans {
            return scans;
        }
        for index in 0..self.done.len() {
            let Some(state) = self.done[index].as_ref() else { continue };
            let name = self.stages.all[index].name.clone().unwrap_or_else(|| format!("stage-{index}"));
            if index == target && self.is_asked(state, SCAN_CONTEXT, &name) {
                scans.push(Scan { name: CONTEXT.to_owned(), what: self.whole_context() });
                continue;
            }
            let is_asked = index != target && self.is_asked(state, SCAN_STAGE, &name);
            scans.extend(state.root.filter(|_| is_asked).map(|what| Scan { name, what }));
        }
        scans.sort_by(|a, b| a.name.cmp(&b.name));
        scans.dedup_by(|a, b| a.name == b.name);
        scans
    }

    /// Whether an argument of a stage, or of the whole file, is true or has the name of the stage in its list.
    fn is_asked(&self, state: &StageState, argument: &str, stage: &str) -> bool {
        let value = state.environment.get(argument).or_else(|| self.globals.environment.get(argument));
        let Some(value) = value.filter(|value| !value.is_empty()) else { return false };
        base::boolean::parse(value).unwrap_or_else(|| value.split(',').any(|name| name.trim() == stage))
    }

    /// The build context as a filesystem.
    fn whole_context(&mut self) -> Input {
        let context = self.local(CONTEXT);
        let copy = FileAction::Copy(CopyAction::new(0, vec!["/".to_owned()], "/"));
        let op = Op::File(FileOp { has_base: false, actions: vec![copy] });
        let metadata = Metadata { name: "[context] copy for the sbom".to_owned(), ..Metadata::default() };
        self.graph.add(op, &self.options.build_platform, &[context], metadata)
    }
}
