//! The policy: which system calls a container may make, and why.
//!
//! Equal in effect to the default profile of Docker (`moby/profiles`, `seccomp/default.json`, 2025). What
//! no group names is refused with `EPERM`; numbers above all that are named, which means newer than this
//! table, with `ENOSYS`, so that programs fall back to what they did before the call existed.

use crate::capabilities::CapabilitySet;

/// Calls with one reason and one rule.
pub(super) struct Group {
    /// Why the rule is right for these calls.
    #[allow(dead_code, reason = "the reason is for readers and for the test that every group has one")]
    pub(super) reason: &'static str,
    /// For which containers it holds.
    pub(super) when: When,
    /// What happens.
    pub(super) rule: Rule,
    /// The calls; names that an architecture does not have are skipped there.
    pub(super) names: &'static [&'static str],
}

/// For which containers a group holds.
#[derive(Clone, Copy)]
pub(super) enum When {
    /// All.
    Always,
    /// Those with this capability: it allows what the calls do, so refusing them would only confuse.
    With(&'static str),
    /// Those without this capability.
    Without(&'static str),
}

impl When {
    pub(super) fn holds_for(self, capabilities: CapabilitySet) -> bool {
        let has = |name| CapabilitySet::named(name).is_some_and(|one| capabilities.contains(one));
        match self {
            Self::Always => true,
            Self::With(name) => has(name),
            Self::Without(name) => !has(name),
        }
    }
}

/// What happens to a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rule {
    /// It is made.
    Allow,
    /// It fails with this error number.
    Fail(u16),
    /// It is made if the low 32 bits of an argument are in one of these ranges (bounds included).
    AllowIfIn { argument: u8, ranges: &'static [(u32, u32)] },
    /// It is made if none of these bits is set in an argument.
    AllowIfClear { argument: u8, bits: u32 },
}

/// `ENOSYS`: the same number on all supported architectures.
pub(super) const NOT_IMPLEMENTED: u16 = 38;
/// `EPERM`.
pub(super) const NOT_PERMITTED: u16 = 1;

/// `CLONE_NEW…` of all namespaces but time, which the flags of `clone(2)` cannot hold.
const NAMESPACE_FLAGS: u32 = 0x7e02_0000;

/// The profile. Where two groups name a call, the first that holds decides.
#[rustfmt::skip]
pub(super) const GROUPS: &[Group] = &[
    Group { reason: "reading and writing files: checked by permissions and mounts", when: When::Always, rule: Rule::Allow, names: &[
        "read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "preadv2", "pwritev", "pwritev2",
        "open", "openat", "openat2", "creat", "close", "close_range", "lseek", "_llseek", "dup", "dup2", "dup3",
        "fcntl", "fcntl64", "flock", "ioctl", "fsync", "fdatasync", "sync", "syncfs", "sync_file_range",
        "truncate", "truncate64", "ftruncate", "ftruncate64", "fallocate", "fadvise64", "fadvise64_64",
        "readahead", "copy_file_range", "sendfile", "sendfile64", "splice", "tee", "vmsplice", "cachestat",
        "select", "_newselect", "pselect6", "pselect6_time64", "poll", "ppoll", "ppoll_time64",
    ] },
    Group { reason: "names and directories: checked by permissions and mounts", when: When::Always, rule: Rule::Allow, names: &[
        "chdir", "fchdir", "getcwd", "mkdir", "mkdirat", "rmdir", "mknod", "mknodat", "link", "linkat", "unlink",
        "unlinkat", "symlink", "symlinkat", "readlink", "readlinkat", "rename", "renameat", "renameat2",
        "getdents", "getdents64", "umask", "name_to_handle_at",
    ] },
    Group { reason: "attributes of files and filesystems: checked by permissions", when: When::Always, rule: Rule::Allow, names: &[
        "stat", "stat64", "lstat", "lstat64", "fstat", "fstat64", "fstatat64", "newfstatat", "statx", "statfs",
        "statfs64", "fstatfs", "fstatfs64", "access", "faccessat", "faccessat2", "chmod", "fchmod", "fchmodat",
        "fchmodat2", "chown", "chown32", "lchown", "lchown32", "fchown", "fchown32", "fchownat", "utime",
        "utimes", "futimesat", "utimensat", "utimensat_time64", "getxattr", "lgetxattr", "fgetxattr",
        "getxattrat", "setxattr", "lsetxattr", "fsetxattr", "setxattrat", "listxattr", "llistxattr",
        "flistxattr", "listxattrat", "removexattr", "lremovexattr", "fremovexattr", "removexattrat",
        "statmount", "listmount",
    ] },
    Group { reason: "waiting for events: acts on descriptors that the process has", when: When::Always, rule: Rule::Allow, names: &[
        "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_wait", "epoll_wait_old",
        "epoll_pwait", "epoll_pwait2", "eventfd", "eventfd2", "signalfd", "signalfd4", "inotify_init",
        "inotify_init1", "inotify_add_watch", "inotify_rm_watch", "fanotify_mark", "pipe", "pipe2",
        "timerfd_create", "timerfd_gettime", "timerfd_gettime64", "timerfd_settime", "timerfd_settime64",
    ] },
    Group { reason: "the old asynchronous I/O; io_uring is not here, its bugs have been the way out too often", when: When::Always, rule: Rule::Allow, names: &[
        "io_setup", "io_destroy", "io_submit", "io_cancel", "io_getevents", "io_pgetevents",
        "io_pgetevents_time64", "ioprio_get", "ioprio_set",
    ] },
    Group { reason: "own memory", when: When::Always, rule: Rule::Allow, names: &[
        "brk", "mmap", "mmap2", "munmap", "mremap", "mprotect", "madvise", "mincore", "msync", "mlock", "mlock2",
        "mlockall", "munlock", "munlockall", "remap_file_pages", "membarrier", "memfd_create", "memfd_secret",
        "mseal", "map_shadow_stack", "pkey_alloc", "pkey_free", "pkey_mprotect", "process_mrelease",
    ] },
    Group { reason: "own processes and threads; new namespaces are held back below", when: When::Always, rule: Rule::Allow, names: &[
        "fork", "vfork", "execve", "execveat", "exit", "exit_group", "wait4", "waitid", "waitpid", "getpid",
        "getppid", "gettid", "getpgid", "getpgrp", "setpgid", "getsid", "setsid", "set_tid_address",
        "set_thread_area", "get_thread_area", "set_robust_list", "get_robust_list", "rseq", "futex",
        "futex_time64", "futex_wait", "futex_wake", "futex_waitv", "futex_requeue", "pidfd_open",
        "pidfd_send_signal", "prctl", "uretprobe", "restart_syscall",
    ] },
    Group { reason: "tracing: safe for the filter since Linux 4.8, and limited to the own process id namespace", when: When::Always, rule: Rule::Allow, names: &[
        "ptrace", "process_vm_readv", "process_vm_writev",
    ] },
    Group { reason: "signals: reach the own process id namespace only", when: When::Always, rule: Rule::Allow, names: &[
        "kill", "tkill", "tgkill", "pause", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo",
        "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_sigtimedwait_time64", "rt_tgsigqueueinfo",
        "sigaltstack", "sigprocmask", "sigreturn",
    ] },
    Group { reason: "telling time and sleeping; setting needs a capability even where the call is listed", when: When::Always, rule: Rule::Allow, names: &[
        "time", "times", "gettimeofday", "clock_gettime", "clock_gettime64", "clock_getres",
        "clock_getres_time64", "clock_nanosleep", "clock_nanosleep_time64", "nanosleep", "alarm", "getitimer",
        "setitimer", "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime", "timer_gettime64",
        "timer_settime", "timer_settime64", "adjtimex", "clock_adjtime", "clock_adjtime64",
    ] },
    Group { reason: "using sockets: what they reach is decided by the network namespace", when: When::Always, rule: Rule::Allow, names: &[
        "socketpair", "socketcall", "bind", "listen", "accept", "accept4", "connect", "shutdown", "getsockname",
        "getpeername", "getsockopt", "setsockopt", "send", "sendto", "sendmsg", "sendmmsg", "recv", "recvfrom",
        "recvmsg", "recvmmsg", "recvmmsg_time64",
    ] },
    Group { reason: "interprocess communication: confined by the IPC namespace", when: When::Always, rule: Rule::Allow, names: &[
        "ipc", "msgctl", "msgget", "msgrcv", "msgsnd", "semctl", "semget", "semop", "semtimedop",
        "semtimedop_time64", "shmat", "shmctl", "shmdt", "shmget", "mq_open", "mq_unlink", "mq_notify",
        "mq_getsetattr", "mq_timedreceive", "mq_timedreceive_time64", "mq_timedsend", "mq_timedsend_time64",
    ] },
    Group { reason: "who the process is: changing it needs capabilities", when: When::Always, rule: Rule::Allow, names: &[
        "getuid", "getuid32", "geteuid", "geteuid32", "getgid", "getgid32", "getegid", "getegid32", "getresuid",
        "getresuid32", "getresgid", "getresgid32", "getgroups", "getgroups32", "setuid", "setuid32", "setgid",
        "setgid32", "setreuid", "setreuid32", "setregid", "setregid32", "setresuid", "setresuid32", "setresgid",
        "setresgid32", "setfsuid", "setfsuid32", "setfsgid", "setfsgid32", "setgroups", "setgroups32", "capget",
        "capset",
    ] },
    Group { reason: "scheduling and limits: raising them needs capabilities", when: When::Always, rule: Rule::Allow, names: &[
        "sched_getaffinity", "sched_setaffinity", "sched_getattr", "sched_setattr", "sched_getparam",
        "sched_setparam", "sched_getscheduler", "sched_setscheduler", "sched_get_priority_max",
        "sched_get_priority_min", "sched_rr_get_interval", "sched_rr_get_interval_time64", "sched_yield",
        "getpriority", "setpriority", "getrlimit", "ugetrlimit", "setrlimit", "prlimit64", "getrusage", "getcpu",
    ] },
    Group { reason: "facts about the system that tell nothing secret", when: When::Always, rule: Rule::Allow, names: &[
        "uname", "sysinfo", "getrandom",
    ] },
    Group { reason: "giving up rights: sandboxes inside the container", when: When::Always, rule: Rule::Allow, names: &[
        "seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self",
    ] },
    Group { reason: "what the processor needs: thread pointers, segments, caches", when: When::Always, rule: Rule::Allow, names: &[
        "arch_prctl", "modify_ldt", "arm_fadvise64_64", "arm_sync_file_range", "sync_file_range2", "breakpoint",
        "cacheflush", "set_tls",
    ] },
    Group {
        reason: "all address families but those that are not confined by a network namespace or are rarely used \
                 and often broken: DECnet, Econet, ATM SVC, IrDA, WANPIPE, mISDN, CAIF, the kernel's crypto, VSOCK",
        when: When::Always,
        rule: Rule::AllowIfIn {
            argument: 0,
            ranges: &[(0, 11), (13, 18), (21, 22), (24, 24), (26, 33), (35, 36), (39, 39), (41, 45)],
        },
        names: &["socket"],
    },
    Group {
        reason: "execution domains that are in use: Linux, 32 bits, UNAME26 with each, and asking for the current one",
        when: When::Always,
        rule: Rule::AllowIfIn {
            argument: 0,
            ranges: &[(0, 0), (8, 8), (0x2_0000, 0x2_0000), (0x2_0008, 0x2_0008), (u32::MAX, u32::MAX)],
        },
        names: &["personality"],
    },
    Group { reason: "making namespaces and mounts, for those who administer the system", when: When::With("SYS_ADMIN"), rule: Rule::Allow, names: &[
        "bpf", "clone", "clone3", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick", "lookup_dcookie",
        "lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr", "mount", "mount_setattr", "move_mount",
        "open_tree", "perf_event_open", "quotactl", "quotactl_fd", "setdomainname", "sethostname", "setns",
        "syslog", "umount", "umount2", "unshare",
    ] },
    Group {
        reason: "new processes and threads, but no new namespaces: a user namespace opens much of the kernel",
        when: When::Without("SYS_ADMIN"),
        rule: Rule::AllowIfClear { argument: 0, bits: NAMESPACE_FLAGS },
        names: &["clone"],
    },
    Group {
        reason: "its flags are in memory, which a filter cannot read; told that it is missing, programs use clone",
        when: When::Without("SYS_ADMIN"),
        rule: Rule::Fail(NOT_IMPLEMENTED),
        names: &["clone3"],
    },
    Group { reason: "opening by handle passes over directory permissions", when: When::With("DAC_READ_SEARCH"), rule: Rule::Allow, names: &["open_by_handle_at"] },
    Group { reason: "restarting the machine", when: When::With("SYS_BOOT"), rule: Rule::Allow, names: &["reboot"] },
    Group { reason: "changing the root directory", when: When::With("SYS_CHROOT"), rule: Rule::Allow, names: &["chroot"] },
    Group { reason: "loading code into the kernel", when: When::With("SYS_MODULE"), rule: Rule::Allow, names: &["init_module", "finit_module", "delete_module"] },
    Group { reason: "process accounting", when: When::With("SYS_PACCT"), rule: Rule::Allow, names: &["acct"] },
    Group { reason: "inspecting other processes", when: When::With("SYS_PTRACE"), rule: Rule::Allow, names: &["kcmp", "pidfd_getfd", "process_madvise"] },
    Group { reason: "raw input and output ports", when: When::With("SYS_RAWIO"), rule: Rule::Allow, names: &["iopl", "ioperm"] },
    Group { reason: "setting the clock", when: When::With("SYS_TIME"), rule: Rule::Allow, names: &["settimeofday", "stime", "clock_settime", "clock_settime64"] },
    Group { reason: "hanging up a terminal", when: When::With("SYS_TTY_CONFIG"), rule: Rule::Allow, names: &["vhangup"] },
    Group { reason: "placing memory on nodes", when: When::With("SYS_NICE"), rule: Rule::Allow, names: &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"] },
    Group { reason: "the kernel's log", when: When::With("SYSLOG"), rule: Rule::Allow, names: &["syslog"] },
    Group { reason: "programs in the kernel", when: When::With("BPF"), rule: Rule::Allow, names: &["bpf"] },
    Group { reason: "performance counters", when: When::With("PERFMON"), rule: Rule::Allow, names: &["perf_event_open"] },
];
