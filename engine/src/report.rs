//! What the engine answers: plain values that surfaces draw.

use std::collections::BTreeMap;

use base::image::{Descriptor, Healthcheck, History, ImageConfig};
use base::{Digest, Platform, Timestamp};
use snapshotter::CacheUsage;

use crate::history::Timing;

/// A finished build.
#[derive(Debug, Clone)]
pub struct BuildReport {
    /// What became of each target, in the order of the request; at least one.
    pub targets: Vec<TargetReport>,
    /// What is remembered of the build, unless it was not to be.
    pub record: Option<RecordReport>,
}

/// What is remembered of a build.
#[derive(Debug, Clone)]
pub struct RecordReport {
    /// The id under which it is.
    pub build: String,
    /// Where the time went.
    pub timing: Timing,
}

/// The image of one target.
#[derive(Debug, Clone)]
pub struct TargetReport {
    /// The stage, if it was asked for by name.
    pub stage: Option<String>,
    /// The digest of the image's config, which is its id; of several platforms, that of their index.
    pub image_id: Digest,
    /// The digest of its manifest or index.
    pub manifest: Digest,
    /// What leads to it.
    pub descriptor: Descriptor,
    /// Complete names under which it is in the store.
    pub names: Vec<String>,
}

/// An image in the store.
#[derive(Debug, Clone)]
pub struct ImageSummary {
    /// The digest of its config.
    pub id: Digest,
    /// Complete names, with tag; empty for an image without a name.
    pub names: Vec<String>,
    /// The digest of its manifest, or of the index it came from.
    pub digest: Digest,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Bytes of its layers, unpacked.
    pub size: u64,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it runs on.
    pub platform: Platform,
}

/// Everything about one image.
#[derive(Debug, Clone)]
pub struct ImageDetails {
    /// As in lists.
    pub summary: ImageSummary,
    /// Its config document.
    pub config: ImageConfig,
}

impl ImageDetails {
    /// Its health check, if there is one.
    pub fn healthcheck(&self) -> Option<&Healthcheck> {
        self.config.config.healthcheck.as_ref()
    }
}

/// One line of `lap history`.
#[derive(Debug, Clone)]
pub struct HistoryLine {
    /// The entry of the config.
    pub entry: History,
    /// Bytes of the layer that the step made; 0 for none.
    pub size: u64,
}

/// What removing a name did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// A name is gone.
    Untagged(String),
    /// An image is gone.
    Deleted(Digest),
}

/// What `lap load` found.
#[derive(Debug, Clone)]
pub struct LoadedImage {
    /// Its id.
    pub image_id: Digest,
    /// Complete names; empty for an image without a name.
    pub names: Vec<String>,
}

/// What `lap pull` did.
#[derive(Debug, Clone)]
pub struct PulledImage {
    /// The complete name that was asked for.
    pub name: String,
    /// The digest that the name means: of the manifest, or of the index.
    pub digest: Digest,
    /// Whether the store had it before.
    pub up_to_date: bool,
}

/// Space in use, for `lap system df`: bytes of disk, each counted once.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// Images.
    pub images: UsageLine,
    /// Containers' changes.
    pub containers: UsageLine,
    /// Volumes.
    pub volumes: UsageLine,
    /// Results that only the build cache keeps.
    pub build_cache: UsageLine,
    /// Directories of `RUN --mount=type=cache`.
    pub cache_mounts: UsageLine,
    /// What is being made, and what the next collection removes.
    pub temporary: UsageLine,
    /// Bytes of what the store needs for itself.
    pub metadata: u64,
    /// Bytes of everything below the root of the store: the sum of the above.
    pub total: u64,
}

/// One kind of object.
#[derive(Debug, Clone, Copy, Default)]
pub struct UsageLine {
    /// How many there are.
    pub total: usize,
    /// How many are in use.
    pub active: usize,
    /// Bytes.
    pub size: u64,
    /// Bytes that pruning would free.
    pub reclaimable: u64,
}

/// Space in use, one by one, for `lap system df -v`.
#[derive(Debug, Clone, Default)]
pub struct UsageDetails {
    /// Images, the newest first.
    pub images: Vec<ImageUsage>,
    /// What steps left, and cache mounts.
    pub cache: Vec<CacheUsage>,
}

/// An image and the disk that it takes.
#[derive(Debug, Clone)]
pub struct ImageUsage {
    /// As in lists.
    pub summary: ImageSummary,
    /// Bytes of disk that it takes.
    pub bytes: u64,
    /// Bytes of disk that no other image takes.
    pub unique_bytes: u64,
    /// Whether a container uses it.
    pub in_use: bool,
}

/// The machine and the store, for `lap info`.
#[derive(Debug, Clone)]
pub struct Info {
    /// Where the store is.
    pub root: std::path::PathBuf,
    /// `overlay` or `native`.
    pub driver: String,
    /// How many images.
    pub images: usize,
    /// The kernel's release.
    pub kernel: String,
    /// Name of the distribution.
    pub operating_system: String,
    /// The platform.
    pub platform: Platform,
    /// Cores.
    pub cpus: usize,
    /// Bytes of memory.
    pub memory: u64,
    /// The host's name.
    pub hostname: String,
    /// Where sockets and the like are.
    pub runtime_directory: std::path::PathBuf,
    /// How containers are isolated, or why there can be none.
    pub isolation: Result<runner::isolation::Isolation, String>,
    /// How many user ids containers can have.
    pub user_ids: u64,
    /// The version of control groups.
    pub cgroup_version: &'static str,
    /// Variables that say how the network is reached, as in `https_proxy`.
    pub proxies: Vec<(String, String)>,
    /// What containers can be limited by: `cpu`, `cpuset`, `memory`, `pids`, `io`.
    pub limits: Vec<&'static str>,
}
