//! Volumes as things of their own: made, listed, looked at, removed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base::Timestamp;
use serde::{Deserialize, Serialize};
use snapshotter::NewVolume;

use crate::Engine;
use crate::error::EngineError;
use crate::request::VolumeSettings;

/// The only driver: a directory of the store, or something that the kernel can mount.
pub const DRIVER: &str = "local";

/// The label of volumes that nobody named, by which Docker's clients know them.
const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

/// The options that the driver knows, as Docker's does.
const OPTIONS: [&str; 3] = ["type", "o", "device"];

/// What is wrong with a volume that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VolumeError {
    /// A name that no volume may have.
    #[error(
        "create {0}: \"{0}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed"
    )]
    Name(String),
    /// An option that the driver does not know.
    #[error("create {name}: invalid option: \"{option}\"")]
    Option {
        /// The volume.
        name: String,
        /// The option.
        option: String,
    },
    /// Options that say what to mount, but not enough of it.
    #[error("create {name}: missing {missing} in the options of the volume")]
    MissingOption {
        /// The volume.
        name: String,
        /// What it lacks.
        missing: &'static str,
    },
    /// Two mounts of one container have the same target.
    #[error("duplicate mount point: {0}")]
    DuplicateTarget(String),
    /// A target where nothing can appear.
    #[error("invalid mount target \"{0}\": it must be an absolute path other than /")]
    Target(String),
    /// A part of a volume that is none.
    #[error("invalid volume-subpath \"{0}\": .. would lead out of the volume")]
    Subpath(String),
    /// A part of an image that is none.
    #[error(
        "invalid image-subpath \"{0}\": it must be a path in the image without / in front and without .."
    )]
    ImageSubpath(String),
    /// A part of an image that has no files.
    #[error("the image {0} has no layers, so no part of it can be shown")]
    NoLayers(String),
    /// The directory that a volume with the option `bind` shows is not there.
    #[error("volume {name} shows {}, which does not exist", device.display())]
    NoDevice {
        /// The volume.
        name: String,
        /// What it is to show.
        device: PathBuf,
    },
}

impl base::Faulty for VolumeError {
    fn fault(&self) -> base::Fault {
        base::Fault::Input
    }
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Whether it was made for one container, without a name that somebody chose.
    pub anonymous: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it was made with.
    pub options: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Where its files are, if they are in the store.
    pub mountpoint: PathBuf,
}

/// An image that a container shows beside its own. It is pulled as the container's own one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageMount {
    /// Its name or id.
    pub image: String,
    /// The part of it that appears; links are followed inside of the image.
    pub subpath: Option<String>,
}

/// A volume with what has to be looked up or counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeUsage {
    /// The volume.
    pub volume: Volume,
    /// The ids of the containers that show it, running or not.
    pub users: Vec<String>,
    /// Bytes of disk that it takes.
    pub bytes: u64,
}

/// What the store keeps of how a volume was asked for.
#[derive(Default, Serialize, Deserialize)]
struct Document {
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    options: BTreeMap<String, String>,
}

impl Engine {
    /// Makes a volume, or finds the one that has its name. Without a name it is anonymous.
    ///
    /// # Errors
    /// [`VolumeError`].
    pub fn create_volume(
        &self,
        name: Option<&str>,
        settings: &VolumeSettings,
    ) -> Result<Volume, EngineError> {
        self.make_volume(name, settings).map(|(volume, _)| volume)
    }

    /// The same; answers also whether it is new.
    pub(crate) fn make_volume(
        &self,
        name: Option<&str>,
        settings: &VolumeSettings,
    ) -> Result<(Volume, bool), EngineError> {
        let chosen = name.map(str::to_owned).map_or_else(|| sys::random::hex(32), Ok)?;
        check_name(&chosen)?;
        check_options(&chosen, &settings.options)?;
        let mut labels = settings.labels.clone();
        if name.is_none() {
            labels.insert(ANONYMOUS_LABEL.to_owned(), String::new());
        }
        let document = Document { labels, options: settings.options.clone() };
        let document = serde_json::to_string(&document).unwrap_or_default();
        let new = NewVolume { name: &chosen, anonymous: name.is_none(), document: &document };
        let (made, is_new) = self.store.create_volume(&new)?;
        if is_new {
            self.tell_of_volume("create", &chosen);
        }
        Ok((self.volume_of(&made), is_new))
    }

    pub(crate) fn volume_of(&self, volume: &snapshotter::Volume) -> Volume {
        // One that a newer version wrote in another form is shown without them.
        let Document { labels, options } = serde_json::from_str(&volume.document).unwrap_or_default();
        Volume {
            name: volume.name.clone(),
            anonymous: volume.anonymous,
            labels,
            options,
            created_at: volume.created_at,
            mountpoint: self.store.volume_path(volume),
        }
    }

    /// Every volume, by name.
    pub fn volumes(&self) -> Result<Vec<Volume>, EngineError> {
        Ok(self.store.volumes()?.iter().map(|volume| self.volume_of(volume)).collect())
    }

    /// The volume with this name.
    ///
    /// # Errors
    /// There is none.
    pub fn volume(&self, name: &str) -> Result<Volume, EngineError> {
        let missing = || snapshotter::StoreError::NoSuchVolume { name: name.to_owned() };
        let volume = self.store.volume(name)?.ok_or_else(missing)?;
        Ok(self.volume_of(&volume))
    }

    /// Who shows a volume, and how much disk it takes.
    pub fn volume_usage(&self, volume: &Volume) -> Result<VolumeUsage, EngineError> {
        let users = self.store.volume_users(&volume.name)?;
        let bytes = match self.store.volume(&volume.name)? {
            Some(found) => self.store.volume_size(&found)?,
            None => 0,
        };
        Ok(VolumeUsage { volume: volume.clone(), users, bytes })
    }

    /// The ids of the containers that show a volume.
    pub fn volume_users(&self, name: &str) -> Result<Vec<String>, EngineError> {
        Ok(self.store.volume_users(name)?)
    }

    /// Removes a volume with all that is in it.
    ///
    /// # Errors
    /// There is none, or a container shows it.
    pub fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        // Looking at containers removes those whose command was killed before it could.
        self.containers()?;
        self.store.remove_volume(name)?;
        self.tell_of_volume("destroy", name);
        Ok(())
    }

    /// Removes the volumes that no container shows and that `wanted` chooses. Answers their names, and how many bytes
    /// of disk that freed.
    pub fn prune_volumes(&self, wanted: impl Fn(&Volume) -> bool) -> Result<(Vec<String>, u64), EngineError> {
        self.containers()?;
        let (mut removed, mut freed) = (Vec::new(), 0);
        for volume in self.volumes()?.into_iter().filter(wanted) {
            let usage = self.volume_usage(&volume)?;
            match self.store.remove_volume(&volume.name) {
                Ok(()) => {
                    self.tell_of_volume("destroy", &volume.name);
                    removed.push(volume.name);
                    freed += usage.bytes;
                }
                Err(
                    snapshotter::StoreError::VolumeInUse { .. }
                    | snapshotter::StoreError::NoSuchVolume { .. },
                ) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.event_log().add_prune("volume", freed);
        Ok((removed, freed))
    }
}

/// Refuses what is no name, by Docker's rule, but for names of one letter.
fn check_name(name: &str) -> Result<(), VolumeError> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if first && rest { Ok(()) } else { Err(VolumeError::Name(name.to_owned())) }
}

fn check_options(name: &str, options: &BTreeMap<String, String>) -> Result<(), VolumeError> {
    if let Some(option) = options.keys().find(|option| !OPTIONS.contains(&option.as_str())) {
        return Err(VolumeError::Option { name: name.to_owned(), option: option.clone() });
    }
    let missing = |missing| Err(VolumeError::MissingOption { name: name.to_owned(), missing });
    let has = |option: &str| options.get(option).is_some_and(|value| !value.is_empty());
    match options.is_empty() {
        true => Ok(()),
        false if !has("device") => missing("device"),
        false if !has("type") && !is_bind(options) => missing("type"),
        false => Ok(()),
    }
}

/// Whether the options of a volume ask for a directory of the host.
pub(crate) fn is_bind(options: &BTreeMap<String, String>) -> bool {
    let flags = options.get("o").map_or("", String::as_str);
    flags.split(',').any(|flag| matches!(flag, "bind" | "rbind"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_docker() {
        for name in ["a", "data", "a.b_c-1", "0data"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in ["", "/data", ".data", "a b", "a/b", "-a", "ä"] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn options_say_what_to_mount_or_nothing() {
        let options = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        for fine in [
            &[][..],
            &[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")],
            &[("type", "none"), ("device", "/srv"), ("o", "bind")],
            &[("device", "/srv"), ("o", "rbind,ro")],
        ] {
            assert_eq!(check_options("v", &options(fine)), Ok(()), "{fine:?}");
        }
        for bad in [&[("size", "1")][..], &[("type", "tmpfs")], &[("device", "/srv")]] {
            assert!(check_options("v", &options(bad)).is_err(), "{bad:?}");
        }
    }
}
