//! What a container shows beside the files of its image: volumes, other images, directories of the host, memory and devices.

use std::path::{Component, Path, PathBuf};

use base::image::ContainerConfig;
use base::{CancelToken, Mount};
use runner::{ExtraMount, MountKind, Peering};
use snapshotter::{HeldVolumes, Store, Tree};

use crate::Engine;
use crate::containers::{MountPoint, MountedImage};
use crate::devices;
use crate::error::EngineError;
use crate::request::{MountRequest, MountSource, RunRequest, VolumeMount, VolumesFrom};
use crate::run::ShownImage;
use crate::volumes::{self, ImageMount, Volume, VolumeError};

/// What a new container shows.
pub(super) struct Shown<'a> {
    /// As the runner mounts it, parents first.
    pub(super) mounts: Vec<ExtraMount>,
    /// As it is remembered.
    pub(super) points: Vec<MountPoint>,
    pub(super) volumes: ShownVolumes<'a>,
    pub(super) images: Vec<ShownImage>,
}

/// What a mount was found to show.
enum Source<'a> {
    Host,
    Volume(&'a Volume),
    Image(&'a ShownImage),
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
        // Before any volume is made or held: images may have to be fetched, which takes its time.
        let images = self.shown_images(&wanted, request)?;
        let mut found = Vec::new();
        for mount in &wanted {
            if let MountSource::Volume(volume) = &mount.source {
                let (volume, is_new) = self.make_volume(volume.name.as_deref(), &volume.settings)?;
                new.names.extend(is_new.then(|| volume.name.clone()));
                found.push(volume);
            }
        }
        let names: Vec<String> = found.iter().map(|volume| volume.name.clone()).collect();
        let held = self.store.hold_volumes(&names)?;
        let (mut mounts, mut points) = (memory(request), Vec::new());
        let (mut volumes_left, mut images_left) = (found.iter(), images.iter());
        for mount in &wanted {
            let source = match &mount.source {
                MountSource::Host { .. } => Some(Source::Host),
                MountSource::Volume(_) => volumes_left.next().map(Source::Volume),
                MountSource::Image(_) => images_left.next().map(Source::Image),
            };
            // There is one for each.
            let Some(source) = source else { continue };
            if let (Source::Volume(volume), Some(tree)) = (&source, tree) {
                self.fill(mount, volume, &held, tree)?;
            }
            let (kind, point) = self.mounted(mount, &source)?;
            mounts.push(ExtraMount { destination: mount.target.clone(), kind });
            points.push(point);
        }
        // What is mounted into a mount comes after it.
        mounts.sort_by_key(|mount| Path::new(&mount.destination).components().count());
        mounts.extend(device_mounts(request)?);
        mounts.extend(described);
        Ok(Shown { mounts, points, volumes: ShownVolumes { held, new, names }, images })
    }

    /// The images among what is wanted, in the same order.
    fn shown_images(
        &self,
        wanted: &[MountRequest],
        request: &RunRequest,
    ) -> Result<Vec<ShownImage>, EngineError> {
        let mut images = Vec::new();
        for mount in wanted {
            if let MountSource::Image(asked) = &mount.source {
                images.push(self.shown_image(&asked.image, request)?);
            }
        }
        Ok(images)
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
            source: match (point.volume, point.image) {
                (Some(name), _) => MountSource::Volume(VolumeMount {
                    name: Some(name),
                    no_copy: true,
                    subpath: point.subpath,
                    ..VolumeMount::default()
                }),
                // Its name may mean another image by now.
                (None, Some(image)) => {
                    MountSource::Image(ImageMount { image: image.id.to_string(), subpath: point.subpath })
                }
                (None, None) => MountSource::Host {
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

impl Engine {
    /// A mount as the runner makes it, and as it is remembered.
    fn mounted(
        &self,
        mount: &MountRequest,
        found: &Source<'_>,
    ) -> Result<(MountKind, MountPoint), EngineError> {
        let mut point = MountPoint {
            volume: None,
            image: None,
            source: PathBuf::new(),
            target: mount.target.clone(),
            writable: !mount.read_only,
            propagation: String::new(),
            subpath: None,
        };
        let kind = match (&mount.source, found) {
            (MountSource::Host { path, create, recursive, peering }, _) => {
                point.source.clone_from(path);
                point.propagation = peering.map_or("rprivate", Peering::name).to_owned();
                host(path, *create, *recursive, *peering, mount.read_only)?
            }
            (MountSource::Volume(asked), Source::Volume(volume)) => {
                point.volume = Some(volume.name.clone());
                point.source.clone_from(&volume.mountpoint);
                point.subpath.clone_from(&asked.subpath);
                of_volume(asked, volume, mount.read_only)?
            }
            (MountSource::Image(asked), Source::Image(image)) => {
                point.image = Some(MountedImage { name: asked.image.clone(), id: image.id });
                point.writable = false;
                point.subpath.clone_from(&asked.subpath);
                self.of_image(asked, image, &mut point.source)?
            }
            _ => return Err(VolumeError::Target(mount.target.clone()).into()),
        };
        Ok((kind, point))
    }

    /// What an image shows: all its layers, or a part of them. `source` becomes its topmost layer's directory.
    fn of_image(
        &self,
        asked: &ImageMount,
        image: &ShownImage,
        source: &mut PathBuf,
    ) -> Result<MountKind, EngineError> {
        let path = asked.subpath.as_deref().unwrap_or("/");
        if asked.subpath.is_some() && !stays_inside(path) {
            return Err(VolumeError::ImageSubpath(path.to_owned()).into());
        }
        match image.snapshot {
            Some(snapshot) => {
                let layers = self.store.read_only_view(snapshot)?;
                source.clone_from(&self.store.layer_dirs(snapshot)?.into_iter().next().unwrap_or_default());
                Ok(MountKind::Part { source: layers, path: path.to_owned(), read_only: true })
            }
            None if asked.subpath.is_some() => Err(VolumeError::NoLayers(asked.image.clone()).into()),
            None => {
                Ok(MountKind::Tmpfs { size: None, mode: EMPTY_IMAGE_MODE, options: vec!["ro".to_owned()] })
            }
        }
    }
}

/// The mode of the root of an image without layers.
const EMPTY_IMAGE_MODE: u32 = 0o755;

/// Whether a path below something is relative and has no `..`.
fn stays_inside(path: &str) -> bool {
    Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
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
        Some(path) if !stays_inside(path) => return Err(VolumeError::Subpath(path.clone()).into()),
        Some(path) => {
            let source = Mount::Bind { source, read_only };
            MountKind::Part { source, path: path.clone(), read_only }
        }
        None => MountKind::Bind { source, read_only, recursive: true },
    })
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
