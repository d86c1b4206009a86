//! The part of a plan that makes the container's file tree: root, mounts, devices, provided files, masks.

mod targets;

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, LinuxIdMapping, Mount, Spec};
use sys::mount::{MountAttributes, Overlay, Propagation};
use sys::ns::Namespaces;
use sys::spawn::{MountSource, NamespacesOf, NodeKind, RootSource, ScratchEntry, Step, TargetKind};

use super::mount_options::{Options, propagation};
use super::namespaces::id_map;
use super::{Machine, c_string, path, terminal};
use crate::capabilities::CapabilitySet;
use crate::error::RequestError;
use crate::layers::Layers;
use crate::spec::{Bundle, PART, ProvidedFile, SAME};

/// The devices that every container has: name in `/dev`, major and minor number. Sources: OCI runtime-spec
/// `config-linux.md` (default devices) and the kernel's `devices.txt`.
const DEVICES: [(&CStr, &CStr, u32, u32); 6] = [
    (c"null", c"/dev/null", 1, 3),
    (c"zero", c"/dev/zero", 1, 5),
    (c"full", c"/dev/full", 1, 7),
    (c"random", c"/dev/random", 1, 8),
    (c"urandom", c"/dev/urandom", 1, 9),
    (c"tty", c"/dev/tty", 5, 0),
];

/// The devices that every container has: path, major and minor number.
pub(crate) fn device_numbers() -> impl Iterator<Item = (&'static Path, u32, u32)> {
    let path = |path: &'static CStr| Path::new(OsStr::from_bytes(path.to_bytes()));
    DEVICES.into_iter().map(move |(_, device, major, minor)| (path(device), major, minor))
}

/// The links that every container has (OCI runtime-spec `runtime-linux.md`; `core` is Docker's).
const LINKS: [(&CStr, &CStr); 6] = [
    (c"/proc/self/fd", c"/dev/fd"),
    (c"/proc/self/fd/0", c"/dev/stdin"),
    (c"/proc/self/fd/1", c"/dev/stdout"),
    (c"/proc/self/fd/2", c"/dev/stderr"),
    (c"/proc/kcore", c"/dev/core"),
    (c"pts/ptmx", c"/dev/ptmx"),
];

/// The files of Docker's containers that programs look for, and what they are links to.
const MARKS: [(&CStr, Option<&CStr>); 2] = [(c"/.dockerenv", None), (c"/etc/mtab", Some(c"/proc/mounts"))];

/// Scratch entries behind masked files and directories.
const MASK_FILE: &CStr = c"null";
const MASK_DIRECTORY: &CStr = c"empty";

pub(super) fn steps(
    bundle: &Bundle,
    machine: Machine,
    own: Namespaces,
    bounding: CapabilitySet,
) -> Result<Vec<Step>, RequestError> {
    let spec = &bundle.spec;
    let may_make_devices = machine.user_namespace.is_none() && !own.contains(Namespaces::USER);
    let mut entries = scratch(&bundle.files, may_make_devices)?;
    entries.extend(layers(&bundle.layers)?);
    entries.extend(device_entries(spec, may_make_devices)?);
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let of_root = root_propagation(spec)?;
    let options = mounts.iter().map(|mount| Options::parse(mount.options().as_deref().unwrap_or_default()));
    let options = options.collect::<Result<Vec<_>, _>>()?;
    // With a user namespace of its own, nobody may give anything to the host's mounts: it only receives then.
    let receives = |options: &Options| options.receives() && !gives_back(options, own);
    let receive = options.iter().any(receives)
        || of_root.is_some_and(|(kind, _)| matches!(kind, Propagation::Slave | Propagation::Shared));
    let mut steps = vec![Step::PrivateMounts { receive }, Step::Scratch { entries }];
    let devices = devices_of_mounts(machine, bounding);
    steps.push(root(bundle, devices)?);
    // Before the mounts: what is mounted over their directories hides them, and is not touched.
    steps.extend(MARKS.into_iter().filter(|_| bundle.marks).map(mark));
    for (one, options) in mounts.iter().zip(options) {
        mount(one, options, bundle, (machine, own, devices), &mut steps)?;
    }
    steps.extend(host_groups(machine, own));
    if has_own_devices(mounts) {
        steps.extend(standard_devices());
    }
    for (number, file) in bundle.files.iter().enumerate() {
        steps.push(provided_file(number, file)?);
    }
    steps.extend(listed_devices(spec)?);
    steps.extend(terminal(bundle.stdio, true));
    steps.extend(protected_paths(bundle)?);
    if spec.root().as_ref().and_then(|root| root.readonly()) == Some(true) {
        steps.push(Step::ReadOnlyRoot);
    }
    Ok(steps)
}

/// The steps that mount the root and the last `extra` mounts of the spec, without devices.
pub(super) fn files(bundle: &Bundle, machine: Machine, extra: usize) -> Result<Vec<Step>, RequestError> {
    let devices = MountAttributes::NO_DEVICES;
    let mut steps = vec![Step::PrivateMounts { receive: false }];
    let entries = layers(&bundle.layers)?;
    if !entries.is_empty() {
        steps.push(Step::Scratch { entries });
    }
    steps.push(root(bundle, devices)?);
    let mounts = bundle.spec.mounts().as_deref().unwrap_or_default();
    for one in mounts.get(mounts.len().saturating_sub(extra)..).unwrap_or_default() {
        let options = Options::parse(one.options().as_deref().unwrap_or_default())?;
        mount(one, options, bundle, (machine, Namespaces::MOUNT, devices), &mut steps)?;
    }
    if bundle.spec.root().as_ref().and_then(|root| root.readonly()) == Some(true) {
        steps.push(Step::ReadOnlyRoot);
    }
    Ok(steps)
}

/// What keeps device files of the image, and those that the container makes, from opening the host's
/// devices: the list of its group, else an attribute of its mounts. Who may mount could undo that anyway.
fn devices_of_mounts(machine: Machine, bounding: CapabilitySet) -> MountAttributes {
    let may_mount = CapabilitySet::named("SYS_ADMIN").is_some_and(|admin| bounding.contains(admin));
    if machine.lists_devices || may_mount { MountAttributes::NONE } else { MountAttributes::NO_DEVICES }
}

/// Where devices cannot be made, those of the host are shown.
fn scratch(files: &[ProvidedFile], may_make_devices: bool) -> Result<Vec<ScratchEntry>, RequestError> {
    let devices = DEVICES.map(|(name, path, major, minor)| {
        let name = name.to_owned();
        match may_make_devices {
            true => ScratchEntry::Device { name, mode: 0o666, major, minor },
            false => ScratchEntry::Bound { name, source: path.to_owned() },
        }
    });
    let directory = ScratchEntry::Directory { name: MASK_DIRECTORY.to_owned(), mode: 0o555 };
    let files = files.iter().enumerate().map(|(number, file)| {
        let (name, content) = (file_name(number)?, file.content.clone());
        Ok(ScratchEntry::File { name, content, mode: file.mode, uid: file.uid, gid: file.gid })
    });
    devices.into_iter().chain([directory]).map(Ok).chain(files).collect()
}

/// The packed layers that have to be attached. They are in the scratch filesystem, and go with it before the container's own
/// program begins.
fn layers(layers: &Layers) -> Result<Vec<ScratchEntry>, RequestError> {
    let entry = |(number, mount): (usize, PathBuf)| {
        Ok(ScratchEntry::Layer {
            name: c_string("layer", &format!("layer-{number}"))?,
            mount: path("layer", &mount)?,
        })
    };
    layers.to_attach().into_iter().enumerate().map(entry).collect()
}

fn file_name(number: usize) -> Result<CString, RequestError> {
    c_string("file name", &format!("file-{number}"))
}

fn root(bundle: &Bundle, devices: MountAttributes) -> Result<Step, RequestError> {
    let Source { at, source, read_only } = source(&bundle.root, &bundle.layers, bundle.volatile_root)?;
    let read_only = if read_only { MountAttributes::READ_ONLY } else { MountAttributes::NONE };
    let attributes = devices.with(read_only);
    Ok(Step::Root { at, source, attributes })
}

/// How a filesystem of layers is mounted.
struct Source {
    /// The directory that it is mounted over: one that it is made of. Nothing else needs that one in this
    /// mount namespace, so no mount point has to be made and removed.
    at: CString,
    source: RootSource,
    read_only: bool,
}

fn source(mount: &base::Mount, layers: &Layers, volatile: bool) -> Result<Source, RequestError> {
    match mount {
        base::Mount::Bind { source, read_only } => bind_source(source, layers, *read_only),
        base::Mount::Overlay { lower, upper: None, .. } if lower.len() == 1 => {
            // The kernel makes no overlay of a single directory, and it would show nothing else.
            bind_source(lower.first().map_or(Path::new("/"), |only| only), layers, true)
        }
        base::Mount::Overlay { lower, upper, userxattr } => {
            let overlay = Overlay {
                lower: lower.iter().map(|layer| layers.path(layer).into_owned()).collect(),
                upper: upper.as_ref().map(|upper| (upper.upper.clone(), upper.work.clone())),
                userxattr: *userxattr,
                volatile,
            };
            let source = RootSource::Overlay(overlay.options()?);
            let upper = upper.as_ref().map(|upper| upper.upper.as_path());
            let at = upper.or_else(|| lower.first().map(|layer| layers.place(layer)));
            let at = path("layer directory", at.unwrap_or(Path::new("/")))?;
            Ok(Source { at, source, read_only: false })
        }
    }
}

fn bind_source(source: &Path, layers: &Layers, read_only: bool) -> Result<Source, RequestError> {
    let at = path("root directory", layers.place(source))?;
    let source = path("root directory", &layers.path(source))?;
    Ok(Source { at, source: RootSource::Bind(source), read_only })
}

/// The part of a filesystem that a mount of this number shows.
fn part(mount: &Mount, bundle: &Bundle) -> Result<MountSource, RequestError> {
    let missing = || incomplete(mount.destination(), "source");
    let number = mount.source().as_ref().and_then(|source| source.to_str()).ok_or_else(missing)?;
    let number: usize = number.parse().map_err(|_| missing())?;
    let part = bundle.parts.get(number).ok_or_else(missing)?;
    let Source { at, source, .. } = source(&part.source, &bundle.layers, true)?;
    Ok(MountSource::Part { source, at, path: c_string("path of a mount", &part.path)? })
}

/// Adds the steps of one mount.
fn mount(
    mount: &Mount,
    options: Options,
    bundle: &Bundle,
    (machine, own, devices): (Machine, Namespaces, MountAttributes),
    steps: &mut Vec<Step>,
) -> Result<(), RequestError> {
    let destination = mount.destination();
    let kind = mount.typ().as_deref().unwrap_or("none");
    // The devices of this one are the container's own terminals.
    let shows_devices = options.devices || kind == "devpts";
    let Options { attributes, recursive_set, recursive_clear, propagation, .. } = options;
    let source = match kind {
        _ if let Some(path) = instead_of(kind, machine, own) => {
            MountSource::Host { path: path.to_owned(), recursive: true }
        }
        // Message queues of the host are not to be had in a user namespace.
        "mqueue" if machine.user_namespace.is_some() && !own.contains(Namespaces::IPC) => return Ok(()),
        // One filesystem shows all controllers of version 2. Those of version 1 would take a mount each;
        // they are not shown.
        "cgroup" if !machine.unified_cgroups => return Ok(()),
        "cgroup" => MountSource::Filesystem { kind: c"cgroup2".to_owned(), options: Vec::new() },
        _ if options.bind || kind == "bind" => match options.mapped || gives_back(&options, own) {
            true => MountSource::Prepared,
            false => {
                MountSource::Host { path: bind_mount_source(mount, bundle)?, recursive: options.recursive }
            }
        },
        PART => part(mount, bundle)?,
        SAME => MountSource::Prepared,
        "none" => return Err(incomplete(destination, "type")),
        _ => {
            let mut filesystem = options.filesystem;
            filesystem.retain(|option| is_possible(option, machine));
            if options.filled && kind == "tmpfs" {
                MountSource::Filled { options: filesystem }
            } else {
                MountSource::Filesystem { kind: c_string("filesystem type", kind)?, options: filesystem }
            }
        }
    };
    let place = targets::plain(destination);
    let kind = targets::kind(&place, kind, &source)?;
    let target = path("mount destination", &place)?;
    let attributes = if shows_devices { attributes } else { attributes.with(devices) };
    steps.push(Step::Mount { target: target.clone(), kind, source, attributes });
    if recursive_set != MountAttributes::NONE || recursive_clear != MountAttributes::NONE {
        let target = target.clone();
        steps.push(Step::Attributes { target, set: recursive_set, clear: recursive_clear });
    }
    steps.extend(propagation.map(|(kind, recursive)| Step::Propagation { target, kind, recursive }));
    Ok(())
}

fn bind_mount_source(mount: &Mount, bundle: &Bundle) -> Result<CString, RequestError> {
    let source = mount.source().as_ref().ok_or_else(|| incomplete(mount.destination(), "source"))?;
    let source = if source.is_absolute() { source.clone() } else { bundle.directory.join(source) };
    path("mount source", &source)
}

/// Whether what the container mounts below this mount is to appear on the host. Who has a user namespace of his own
/// may not change the host's mounts; the kernel would not stop him where the mount was taken before.
fn gives_back(options: &Options, own: Namespaces) -> bool {
    let shared = options.propagation.is_some_and(|(kind, _)| kind == Propagation::Shared);
    shared && !own.contains(Namespaces::USER)
}

/// The steps that take what is mounted with other owners, stays connected with the host, or comes from another mount
/// namespace. They come before everything else: inside of a user namespace nobody may do the first, and the second is for mounts that are not
/// cut off yet.
pub(super) fn prepare(bundle: &Bundle, own: Namespaces) -> Result<Vec<Step>, RequestError> {
    let mut steps = Vec::new();
    for mount in bundle.spec.mounts().iter().flatten() {
        let options = Options::parse(mount.options().as_deref().unwrap_or_default())?;
        if mount.typ().as_deref() == Some(SAME) {
            let missing = || incomplete(mount.destination(), "source");
            let namespace = path("mount namespace", mount.source().as_deref().ok_or_else(missing)?)?;
            let path = path("mount source", mount.destination())?;
            steps.push(Step::TakeMount { mount: NamespacesOf::Mount { namespace, path } });
        }
        let taken = options.mapped || gives_back(&options, own);
        if taken && (options.bind || mount.typ().as_deref() == Some("bind")) {
            let (recursive, attributes) = (options.recursive, options.attributes);
            let (path, map) =
                (bind_mount_source(mount, bundle)?, options.mapped.then(|| maps(mount, bundle)));
            steps.push(Step::PrepareMount { path, recursive, attributes, map });
        }
    }
    Ok(steps)
}

/// The maps by which a mount shows owners: its own, else the container's.
fn maps(mount: &Mount, bundle: &Bundle) -> NamespacesOf {
    let linux = bundle.spec.linux().clone().unwrap_or_default();
    let choose = |own: &Option<Vec<LinuxIdMapping>>, container: &Option<Vec<LinuxIdMapping>>| {
        own.as_ref().or(container.as_ref()).iter().copied().flatten().map(id_map).collect()
    };
    NamespacesOf::Maps {
        users: choose(mount.uid_mappings(), linux.uid_mappings()),
        groups: choose(mount.gid_mappings(), linux.gid_mappings()),
    }
}

/// The step that says what becomes of mounts below the root, if the spec does. It comes when the root is the
/// process's: nothing that is shared can become that (`pivot_root(2)`).
pub(super) fn propagation_of_root(spec: &Spec) -> Result<Option<Step>, RequestError> {
    let target = c"/".to_owned();
    let step = |(kind, recursive)| Step::Propagation { target, kind, recursive };
    Ok(root_propagation(spec)?.map(step))
}

fn root_propagation(spec: &Spec) -> Result<Option<(Propagation, bool)>, RequestError> {
    let text = spec.linux().as_ref().and_then(|linux| linux.rootfs_propagation().as_deref());
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let (name, recursive) = text.strip_prefix('r').map_or((text, false), |name| (name, true));
    match propagation(name) {
        Some(kind) => Ok(Some((kind, recursive))),
        None => Err(RequestError::Propagation { value: text.to_owned() }),
    }
}

/// The directory of the host that stands for a filesystem which our user namespace does not let us mount: the
/// kernel shows `/sys` and `/proc` anew only to those who own the network and the processes that they tell of.
fn instead_of(kind: &str, machine: Machine, own: Namespaces) -> Option<&'static CStr> {
    let namespace = machine.user_namespace?;
    match kind {
        "proc" if !namespace.own_proc || !own.contains(Namespaces::PID) => Some(c"/proc"),
        "sysfs" if !own.contains(Namespaces::NETWORK) => Some(c"/sys"),
        _ => None,
    }
}

/// Hides the control groups of version 1 that come along with the host's `/sys`. Where there are only those of
/// version 2, the container's own view is mounted over them.
fn host_groups(machine: Machine, own: Namespaces) -> Option<Step> {
    let shown = instead_of("sysfs", machine, own).is_some() && !machine.unified_cgroups;
    let (file, directory) = (MASK_FILE.to_owned(), MASK_DIRECTORY.to_owned());
    shown.then(|| Step::Mask { target: c"/sys/fs/cgroup".to_owned(), file, directory })
}

/// Whether a filesystem can have this option: a group that our user namespace does not know can own nothing.
fn is_possible((name, value): &(CString, Option<CString>), machine: Machine) -> bool {
    let Some(namespace) = machine.user_namespace else { return true };
    let id = value.as_ref().and_then(|value| value.to_str().ok()?.parse().ok());
    match (name.as_c_str().to_bytes(), id) {
        (b"gid", Some(id)) => namespace.ids.groups.maps(id),
        (b"uid", Some(id)) => namespace.ids.users.maps(id),
        _ => true,
    }
}

fn incomplete(destination: &Path, missing: &'static str) -> RequestError {
    RequestError::IncompleteMount { destination: destination.to_string_lossy().into_owned(), missing }
}

/// Whether `/dev` is a filesystem of the container's own, not something of the host.
fn has_own_devices(mounts: &[Mount]) -> bool {
    let last = mounts.iter().rev().find(|mount| mount.destination() == Path::new("/dev"));
    last.is_some_and(|mount| mount.typ().as_deref() == Some("tmpfs"))
}

/// The standard devices are mounted, not made, in `/dev`: they stay usable where devices in `/dev` are not,
/// and they are the container's own, so changing their mode changes nothing on the host.
fn standard_devices() -> Vec<Step> {
    let attributes = MountAttributes::NO_SETUID.with(MountAttributes::NO_EXECUTE);
    let devices = DEVICES.into_iter().map(|(name, target, ..)| {
        let (source, target) = (MountSource::Scratch(name.to_owned()), target.to_owned());
        Step::Mount { target, kind: TargetKind::LikeSource, source, attributes }
    });
    let links = LINKS
        .into_iter()
        .map(|(content, target)| Step::Symlink { content: content.to_owned(), target: target.to_owned() });
    devices.chain(links).collect()
}

fn mark((target, link): (&CStr, Option<&CStr>)) -> Step {
    Step::Mark { target: target.to_owned(), link: link.map(CStr::to_owned) }
}

/// The devices that the spec lists, but for those that every container has.
fn extra_devices(spec: &Spec) -> impl Iterator<Item = (usize, &LinuxDevice)> {
    let listed = spec.linux().as_ref().and_then(|linux| linux.devices().as_deref()).unwrap_or_default();
    let standard = |device: &LinuxDevice| {
        DEVICES.iter().any(|(_, path, ..)| device.path().to_str() == path.to_str().ok())
    };
    listed.iter().enumerate().filter(move |(_, device)| !standard(device))
}

fn device_entries(spec: &Spec, may_make_devices: bool) -> Result<Vec<ScratchEntry>, RequestError> {
    let entry = |(number, device): (usize, &LinuxDevice)| {
        let name = device_name(number)?;
        if !may_make_devices {
            return Ok(ScratchEntry::Bound { name, source: path("device", device.path())? });
        }
        let kind = match device.typ() {
            LinuxDeviceType::B => NodeKind::Block,
            LinuxDeviceType::P => NodeKind::Fifo,
            LinuxDeviceType::C | LinuxDeviceType::U | LinuxDeviceType::A => NodeKind::Character,
        };
        let number = |number: i64| u32::try_from(number).unwrap_or(0);
        Ok(ScratchEntry::Node {
            name,
            kind,
            mode: device.file_mode().unwrap_or(0o666) & 0o7777,
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
            major: number(device.major()),
            minor: number(device.minor()),
        })
    };
    extra_devices(spec).map(entry).collect()
}

fn listed_devices(spec: &Spec) -> Result<Vec<Step>, RequestError> {
    let step = |(number, device): (usize, &LinuxDevice)| {
        Ok(Step::Mount {
            target: path("device", device.path())?,
            kind: TargetKind::LikeSource,
            source: MountSource::Scratch(device_name(number)?),
            attributes: MountAttributes::NO_SETUID.with(MountAttributes::NO_EXECUTE),
        })
    };
    extra_devices(spec).map(step).collect()
}

fn device_name(number: usize) -> Result<CString, RequestError> {
    c_string("device", &format!("device-{number}"))
}

fn provided_file(number: usize, file: &ProvidedFile) -> Result<Step, RequestError> {
    let mut attributes = MountAttributes::NO_SETUID.with(MountAttributes::NO_DEVICES);
    // A file with an execute bit is meant to be run: the script of a here-document.
    if file.mode & 0o111 == 0 {
        attributes = attributes.with(MountAttributes::NO_EXECUTE);
    }
    if file.read_only {
        attributes = attributes.with(MountAttributes::READ_ONLY);
    }
    Ok(Step::Mount {
        target: c_string("mount destination", &file.destination)?,
        kind: TargetKind::LikeSource,
        source: MountSource::Scratch(file_name(number)?),
        attributes,
    })
}

fn protected_paths(bundle: &Bundle) -> Result<Vec<Step>, RequestError> {
    let Some(linux) = bundle.spec.linux() else { return Ok(Vec::new()) };
    let read_only = linux.readonly_paths().iter().flatten();
    let read_only =
        read_only.map(|target| Ok(Step::ReadOnly { target: c_string("read-only path", target)? }));
    let masked = linux.masked_paths().iter().flatten();
    let masked = masked.map(|target| {
        let (file, directory) = (MASK_FILE.to_owned(), MASK_DIRECTORY.to_owned());
        Ok(Step::Mask { target: c_string("masked path", target)?, file, directory })
    });
    read_only.chain(masked).collect()
}
