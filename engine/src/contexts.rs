//! All files of the caller that a build may use: the build context and those of named contexts.

use std::collections::BTreeMap;

use crate::context::BuildContext;
use crate::error::{BuildError, EngineError};
use crate::remote::Fetcher;
use crate::request::{BuildRequest, NamedContext};

/// The name of the build context among local sources.
const MAIN: &str = "context";

/// The files of one build, by the name of their local source.
pub(crate) struct Contexts(BTreeMap<String, BuildContext>);

impl Contexts {
    /// The build context and the named contexts that are files.
    pub(crate) fn open(
        fetcher: &Fetcher<'_>,
        request: &BuildRequest,
        main: BuildContext,
    ) -> Result<Self, BuildError> {
        let mut all = BTreeMap::from([(MAIN.to_owned(), main)]);
        for (name, context) in &request.named_contexts {
            if let NamedContext::Files(source) = context {
                let context = BuildContext::open_named(fetcher, request, source)?.with_own_ignore_file()?;
                all.insert(name.clone(), context);
            }
        }
        Ok(Self(all))
    }

    /// The files of a definition's local sources, which come as they are: nobody's ignore file leaves anything out.
    pub(crate) fn of_definition(fetcher: &Fetcher<'_>, request: &BuildRequest) -> Result<Self, BuildError> {
        let mut all = BTreeMap::new();
        for (name, context) in &request.named_contexts {
            if let NamedContext::Files(source) = context {
                all.insert(name.clone(), BuildContext::open_named(fetcher, request, source)?);
            }
        }
        Ok(Self(all))
    }

    /// No files.
    pub(crate) fn none() -> Self {
        Self(BTreeMap::new())
    }

    /// The files of a local source.
    pub(crate) fn get(&self, name: &str) -> Result<&BuildContext, EngineError> {
        self.0.get(name).ok_or_else(|| EngineError::NoContext(name.to_owned()))
    }

    /// Keeps what was learnt about the files, for the next build.
    pub(crate) fn save_stat_caches(&self) -> Result<(), EngineError> {
        self.0.values().try_for_each(BuildContext::save_stat_cache)
    }
}
