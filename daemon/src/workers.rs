//! What clients are told of this machine, its cache, and files.

use std::collections::HashMap;

use base::Platform;
use engine::session::{FileKind, FoundFile};

use crate::builds::Builds;
use crate::proto::fsutil::Stat;
use crate::proto::pb;
use crate::proto::types::{BuildkitVersion, WorkerRecord};
use crate::session::files::go_mode;

/// The version of BuildKit whose interface this is.
const SPEAKS: &str = "v0.13.2";

pub(crate) fn version() -> BuildkitVersion {
    BuildkitVersion {
        package: "lapstrake".to_owned(),
        version: SPEAKS.to_owned(),
        revision: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// The only worker.
pub(crate) fn worker(builds: &Builds) -> WorkerRecord {
    let labels = [
        ("org.mobyproject.buildkit.worker.executor", "lapstrake"),
        ("org.mobyproject.buildkit.worker.snapshotter", "overlayfs"),
        ("org.mobyproject.buildkit.worker.network", "host"),
    ];
    WorkerRecord {
        id: builds.worker_id.clone(),
        labels: labels
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .chain(builds.labels.iter().cloned())
            .collect(),
        platforms: engine::platforms_here().iter().map(platform).collect(),
        gc_policy: Vec::new(),
        buildkit_version: Some(version()),
        cdi_devices: Vec::new(),
    }
}

fn platform(platform: &Platform) -> pb::Platform {
    pb::Platform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone(),
        os_version: platform.os_version.clone(),
        os_features: platform.os_features.clone(),
    }
}

/// A file of a result, as clients want it.
pub(crate) fn stat(found: &FoundFile) -> Stat {
    let kind = match found.kind {
        FileKind::Directory => go_mode::DIRECTORY,
        FileKind::Symlink => go_mode::SYMLINK,
        FileKind::CharDevice => go_mode::DEVICE | go_mode::CHAR_DEVICE,
        FileKind::BlockDevice => go_mode::DEVICE,
        FileKind::Fifo => go_mode::PIPE,
        FileKind::Socket => go_mode::SOCKET,
        FileKind::File => 0,
    };
    Stat {
        path: found.name.clone(),
        mode: kind | go_mode::of_permissions(found.mode),
        uid: found.uid,
        gid: found.gid,
        size: i64::try_from(found.size).unwrap_or(i64::MAX),
        mod_time: found.modified,
        linkname: found.target.clone(),
        devmajor: 0,
        devminor: 0,
        xattrs: HashMap::new(),
    }
}
