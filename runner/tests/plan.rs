//! Plans as data: what a container's process will do, without doing it.

use std::path::PathBuf;

use base::Mount;
use base::mount::OverlayUpper;
use oci_spec::runtime::{LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceType};
use runner::plan::{self, Machine};
use runner::spec;
use runner::{
    ExtraMount, MountKind, Network, Resource, ResourceLimit, RunRequest, SeccompProfile, Stdio, TtySize, User,
};
use sys::mount::MountAttributes;
use sys::ns::Namespaces;
use sys::open_files::OpenFiles;
use sys::spawn::{
    CapabilitySets, Creation, IdMap, MountSource, NamespacesOf, Plan, ScratchEntry, Step, TargetKind,
};

const MACHINE: Machine = Machine {
    capabilities: u64::MAX,
    unified_cgroups: true,
    lists_devices: false,
    counts_memory: false,
    open_files: None,
    user_namespace: None,
};

fn request() -> RunRequest {
    let upper = OverlayUpper { upper: PathBuf::from("/store/2/fs"), work: PathBuf::from("/store/2/work") };
    let root =
        Mount::Overlay { lower: vec![PathBuf::from("/store/1/fs")], upper: Some(upper), userxattr: false };
    RunRequest::new(root, vec!["make".to_owned(), "all".to_owned()])
}

fn plan(request: &RunRequest) -> Plan {
    plan::build(&spec::build(request, Stdio::CAPTURED).unwrap(), MACHINE, &[]).unwrap()
}

/// What the steps do, one line each.
fn steps(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(Step::describe).collect()
}

fn position(steps: &[String], wanted: &str) -> usize {
    steps
        .iter()
        .position(|step| step.starts_with(wanted))
        .unwrap_or_else(|| panic!("no step \"{wanted}\": {steps:#?}"))
}

const DEFAULT_STEPS: &str = r#"make the copied mounts private
prepare the private files of the container
mount the root filesystem, an overlay of 1 layers below "/store"
mount proc at "/proc"
mount tmpfs at "/dev"
mount devpts at "/dev/pts"
mount tmpfs at "/dev/shm"
mount mqueue at "/dev/mqueue"
mount sysfs at "/sys"
mount cgroup2 at "/sys/fs/cgroup"
mount the provided "null" at "/dev/null"
mount the provided "zero" at "/dev/zero"
mount the provided "full" at "/dev/full"
mount the provided "random" at "/dev/random"
mount the provided "urandom" at "/dev/urandom"
mount the provided "tty" at "/dev/tty"
link "/dev/fd" to "/proc/self/fd"
link "/dev/stdin" to "/proc/self/fd/0"
link "/dev/stdout" to "/proc/self/fd/1"
link "/dev/stderr" to "/proc/self/fd/2"
link "/dev/core" to "/proc/kcore"
link "/dev/ptmx" to "pts/ptmx"
make "/proc/bus" read-only
make "/proc/fs" read-only
make "/proc/irq" read-only
make "/proc/sys" read-only
make "/proc/sysrq-trigger" read-only
mask "/proc/acpi"
mask "/proc/asound"
mask "/proc/interrupts"
mask "/proc/kcore"
mask "/proc/keys"
mask "/proc/latency_stats"
mask "/proc/sched_debug"
mask "/proc/scsi"
mask "/proc/timer_list"
mask "/proc/timer_stats"
mask "/sys/devices/virtual/powercap"
mask "/sys/firmware"
bring the loopback interface up
set the host name to "localhost"
make the new root the process's root
change to the working directory "/"
make a session keyring of its own
give the standard streams to user 0
set the file mode mask to 0o22
limit the capability bounding set to 0xa80425fb
load the system call filter
become user 0, group 0
set the capabilities to 0xa80425fb"#;

#[test]
fn a_default_plan_is_pinned() {
    let plan = plan(&request());
    assert_eq!(steps(&plan).join("\n"), DEFAULT_STEPS);
    assert_eq!(
        plan.namespaces.names().collect::<Vec<_>>(),
        ["mount", "uts", "ipc", "pid", "network", "cgroup"]
    );
    let paths = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let candidates: Vec<_> =
        plan.exec.candidates.iter().map(|path| path.to_str().unwrap().to_owned()).collect();
    assert_eq!(candidates, paths.map(|path| format!("{path}/make")));
    assert_eq!(plan.exec.arguments, [c"make".to_owned(), c"all".to_owned()]);
}

#[test]
fn rights_are_given_up_after_everything_that_needs_them() {
    let mut request = request();
    request.no_new_privileges = true;
    request.rlimits = vec![ResourceLimit { resource: Resource::Nofile, soft: 1, hard: 2 }];
    request.user = User { uid: 5, gid: 6, additional_gids: vec![7] };
    let plan = plan(&request);
    let steps = steps(&plan);
    let order = [
        "make the new root",
        "set the resource limit nofile to 1:2",
        "change to the working directory",
        "give the standard streams to user 5",
        "limit the capability bounding set",
        "forbid gaining privileges",
        "load the system call filter",
        "become user 5, group 6",
        "set the capabilities to 0x0",
    ];
    let positions: Vec<usize> = order.iter().map(|step| position(&steps, step)).collect();
    assert!(positions.is_sorted(), "{steps:#?}");
    assert_eq!(positions.last(), Some(&(steps.len() - 1)));
    let groups = plan.steps.iter().find_map(|step| match step {
        Step::Identity { groups, .. } => groups.clone(),
        _ => None,
    });
    assert_eq!(groups, Some(vec![6, 7]));
}

#[test]
fn the_host_s_network_needs_no_loopback() {
    let mut request = request();
    request.network = Network::Host;
    let plan = plan(&request);
    assert!(!plan.namespaces.contains(Namespaces::NETWORK));
    assert!(!plan.steps.contains(&Step::LoopbackUp));
}

#[test]
fn privileged_containers_have_everything_that_we_have() {
    let mut request = request();
    request.privileged = true;
    let plan = plan(&request);
    let steps = steps(&plan);
    assert!(
        !steps
            .iter()
            .any(|step| step.starts_with("mask") || step.contains("read-only") || step.contains("filter"))
    );
    position(&steps, "set the capabilities to 0x1ffffffffff");
    assert!(plan.steps.iter().all(|step| match step {
        Step::Root { attributes, .. } => !attributes.contains(MountAttributes::NO_DEVICES),
        _ => true,
    }));

    let machine = Machine { capabilities: 0xff, ..MACHINE };
    let limited = plan::build(&spec::build(&request, Stdio::CAPTURED).unwrap(), machine, &[]).unwrap();
    assert_eq!(
        limited.steps.last(),
        Some(&Step::Capabilities(CapabilitySets {
            effective: 0xff,
            permitted: 0xff,
            ..CapabilitySets::default()
        }))
    );
}

#[test]
fn a_container_begins_with_the_limit_of_open_files_that_we_began_with() {
    let machine = Machine { open_files: Some(OpenFiles { soft: 1024, hard: 4096 }), ..MACHINE };
    let mut request = request();
    request.rlimits = vec![ResourceLimit { resource: Resource::Nofile, soft: 5, hard: 6 }];
    let plan = plan::build(&spec::build(&request, Stdio::CAPTURED).unwrap(), machine, &[]).unwrap();
    let steps = steps(&plan);
    let ours = position(&steps, "set the resource limit nofile to 1024:4096");
    assert_eq!(
        position(&steps, "set the resource limit nofile to 5:6"),
        ours + 1,
        "the user's word is the last"
    );
}

#[test]
fn devices_of_the_image_cannot_be_opened() {
    let root = plan(&request()).steps.into_iter().find_map(|step| match step {
        Step::Root { attributes, .. } => Some(attributes),
        _ => None,
    });
    assert_eq!(root, Some(MountAttributes::NO_DEVICES));
}

#[test]
fn kernel_filesystems_are_mounted_where_their_names_say() {
    for step in plan(&request()).steps {
        if let Step::Mount { target, kind, source: MountSource::Filesystem { .. }, .. } = step {
            let real = [c"/proc", c"/sys", c"/dev"].contains(&target.as_c_str());
            assert_eq!(kind == TargetKind::RealDirectory, real, "{target:?}");
        }
    }
}

#[test]
fn controllers_of_version_1_are_not_mounted() {
    let machine = Machine { unified_cgroups: false, ..MACHINE };
    let plan = plan::build(&spec::build(&request(), Stdio::CAPTURED).unwrap(), machine, &[]).unwrap();
    assert!(!steps(&plan).iter().any(|step| step.contains("cgroup")));
}

#[test]
fn mounts_come_after_the_standard_ones_and_files_after_mounts() {
    let mut request = request();
    request.etc.hosts = Some(b"hosts".to_vec());
    let bind = MountKind::Bind { source: PathBuf::from("/src"), read_only: true, recursive: true };
    let file = MountKind::File { content: b"token".to_vec(), mode: 0o400, uid: 1, gid: 2, read_only: true };
    request.mounts = vec![
        ExtraMount { destination: "/secret".to_owned(), kind: file },
        ExtraMount { destination: "/data".to_owned(), kind: bind },
        ExtraMount {
            destination: "/scratch".to_owned(),
            kind: MountKind::Tmpfs { size: Some(4096), mode: 0o700, options: Vec::new() },
        },
    ];
    let plan = plan(&request);
    let steps = steps(&plan);
    let order = ["mount sysfs", "mount \"/src\" at \"/data\"", "mount tmpfs at \"/scratch\""];
    let files =
        ["mount the provided \"file-0\" at \"/etc/hosts\"", "mount the provided \"file-1\" at \"/secret\""];
    let positions: Vec<usize> = order.iter().chain(&files).map(|step| position(&steps, step)).collect();
    assert!(positions.is_sorted(), "{steps:#?}");
    assert_scratch_file(&plan, b"token", 0o400, (1, 2));
    let options = plan.steps.iter().find_map(|step| match step {
        Step::Mount { target, source: MountSource::Filesystem { options, .. }, .. }
            if target.as_c_str() == c"/scratch" =>
        {
            Some(options.clone())
        }
        _ => None,
    });
    let option = |name: &std::ffi::CStr, value: &std::ffi::CStr| (name.to_owned(), Some(value.to_owned()));
    assert_eq!(options, Some(vec![option(c"mode", c"700"), option(c"size", c"4096")]));
}

fn assert_scratch_file(plan: &Plan, wanted: &[u8], wanted_mode: u32, owner: (u32, u32)) {
    let entries = plan.steps.iter().find_map(|step| match step {
        Step::Scratch { entries } => Some(entries),
        _ => None,
    });
    let found = entries.into_iter().flatten().any(|entry| match entry {
        ScratchEntry::File { content, mode, uid, gid, .. } => {
            content == wanted && *mode == wanted_mode && (*uid, *gid) == owner
        }
        _ => false,
    });
    assert!(found, "{entries:?}");
}

#[test]
fn devices_are_left_alone_when_dev_is_the_host_s() {
    let mut request = request();
    let kind = MountKind::Bind { source: PathBuf::from("/dev"), read_only: false, recursive: true };
    request.mounts = vec![ExtraMount { destination: "/dev".to_owned(), kind }];
    assert!(!steps(&plan(&request)).iter().any(|step| step.contains("/dev/null")));
}

#[test]
fn a_terminal_is_opened_after_its_filesystem_is_mounted() {
    let stdio = Stdio::Terminal(TtySize { rows: 24, columns: 80 });
    let plan = plan::build(&spec::build(&request(), stdio).unwrap(), MACHINE, &[]).unwrap();
    let steps = steps(&plan);
    assert!(position(&steps, "mount devpts") < position(&steps, "open the terminal"));
    assert!(plan.steps.contains(&Step::Terminal { rows: 24, columns: 80, console: true }));
    assert!(plan.steps.contains(&Step::OwnStreams { streams: [true; 3], uid: 0 }));
}

#[test]
fn streams_of_ours_keep_their_owner() {
    let plan = plan(&request());
    assert!(
        plan.steps.contains(&Step::OwnStreams { streams: [false, true, true], uid: 0 }),
        "standard input is /dev/null"
    );
}

#[test]
fn without_a_filter_none_is_loaded() {
    let mut request = request();
    request.seccomp = SeccompProfile::Unconfined;
    assert!(!steps(&plan(&request)).iter().any(|step| step.contains("filter")));
}

#[test]
fn one_filter_serves_all_containers_with_the_same_rights() {
    let filter = |request: &RunRequest| {
        plan(request).steps.into_iter().find_map(|step| match step {
            Step::Seccomp(filter) => Some(filter),
            _ => None,
        })
    };
    let (first, second) = (filter(&request()).unwrap(), filter(&request()).unwrap());
    assert!(std::sync::Arc::ptr_eq(&first, &second));
    let more = filter(&RunRequest { cap_add: vec!["SYS_ADMIN".to_owned()], ..request() }).unwrap();
    assert_ne!(first, more);
}

/// The plan of a spec with just these namespaces and files that they are joined by.
fn plan_with(namespaces: &[(LinuxNamespaceType, Option<&str>)]) -> Plan {
    let mut bundle = spec::build(&request(), Stdio::CAPTURED).unwrap();
    let namespaces = namespaces.iter().map(|(kind, path)| {
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(*kind).set_path(path.map(PathBuf::from));
        namespace
    });
    let mut linux = bundle.spec.linux().clone().unwrap();
    linux.set_namespaces(Some(namespaces.collect()));
    let map = LinuxIdMappingBuilder::default().container_id(0u32).host_id(1000u32).size(1u32);
    linux.set_uid_mappings(Some(vec![map.build().unwrap()]));
    bundle.spec.set_linux(Some(linux));
    plan::build(&bundle, MACHINE, &[]).unwrap()
}

#[test]
fn a_network_namespace_is_joined_by_the_process_itself() {
    use LinuxNamespaceType::{Mount, Network, Pid};
    let plan = plan_with(&[(Pid, None), (Mount, None), (Network, Some("/run/n"))]);
    assert_eq!(plan.creation, Creation::Direct);
    assert_eq!(plan.namespaces, Namespaces::PID.with(Namespaces::MOUNT));
    let join = Step::Join { kinds: Namespaces::NETWORK, of: NamespacesOf::File(c"/run/n".to_owned()) };
    assert_eq!(plan.steps[0], join);
    assert!(!plan.steps.contains(&Step::LoopbackUp));
}

/// Who enters a group whose memory runs out, or has a score of its own, must not share our memory.
#[test]
fn a_process_has_a_copy_of_our_memory_where_the_kernel_treats_all_alike_that_share_it() {
    let bundle = |score| {
        spec::build(&RunRequest { oom_score_adjustment: score, ..request() }, Stdio::CAPTURED).unwrap()
    };
    let creation = |score, machine| {
        plan::build(&bundle(score), machine, &["/g".into()]).map(|plan| plan.creation).unwrap()
    };
    let counting = Machine { counts_memory: true, ..MACHINE };
    assert_eq!(creation(None, MACHINE), Creation::Direct);
    assert_eq!(creation(None, counting), Creation::Copy);
    assert_eq!(creation(Some(0), MACHINE), Creation::Copy);
    let chroot = plan::chroot(&bundle(None), "/root".as_ref(), counting, &["/g".into()]).unwrap();
    assert_eq!(chroot.creation, Creation::Copy);
}

#[test]
fn a_user_namespace_is_made_before_all_others_and_mapped() {
    use LinuxNamespaceType::{Mount, Pid, User};
    let plan = plan_with(&[(Pid, None), (Mount, None), (User, None)]);
    assert_eq!((plan.creation, plan.namespaces), (Creation::Forerunner, Namespaces::NONE));
    let users = vec![IdMap { inside: 0, outside: 1000, count: 1 }];
    let wanted = [
        Step::Unshare(Namespaces::USER),
        Step::MapIds { users, groups: Vec::new() },
        Step::BecomeRoot,
        Step::Unshare(Namespaces::PID.with(Namespaces::MOUNT)),
    ];
    assert_eq!(plan.steps[..4], wanted);
}

#[test]
fn whoever_joins_processes_of_others_has_a_forerunner() {
    use LinuxNamespaceType::{Mount, Pid, User};
    let plan = plan_with(&[(User, Some("/u")), (Mount, None), (Pid, Some("/p"))]);
    assert_eq!(plan.creation, Creation::Forerunner);
    let steps = steps(&plan);
    assert!(position(&steps, "join the pid namespace") < position(&steps, "join the user namespace"));
    assert!(position(&steps, "join the user namespace") < position(&steps, "make its own namespaces"));
    let time = plan_with(&[(Mount, None), (LinuxNamespaceType::Time, None)]);
    assert!(time.steps.contains(&Step::Unshare(Namespaces::TIME)), "clone(2) has no flag for it");
}

#[test]
fn nothing_is_mounted_into_proc_but_numbers_about_the_machine() {
    let bind = |source: &str, destination: &str| {
        let kind = MountKind::Bind { source: source.into(), read_only: false, recursive: false };
        let mounts = vec![ExtraMount { destination: destination.to_owned(), kind }];
        let bundle = runner::spec::build(&RunRequest { mounts, ..request() }, Stdio::CAPTURED).unwrap();
        runner::plan::build(&bundle, MACHINE, &[]).map(|_| ())
    };
    for (source, destination) in [
        ("/x", "/data"),
        ("/x", "/process"),
        ("/x", "/proc/cpuinfo"),
        ("/proc", "/proc"),
        ("/x", "/proc/./stat"),
    ] {
        assert_eq!(bind(source, destination), Ok(()), "{destination}");
    }
    for destination in ["/proc", "/proc/", "/proc/sys", "/proc/self/attr/exec", "//proc/x", "/proc/cpuinfo/x"]
    {
        let error = bind("/x", destination).unwrap_err();
        assert!(matches!(error, runner::RequestError::MountInProc { .. }), "{destination}: {error}");
    }
}
