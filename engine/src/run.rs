//! The run, on one screen: image, root filesystem, request, process.

mod image;
mod mounts;
mod security;
mod supervision;
mod surroundings;

pub(crate) use image::ShownImage;
pub(crate) use mounts::ShownVolumes;
pub(crate) use supervision::USUAL_SIZE;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use base::Mount;
use llb::DeviceRequest;
use runner::isolation::Mode;
use runner::passwd::ResolvedUser;
use runner::request::DEFAULT_SHM_SIZE;
use runner::{ExtraMount, GroupPlace, MountKind, Network, RequestError, RunError, Sharing};
use snapshotter::tree::Follow;
use snapshotter::{SnapshotId, Tree};

use self::mounts::Shown;
use self::surroundings::Surroundings;
use crate::Engine;
use crate::cdi::{self, DeviceEdits};
use crate::containers::Prepared;
use crate::devices;
use crate::error::EngineError;
use crate::manifest::Image;
use crate::request::{FileRequest, Isolation, RunRequest};

/// No file of users or groups is larger (as in BuildKit).
const LARGEST_PASSWD: u64 = 10 << 20;

impl Engine {
    /// Finds the image of a container, fetches and unpacks what is missing of it, and finds out what to run.
    /// `starts_at_once` is for [`ContainerDocument::starts_at_once`](crate::containers::ContainerDocument).
    pub(crate) fn prepare_run(
        &self,
        request: &RunRequest,
        id: &str,
        starts_at_once: bool,
    ) -> Result<Prepared<'_>, EngineError> {
        if self.isolation()?.mode == Mode::Chroot && (request.hostname.is_some() || request.tty) {
            let what = if request.tty { "a terminal" } else { "a host name" };
            return Err(RunError::from(RequestError::NeedsMounts { what: what.to_owned() }).into());
        }
        let (found, reference) =
            self.image_to_run(&request.image, request.platform.as_ref(), request.pull)?;
        let (parent, lease) = self.root_filesystem(&request.image, &found, &reference)?;
        let surroundings = self.surroundings(request, &found.image.config.config, id)?;
        let (process, shown) = self.process(request, &found.image, parent, &surroundings)?;
        let document = supervision::document(
            request,
            &found.image,
            &process,
            &surroundings,
            shown.points,
            starts_at_once,
        );
        let config = supervision::config(request, &found.image, process, &document)?;
        let (image, target) = (found.image.id(), found.target.digest);
        Ok(Prepared {
            image,
            target,
            parent,
            config,
            document,
            volumes: shown.volumes,
            images: shown.images,
            lease,
        })
    }

    /// The image's config, changed by the request, as the runner wants it, but for its root: that of the image is in
    /// the place of the one to be made on top of it. And what it shows, which is made if need be.
    fn process(
        &self,
        request: &RunRequest,
        image: &Image,
        parent: Option<SnapshotId>,
        surroundings: &Surroundings,
    ) -> Result<(runner::RunRequest, Shown<'_>), EngineError> {
        let config = &image.config.config;
        let hostname = surroundings.hostname.clone();
        let layers = parent.map(|parent| self.store.view_dirs(parent)).transpose()?.unwrap_or_default();
        let user = request.user.as_deref().unwrap_or(&config.user);
        let tree = parent.map(|_| Tree::overlay(layers.clone())).transpose()?;
        let isolation = &request.isolation;
        let ResolvedUser { mut user, home } = resolve_user(tree.as_ref(), user)?;
        user.additional_gids.extend(group_ids(tree.as_ref(), &isolation.groups)?);
        let cwd = request.workdir.clone().unwrap_or_else(|| config.working_dir.clone());
        security::check_modules(isolation)?;
        runner::capabilities::check(&isolation.cap_add, &isolation.cap_drop)?;
        let described = described_devices(isolation)?;
        let sysctls = self.sysctls(isolation, &surroundings.network)?;
        let mut shown = self.shown(request, config, tree.as_ref(), described.mounts)?;
        shown.mounts.extend(request.files.iter().map(own_file));
        let process = runner::RunRequest {
            isolation: self.isolation()?.mode,
            env: environment(request, &config.env, &described.env, (&hostname, &home)),
            cwd: if cwd.is_empty() { "/".to_owned() } else { cwd },
            create_cwd: true,
            user,
            hostname: Some(hostname),
            domainname: isolation.domainname.clone(),
            network: surroundings.network.clone(),
            ipc: surroundings.ipc.clone(),
            pids: surroundings.pids.clone(),
            shared_memory: surroundings.shared_memory.clone(),
            share_uts: isolation.share_uts,
            etc: surroundings.etc_files()?,
            mounts: std::mem::take(&mut shown.mounts),
            read_only_root: isolation.read_only,
            privileged: isolation.privileged,
            cap_add: isolation.cap_add.clone(),
            cap_drop: isolation.cap_drop.clone(),
            no_new_privileges: isolation.no_new_privileges,
            seccomp: security::seccomp(&isolation.seccomp)?,
            system_paths: isolation.system_paths.clone(),
            oom_score_adjustment: isolation.oom_score_adjustment,
            share_cgroups: isolation.share_cgroups,
            rlimits: isolation.rlimits.clone(),
            sysctls,
            limits: request.limits.clone(),
            group: match (&request.cgroup_parent, &surroundings.pids) {
                (Some(parent), _) => GroupPlace::Inside(parent.clone()),
                (None, Sharing::Own) => GroupPlace::WhereLimited,
                // The group is what ends all processes then.
                (None, _) => GroupPlace::Everywhere,
            },
            devices: if isolation.privileged { devices::all()? } else { Vec::new() },
            device_rules: isolation.device_rules.clone(),
            marks: true,
            shm_size: isolation.shm_size.unwrap_or(DEFAULT_SHM_SIZE),
            ..runner::RunRequest::new(image_root(layers), command_line(request, image)?)
        };
        Ok((if request.supervision.init { with_init(process) } else { process }, shown))
    }
}

/// A root that shows the layers of an image, until there is the container's own.
fn image_root(layers: Vec<PathBuf>) -> Mount {
    Mount::Overlay { lower: layers, upper: None, userxattr: false }
}

/// Settings of a network that is the container's own, as in Docker: there is nobody to be protected from its users, so
/// all of them may have any port, and send the messages of `ping` (`ip(7)`, `icmp(7)`).
const FREE_NETWORK: [(&str, &str); 2] =
    [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")];

impl Engine {
    /// The settings of the kernel for a container: those given, after what every one gets that has its own network.
    fn sysctls(
        &self,
        isolation: &Isolation,
        network: &Network,
    ) -> Result<Vec<(String, String)>, EngineError> {
        let mut settings = Vec::new();
        let is_own = matches!(network, Network::None | Network::Connected(_));
        // In a user namespace not all of these groups mean something.
        if is_own && self.isolation()?.mode == Mode::Oci {
            for (name, value) in FREE_NETWORK {
                let given = isolation.sysctls.iter().any(|(given, _)| given.replace('/', ".") == name);
                let file = Path::new("/proc/sys").join(name.replace('.', "/"));
                if !given && sys::fs::exists(&file)? {
                    settings.push((name.to_owned(), value.to_owned()));
                }
            }
        }
        settings.extend(isolation.sysctls.iter().cloned());
        Ok(settings)
    }
}

/// Where the first process of a container with `--init` is. The directory is the container's, not the image's.
pub(crate) const INIT: &str = "/dev/init";

/// A file that only this container has.
fn own_file(file: &FileRequest) -> ExtraMount {
    let FileRequest { target, content, mode, uid, gid } = file.clone();
    ExtraMount { destination: target, kind: MountKind::File { content, mode, uid, gid, read_only: true } }
}

/// The same process as the child of one that collects others (`--init`).
fn with_init(mut process: runner::RunRequest) -> runner::RunRequest {
    process.args.insert(0, INIT.to_owned());
    let content = sys::init_program::PROGRAM.to_vec();
    let kind = MountKind::File { content, mode: 0o555, uid: 0, gid: 0, read_only: true };
    process.mounts.insert(0, ExtraMount { destination: INIT.to_owned(), kind });
    process
}

/// What the devices add that were asked for by a vendor's name. All of them have to be there.
fn described_devices(isolation: &Isolation) -> Result<DeviceEdits, EngineError> {
    let wanted = |name: &String| DeviceRequest { name: name.clone(), required: true };
    let wanted: Vec<DeviceRequest> = isolation.described_devices.iter().map(wanted).collect();
    cdi::edits(&wanted, &isolation.device_directories)
}

/// The ids of groups by name or number, as the image's file knows them.
fn group_ids(tree: Option<&Tree>, groups: &[String]) -> Result<Vec<u32>, EngineError> {
    if groups.is_empty() {
        return Ok(Vec::new());
    }
    let (_, file) = passwd_files(tree)?;
    let file = String::from_utf8_lossy(&file);
    let id = |group: &String| runner::passwd::group_id(group, &file).map_err(EngineError::from);
    groups.iter().map(id).collect()
}

/// ENTRYPOINT and CMD, either replaced by the request. A new entry point forgets the image's CMD.
fn command_line(request: &RunRequest, image: &Image) -> Result<Vec<String>, EngineError> {
    let config = &image.config.config;
    let (mut args, cmd) = match &request.entrypoint {
        Some(words) => (words.clone(), None),
        None => (config.entrypoint.clone().unwrap_or_default(), config.cmd.clone()),
    };
    match request.command.as_slice() {
        [] => args.extend(cmd.unwrap_or_default()),
        given => args.extend(given.iter().cloned()),
    }
    if args.is_empty() {
        return Err(EngineError::NoCommand(request.image.clone()));
    }
    Ok(args)
}

/// What every container has, the image's variables, the request's and those of devices; later ones win.
fn environment(
    request: &RunRequest,
    image: &[String],
    devices: &[String],
    (hostname, home): (&str, &str),
) -> Vec<String> {
    let mut base = vec![format!("PATH={}", runner::DEFAULT_PATH), format!("HOSTNAME={hostname}")];
    if request.tty {
        base.push("TERM=xterm".to_owned());
    }
    base.push(format!("HOME={home}"));
    // A file of variables may have very many.
    let (mut env, mut places) = (Vec::new(), HashMap::new());
    for entry in base.iter().chain(image).chain(&request.env).chain(devices) {
        let Some((name, _)) = entry.split_once('=') else {
            places.remove(entry.as_str()).into_iter().for_each(|place: usize| env[place] = None);
            continue;
        };
        let place = *places.entry(name).or_insert(env.len());
        match env.get_mut(place) {
            Some(known) => *known = Some(entry),
            None => env.push(Some(entry)),
        }
    }
    env.into_iter().flatten().cloned().collect()
}

/// A user by name or number as the image's files know it, and its home directory.
pub(crate) fn resolve_user(tree: Option<&Tree>, user: &str) -> Result<ResolvedUser, EngineError> {
    let (passwd, group) = passwd_files(tree)?;
    Ok(runner::passwd::resolve(user, &passwd, &group)?)
}

/// The files of users and groups of a root filesystem; empty where there are none.
pub(crate) fn passwd_files(tree: Option<&Tree>) -> Result<(Vec<u8>, Vec<u8>), EngineError> {
    let read = |path: &str| -> Result<Vec<u8>, EngineError> {
        let Some(tree) = tree else { return Ok(Vec::new()) };
        match tree.lookup(path, Follow::Last)? {
            Some(entry) => Ok(tree.read(&entry, LARGEST_PASSWD)?),
            None => Ok(Vec::new()),
        }
    };
    Ok((read("etc/passwd")?, read("etc/group")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Isolation, Limits, NetworkSettings, PullPolicy, Supervision};
    use base::Platform;

    fn request() -> RunRequest {
        RunRequest {
            image: "x".to_owned(),
            command: Vec::new(),
            entrypoint: None,
            env: Vec::new(),
            workdir: None,
            user: None,
            mounts: Vec::new(),
            volumes_from: Vec::new(),
            files: Vec::new(),
            network: NetworkSettings::default(),
            name: None,
            hostname: None,
            remove: true,
            interactive: false,
            tty: false,
            supervision: Supervision::default(),
            isolation: Isolation::default(),
            limits: Limits::default(),
            cgroup_parent: None,
            platform: None,
            pull: PullPolicy::Never,
        }
    }

    fn image(entrypoint: Option<&[&str]>, cmd: Option<&[&str]>) -> Image {
        use base::image::{Descriptor, ImageConfig, Manifest};
        let digest = base::Digest::of(b"");
        let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
        let mut config = ImageConfig::scratch(&Platform::host());
        config.config.entrypoint = entrypoint.map(list);
        config.config.cmd = cmd.map(list);
        let manifest = Manifest {
            artifact_type: None,
            subject: None,
            schema_version: 2,
            media_type: String::new(),
            config: Descriptor::new("", digest, 0),
            layers: Vec::new(),
            annotations: std::collections::BTreeMap::new(),
        };
        Image { descriptor: Descriptor::new("", digest, 0), manifest, config }
    }

    #[test]
    fn entry_point_and_command_combine_as_in_docker() {
        let both = image(Some(&["e"]), Some(&["c"]));
        assert_eq!(command_line(&request(), &both).unwrap(), ["e", "c"]);
        let given = RunRequest { command: vec!["g".to_owned()], ..request() };
        assert_eq!(command_line(&given, &both).unwrap(), ["e", "g"]);
        let other = RunRequest { entrypoint: Some(vec!["o".to_owned()]), ..request() };
        assert_eq!(command_line(&other, &both).unwrap(), ["o"]);
        let cleared = RunRequest { entrypoint: Some(Vec::new()), ..request() };
        assert!(matches!(command_line(&cleared, &both), Err(EngineError::NoCommand(_))));
    }

    #[test]
    fn later_variables_replace_earlier_ones_in_place() {
        let given = ["A=flag", "HOME=/h", "D", "E"].map(str::to_owned);
        let request = RunRequest { env: given.to_vec(), ..request() };
        let image = ["A=image", "B=1", "C=2", "D=3"].map(str::to_owned);
        let env = environment(&request, &image, &["C=device".to_owned()], ("host", "/root"));
        assert_eq!(env[1..], ["HOSTNAME=host", "HOME=/h", "A=flag", "B=1", "C=device"]);
    }
}
