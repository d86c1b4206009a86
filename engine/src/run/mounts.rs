//! What a container shows beside the files of its image: volumes, directories of the host, memory and devices.

use std::path::{Component, Path, PathBuf};

use base::image::ContainerConfig;
use base::{CancelToken, Mount};
use runner::{ExtraMount, MountKind, Peering};
use snapshotter::{HeldVolumes, Store, Tree};

use crate::Engine;
use crate::containers::MountPoint;
use crate::devices;
use crate::error::EngineError;
use crate::request::{MountRequest, MountSource, RunRequest, VolumeMount, VolumesFrom};
use crate::volumes::{self, Volume, VolumeError};

/// What a new container shows.
pub(super) struct Shown<'a> {
    /// As the runner mounts it, parents first.
    pub(super) mounts: Vec<ExtraMount>,
    /// As it is remembered.
    pub(super) points: Vec<MountPoint>,
    pub(super) volumes: ShownVolumes<'a>,
}

/// The volumes of a container that is being made: nobody else fills or removes them. Those that were made for it go again, unless it is
/// [finished](Self::finish).
pub(crate) struct ShownVolumes<'a> {
    // Dropped before the new ones are removed, which they hold.
    held: HeldVolumes,
    new: NewVolumes<'a>,
    /// The names of all.
    pub(crate) names: Vec<String>,
}

impl ShownVolumes<'_> {
    /// Says that the container has its row, which protects them from now on.
    pub(crate) fn finish(mut self) {
        self.new.names.clear();
        drop(self.held);
    }
}

/// Volumes that were made for a container that is not there yet.
struct NewVolumes<'a> {
    store: &'a Store,
    names: Vec<String>,
}

impl Drop for NewVolumes<'_> {
    /// One that somebody else has begun to use stays. One that cannot be removed is there for `volume prune`.
    fn drop(&mut self) {
        for name in &self.names {
            let _ = self.store.remove_volume(name);
        }
    }
}

impl Engine {
    /// Finds and makes all that a container is to show. `tree` is its image's.
    pub(super) fn shown(
        &self,
        request: &RunRequest,
        image: &ContainerConfig,
        tree: Option<&Tree>,
        described: Vec<ExtraMount>,
    ) -> Result<Shown<'_>, EngineError> {
        let wanted = self.wanted(request, image)?;
        let mut new = NewVolumes { store: &self.store, names: Vec::new() };
        let mut found = Vec::new();
        for mount in &wanted {
            found.push(match &mount.source {
                MountSource::Host { .. } => None,
                MountSource::Volume(volume) => {
                    let (volume, is_new) = self.make_volume(volume.name.as_deref(), &volume.settings)?;
                    new.names.extend(is_new.then(|| volume.name.clone()));
                    Some(volume)
                }
            });
        }
        let names: Vec<String> = found.iter().flatten().map(|volume| volume.name.clone()).collect();
        let held = self.store.hold_volumes(&names)?;
        let (mut mounts, mut points) = (memory(request), Vec::new());
        for (mount, volume) in wanted.iter().zip(found.iter().map(Option::as_ref)) {
            if let (Some(volume), Some(tree)) = (volume, tree) {
                self.fill(mount, volume, &held, tree)?;
            }
            mounts.push(extra_mount(mount, volume)?);
            points.push(point(mount, volume));
        }
        // What is mounted into a mount comes after it.
        mounts.sort_by_key(|mount| Path::new(&mount.destination).components().count());
        mounts.extend(device_mounts(request)?);
        mounts.extend(described);
        Ok(Shown { mounts, points, volumes: ShownVolumes { held, new, names } })
    }

    /// What was asked for, what other containers show, and what the image wants to be volumes; an earlier one wins
    /// where targets are the same.
    fn wanted(
        &self,
        request: &RunRequest,
        image: &ContainerConfig,
    ) -> Result<Vec<MountRequest>, EngineError> {
        let mut targets = Vec::new();
        for tmpfs in &request.isolation.tmpfs {
            targets.push(target(&tmpfs.target)?);
        }
        let mut wanted = Vec::new();
        for mount in &request.mounts {
            let target = target(&mount.target)?;
            if targets.contains(&target) {
                return Err(VolumeError::DuplicateTarget(target).into());
            }
            targets.push(target.clone());
            wanted.push(MountRequest { target, ..mount.clone() });
        }
        let mut others = Vec::new();
        // As in Docker, the last container wins.
        for from in request.volumes_from.iter().rev() {
            others.extend(self.mounts_of(from)?);
        }
        others.extend(image.volumes.keys().map(|path| MountRequest {
            source: MountSource::Volume(VolumeMount::default()),
            target: path.clone(),
            read_only: false,
        }));
        for mount in others {
            let target = target(&mount.target)?;
            if !targets.contains(&target) {
                targets.push(target.clone());
                wanted.push(MountRequest { target, ..mount });
            }
        }
        Ok(wanted)
    }

    /// What another container shows, for `--volumes-from`.
    fn mounts_of(&self, from: &VolumesFrom) -> Result<Vec<MountRequest>, EngineError> {
        let donor = self.container(&from.container)?;
        let request = |point: MountPoint| MountRequest {
            read_only: from.read_only.unwrap_or(!point.writable),
            target: point.target,
            source: match point.volume {
                Some(name) => MountSource::Volume(VolumeMount {
                    name: Some(name),
                    no_copy: true,
                    subpath: point.subpath,
                    ..VolumeMount::default()
                }),
                None => MountSource::Host {
                    path: point.source,
                    create: false,
                    recursive: true,
                    peering: Peering::named(&point.propagation).flatten(),
                },
            },
        };
        Ok(donor.document.mounts.into_iter().map(request).collect())
    }

    /// Gives a volume that is empty what the image has in its place.
    fn fill(
        &self,
        mount: &MountRequest,
        volume: &Volume,
        held: &HeldVolumes,
        tree: &Tree,
    ) -> Result<(), EngineError> {
        let MountSource::Volume(VolumeMount { no_copy, subpath, .. }) = &mount.source else { return Ok(()) };
        if *no_copy || subpath.is_some() || !volume.options.is_empty() {
            return Ok(());
        }
        match held.volumes().find(|held| held.name == volume.name) {
            Some(row) => Ok(self.store.fill_volume(row, held, tree, &mount.target, &CancelToken::new())?),
            None => Ok(()),
        }
    }
}

/// A path in a container without what means nothing in it.
fn target(text: &str) -> Result<String, VolumeError> {
    let invalid = || VolumeError::Target(text.to_owned());
    let mut clean = PathBuf::from("/");
    for component in Path::new(text).strip_prefix("/").map_err(|_| invalid())?.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    let clean = clean.to_str().ok_or_else(invalid)?;
    if clean == "/" { Err(invalid()) } else { Ok(clean.to_owned()) }
}

/// As the runner mounts it.
fn extra_mount(mount: &MountRequest, volume: Option<&Volume>) -> Result<ExtraMount, EngineError> {
    let kind = match (&mount.source, volume) {
        (MountSource::Host { path, create, recursive, peering }, _) => {
            host(path, *create, *recursive, *peering, mount.read_only)?
        }
        (MountSource::Volume(asked), Some(volume)) => of_volume(asked, volume, mount.read_only)?,
        (MountSource::Volume(_), None) => return Err(VolumeError::Target(mount.target.clone()).into()),
    };
    Ok(ExtraMount { destination: mount.target.clone(), kind })
}

fn host(
    path: &Path,
    create: bool,
    recursive: bool,
    peering: Option<Peering>,
    read_only: bool,
) -> Result<MountKind, EngineError> {
    if !sys::fs::exists(path)? {
        if !create {
            return Err(EngineError::NoVolumeSource(path.to_owned()));
        }
        sys::fs::create_dir_all(path, 0o755)?;
    }
    let source = path.to_owned();
    Ok(match peering {
        None => MountKind::Bind { source, read_only, recursive },
        Some(peering) => {
            check_peering(&source, peering)?;
            MountKind::Connected { source, read_only, peering }
        }
    })
}

/// What a volume shows: its directory, a part of that, or what its options say.
fn of_volume(asked: &VolumeMount, volume: &Volume, read_only: bool) -> Result<MountKind, EngineError> {
    let option = |name: &str| volume.options.get(name).map_or("", String::as_str);
    let source = match volume.options.is_empty() {
        true => volume.mountpoint.clone(),
        false if volumes::is_bind(&volume.options) => PathBuf::from(option("device")),
        false => {
            let mut options: Vec<String> =
                option("o").split(',').filter(|flag| !flag.is_empty()).map(str::to_owned).collect();
            options.extend(read_only.then(|| "ro".to_owned()));
            let (kind, source) = (option("type").to_owned(), option("device").to_owned());
            return Ok(MountKind::Filesystem { kind, source, options });
        }
    };
    if !sys::fs::exists(&source)? {
        return Err(VolumeError::NoDevice { name: volume.name.clone(), device: source }.into());
    }
    Ok(match &asked.subpath {
        Some(path)
            if Path::new(path)
                .components()
                .any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) =>
        {
            return Err(VolumeError::Subpath(path.clone()).into());
        }
        Some(path) => {
            let source = Mount::Bind { source, read_only };
            MountKind::Part { source, path: path.clone(), read_only }
        }
        None => MountKind::Bind { source, read_only, recursive: true },
    })
}

/// As it is remembered.
fn point(mount: &MountRequest, volume: Option<&Volume>) -> MountPoint {
    let (source, propagation, subpath) = match &mount.source {
        MountSource::Host { path, peering, .. } => {
            (path.clone(), peering.map_or("rprivate", Peering::name), None)
        }
        MountSource::Volume(asked) => {
            let place = volume.map(|volume| volume.mountpoint.clone()).unwrap_or_default();
            (place, "", asked.subpath.clone())
        }
    };
    MountPoint {
        volume: volume.map(|volume| volume.name.clone()),
        source,
        target: mount.target.clone(),
        writable: !mount.read_only,
        propagation: propagation.to_owned(),
        subpath,
    }
}

/// Directories in memory.
fn memory(request: &RunRequest) -> Vec<ExtraMount> {
    let tmpfs = request.isolation.tmpfs.iter().map(|tmpfs| {
        let (size, mode, options) = (tmpfs.size, tmpfs.mode, tmpfs.options.clone());
        ExtraMount { destination: tmpfs.target.clone(), kind: MountKind::Tmpfs { size, mode, options } }
    });
    tmpfs.collect()
}

fn device_mounts(request: &RunRequest) -> Result<Vec<ExtraMount>, EngineError> {
    let mount = |device: &crate::request::DeviceNode| {
        let nodes = devices::files(&device.source, Path::new(&device.target))?;
        let kind = MountKind::Device { source: device.source.clone(), nodes, access: device.access };
        Ok(ExtraMount { destination: device.target.clone(), kind })
    };
    request.isolation.devices.iter().map(mount).collect()
}

/// Refuses a connection that the mount of the host does not have: it would silently be none. In a user namespace
/// no mount of the host is shared (`mount_namespaces(7)`), so its containers can receive only.
fn check_peering(source: &Path, peering: Peering) -> Result<(), EngineError> {
    let found = sys::peers::peers_of(source)?;
    let fits = if peering.gives { found.is_shared } else { found.is_shared || found.is_slave };
    if fits {
        return Ok(());
    }
    let (path, mount_point) = (source.to_owned(), found.mount_point);
    let wanted = if peering.gives { "a shared mount" } else { "a shared or slave mount" };
    Err(EngineError::NotConnected { path, mount_point, wanted, name: peering.name() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_cleaned() {
        for (text, clean) in [("/a", "/a"), ("/a//b/./c/", "/a/b/c"), ("/a/../b", "/b"), ("/../a", "/a")] {
            assert_eq!(target(text).as_deref(), Ok(clean));
        }
        for bad in ["", "a", "/", "/a/..", "./a"] {
            assert!(target(bad).is_err(), "{bad}");
        }
    }
}
