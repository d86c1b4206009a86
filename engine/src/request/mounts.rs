//! What a container shows beside the files of its image: directories of the host, volumes, and other images.

use std::collections::BTreeMap;
use std::path::PathBuf;

use runner::Peering;

use crate::volumes::ImageMount;

/// `-v` and `--mount`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountRequest {
    /// What appears.
    pub source: MountSource,
    /// Where it appears, absolute.
    pub target: String,
    /// `:ro`
    pub read_only: bool,
}

/// What a container shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSource {
    /// A directory or file of the host.
    Host {
        /// Absolute path on the host.
        path: PathBuf,
        /// Whether a directory is made where there is nothing, as for `-v`.
        create: bool,
        /// Whether mounts below it come along.
        recursive: bool,
        /// `:rslave`, `:rshared`: whether what is mounted there later appears on the other side. `None` is `:rprivate`.
        peering: Option<Peering>,
    },
    /// A volume.
    Volume(VolumeMount),
    /// All layers of an image, which nobody writes to.
    Image(ImageMount),
}

/// A volume that a container shows; made if there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeMount {
    /// Its name; `None` is a new one for this container alone.
    pub name: Option<String>,
    /// How it is made if there is none.
    pub settings: VolumeSettings,
    /// Whether a volume that is empty stays empty (`nocopy`), instead of beginning with what the image has there.
    pub no_copy: bool,
    /// The part of it that appears; links are followed inside of the volume.
    pub subpath: Option<String>,
}

/// How a volume is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeSettings {
    /// `--label`
    pub labels: BTreeMap<String, String>,
    /// `--opt`: `type`, `o` and `device`, as for `mount(8)`. Without any it is a directory of the store.
    pub options: BTreeMap<String, String>,
}

/// `--volumes-from`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumesFrom {
    /// The container whose volumes and directories of the host appear, by name or id.
    pub container: String,
    /// Whether they can be written to; `None` as there.
    pub read_only: Option<bool>,
}

/// A file that a container is to have and that is in no directory of the host. It lies in the container's directory, for
/// whoever starts it again.
#[derive(Clone, PartialEq, Eq)]
pub struct FileRequest {
    /// Where it appears, absolute.
    pub target: String,
    /// What is in it.
    pub content: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

impl std::fmt::Debug for FileRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Its content may be a secret.
        write!(f, "{} {:o} {}:{}", self.target, self.mode, self.uid, self.gid)
    }
}
