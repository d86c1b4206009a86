//! Content from elsewhere: files of the web, and git repositories.
//!
//! Both are *pinned* before anything is built from them: a URL becomes the digest of what it has now, a
//! branch the commit that it stands for. Pinning asks the server in every build, unless the name says
//! already what it means (a checksum that is in the store, a commit id).

pub(crate) mod access;
pub(crate) mod git;
pub(crate) mod host_program;
pub(crate) mod http;
pub(crate) mod patience;

use base::CancelToken;
use snapshotter::Lease;

use crate::Engine;
use crate::progress::Progress;
use crate::request::StepRules;

pub(crate) use access::{Access, without_credentials};

/// All that getting content from elsewhere takes.
#[derive(Clone, Copy)]
pub(crate) struct Fetcher<'a> {
    pub(crate) engine: &'a Engine,
    /// Protects what is fetched.
    pub(crate) lease: &'a Lease,
    pub(crate) access: &'a Access,
    pub(crate) progress: &'a Progress,
    /// How long servers are waited for, and how often they are asked again.
    pub(crate) rules: &'a StepRules,
    pub(crate) cancel: &'a CancelToken,
}
