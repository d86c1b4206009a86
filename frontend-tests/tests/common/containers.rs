//! Containers that a test makes and that are gone when it ends, however it ends.

use std::ops::Deref;
use std::path::Path;

use testkit::TestEnv;
use testkit::wait::{until, until_ok};

/// An environment with `busybox` whose containers are killed and removed at its end, and then their networks.
pub(crate) struct Containers(TestEnv);

impl Containers {
    pub(crate) fn new() -> Self {
        Self(super::env())
    }

    /// The same without any image, and without a store yet.
    pub(crate) fn empty() -> Self {
        Self(TestEnv::new())
    }

    /// `lap run -d ARGS…`, which must succeed; answers the id.
    pub(crate) fn detached(&self, args: &[&str]) -> String {
        self.lap(["run", "-d"]).args(args).ok().stdout_text().trim().to_owned()
    }

    /// A container that waits, with these flags of `lap run`; answers the id.
    pub(crate) fn sleeper(&self, name: &str, flags: &[&str]) -> String {
        self.detached(&[&["--name", name], flags, &["busybox", "sleep", "1000"]].concat())
    }

    /// What a script prints in a container, which must succeed.
    pub(crate) fn inside(&self, container: &str, script: &str) -> String {
        self.lap(["exec", container, "sh", "-c", script]).ok().stdout_text()
    }

    /// Whether a script fails in a container.
    pub(crate) fn fails_inside(&self, container: &str, script: &str) -> bool {
        self.lap(["exec", container, "sh", "-c", script]).run().code() != Some(0)
    }

    /// A field of `lap inspect`.
    pub(crate) fn inspect(&self, container: &str, field: &str) -> String {
        let format = format!("{{{{{field}}}}}");
        self.lap(["inspect", "-f", &format, container]).ok().stdout_text().trim().to_owned()
    }

    /// Waits until a container has written a line, by following its log.
    pub(crate) fn wait_for(&self, container: &str, text: &str) {
        let mut logs = self.lap(["logs", "-f", container]).spawn();
        logs.wait_for(text);
        logs.signal(nix::sys::signal::Signal::SIGTERM);
        logs.finish();
    }

    /// Asks again and again until a field of `lap inspect` is as wanted.
    pub(crate) fn wait_until(&self, container: &str, field: &str, wanted: impl Fn(&str) -> bool) -> String {
        until_ok(&format!("{field} of {container} is as it should be"), || {
            let value = self.inspect(container, field);
            if wanted(&value) { Ok(value) } else { Err(format!("it is {value}")) }
        })
    }

    /// Asks again and again until a script succeeds in a container.
    pub(crate) fn wait_for_exec(&self, container: &str, script: &str) {
        until(&format!("{script:?} succeeds in {container}"), || !self.fails_inside(container, script));
    }

    /// The interfaces of this machine whose note says that they are of networks of ours.
    pub(crate) fn bridges(&self) -> Vec<String> {
        let note = format!("lapstrake {}", self.run().display());
        let interfaces = Path::new("/sys/class/net");
        let mut names = super::names_in(interfaces);
        names.retain(|name| {
            let alias = std::fs::read_to_string(interfaces.join(name).join("ifalias"));
            alias.is_ok_and(|alias| alias.trim() == note)
        });
        names
    }

    /// The process id of the shim of a container.
    pub(crate) fn shim_of(&self, id: &str) -> i32 {
        let is_shim = |pid: &i32| {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            command.starts_with(b"lap-shim\0") && String::from_utf8_lossy(&command).contains(id)
        };
        let entries = std::fs::read_dir("/proc").unwrap();
        let pids = entries.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<i32>().ok());
        pids.into_iter().find(is_shim).expect("the shim of the container")
    }
}

impl Deref for Containers {
    type Target = TestEnv;

    fn deref(&self) -> &TestEnv {
        &self.0
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        let ids = self.lap(["ps", "-aq", "--no-trunc"]).run().stdout_text();
        for id in ids.lines() {
            self.lap(["rm", "-f", id]).run();
        }
        let networks = self.lap(["network", "ls", "-q", "--filter", "type=custom"]).run().stdout_text();
        for id in networks.lines() {
            self.lap(["network", "rm", id]).run();
        }
    }
}
