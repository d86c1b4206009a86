//! Several targets of one build.

use base::Reference;

use crate::request::{BuildRequest, Output};

/// A further target of a build.
#[derive(Debug, Clone)]
pub struct TargetRequest {
    /// The stage.
    pub stage: String,
    /// Names for its image; empty leaves it without a name.
    pub tags: Vec<Reference>,
    /// Where it goes; empty means [`Output::Store`].
    pub outputs: Vec<Output>,
}

impl BuildRequest {
    /// The same request for each of its targets alone.
    pub(crate) fn of_each_target(&self) -> Vec<BuildRequest> {
        let first = BuildRequest { further_targets: Vec::new(), ..self.clone() };
        let further = self.further_targets.iter().map(|target| BuildRequest {
            target: Some(target.stage.clone()),
            tags: target.tags.clone(),
            outputs: target.outputs.clone(),
            ..first.clone()
        });
        std::iter::once(first.clone()).chain(further).collect()
    }

    /// The repositories of all names that the images get, with their registries.
    pub(crate) fn repositories(&self) -> Vec<String> {
        let further = self.further_targets.iter().flat_map(|target| &target.tags);
        let name = |tag: &Reference| format!("{}/{}", tag.registry, tag.repository);
        self.tags.iter().chain(further).map(name).collect()
    }

    /// The names of the stages that are asked for by name.
    pub(crate) fn target_names(&self) -> Vec<&str> {
        let further = self.further_targets.iter().map(|target| target.stage.as_str());
        self.target.as_deref().into_iter().chain(further).collect()
    }
}
