//! A hermetic place to run `lap`: its own store, home and temporary directory, and an empty environment.
//!
//! When the environment ends it also removes its networks and checks that no mount was left behind in it.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::command::{Lap, Output};
use crate::context::Context;
use crate::oci::Image;

/// A store of its own and everything around it. Dropped, it removes all of it.
pub struct TestEnv {
    dir: TempDir,
    lap: PathBuf,
    epoch: Option<i64>,
}

impl TestEnv {
    /// An empty store for the `lap` binary that [`crate::binary::lap`] finds.
    #[allow(
        clippy::new_without_default,
        reason = "making an environment writes to the disk and may build lap"
    )]
    pub fn new() -> Self {
        Self::with_binary(crate::binary::lap())
    }

    /// An empty store for the binary at `lap`, an absolute path.
    pub fn with_binary(lap: &Path) -> Self {
        Self::within(&std::env::temp_dir(), lap)
    }

    /// As [`new`](Self::new), with everything below `parent`.
    pub fn below(parent: &Path) -> Self {
        Self::within(parent, crate::binary::lap())
    }

    fn within(parent: &Path, lap: &Path) -> Self {
        let dir =
            tempfile::Builder::new().prefix("lap-test-").tempdir_in(parent).expect("a temporary directory");
        for name in ["home", "tmp", "work"] {
            std::fs::create_dir(dir.path().join(name)).expect("a directory in a new one");
        }
        Self { dir, lap: lap.to_owned(), epoch: None }
    }

    /// Sets `SOURCE_DATE_EPOCH`, in seconds, for every later command.
    pub fn source_date_epoch(mut self, seconds: i64) -> Self {
        self.epoch = Some(seconds);
        self
    }

    /// The store's root. It does not exist before the first command.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// The runtime directory. It does not exist before something needs it.
    pub fn run(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    /// The directory that commands run in and where tests may leave files.
    pub fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// The home directory of commands.
    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// A new, empty build context.
    pub fn context(&self) -> Context {
        Context::create(self.dir.path())
    }

    /// The command `lap --root ROOT ARGS…`, not started yet.
    pub fn lap<I, S>(&self, args: I) -> Lap
    where
        I: IntoIterator<Item = S>,
        S: AsRef<std::ffi::OsStr>,
    {
        self.with_environment(Lap::new(&self.lap)).arg("--root").arg(self.root()).args(args)
    }

    /// The same command as the last words of another program, which runs and watches it.
    pub fn lap_under(&self, program: &Path, flags: &[&str], args: &[&str]) -> Lap {
        let command = self.with_environment(Lap::new(program)).args(flags).arg(&self.lap);
        command.arg("--root").arg(self.root()).args(args)
    }

    /// A command with the environment that every command gets here.
    fn with_environment(&self, command: Lap) -> Lap {
        let command = command
            .current_dir(&self.work())
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.home())
            .env("TMPDIR", self.dir.path().join("tmp"))
            .env("LAPSTRAKE_RUN", self.run())
            // What goes on after the command would meet the removal of the directory.
            .env("LAPSTRAKE_GC", "off");
        let command = match self.epoch {
            Some(seconds) => command.env("SOURCE_DATE_EPOCH", seconds.to_string()),
            None => command,
        };
        layer_variables().into_iter().fold(command, |command, (name, value)| command.env(name, value))
    }

    /// Writes `image` as an OCI archive, loads it, and expects that to succeed.
    pub fn load(&self, image: &Image) -> Output {
        let archive = self.work().join(format!("load-{}.tar", image.digest().short()));
        image.write_archive(&archive);
        self.load_archive(&archive)
    }

    /// Loads an archive or a layout directory with `lap load` and expects that to succeed.
    pub fn load_archive(&self, archive: &Path) -> Output {
        self.lap(["load", "-i"]).arg(archive).ok()
    }
}

const LAYER_FORM: &str = "LAPSTRAKE_LAYER_FORM";

/// In which form stores keep layers in this run of the tests.
pub fn layer_form() -> Option<std::ffi::OsString> {
    layer_variables().into_iter().find_map(|(name, value)| (name == LAYER_FORM).then_some(value))
}

/// In which form stores keep layers in this run of the tests, and how they are mounted: what the variables of the tests
/// themselves say. All tests hold in each form and way.
pub fn layer_variables() -> Vec<(&'static str, std::ffi::OsString)> {
    let said = |name| Some((name, std::env::var_os(name).filter(|value| !value.is_empty())?));
    [LAYER_FORM, "LAPSTRAKE_LAYER_MOUNT"].into_iter().filter_map(said).collect()
}

impl TestEnv {
    /// Removes the networks that containers used, which the product keeps for the next one.
    fn remove_networks(&self) {
        let networks = self.run().join("networks");
        if networks.exists() {
            let removed = self.lap(["system", "doctor", "--fix"]).run();
            let left = std::fs::read_dir(networks).map_or(0, Iterator::count);
            assert!(left == 0 || std::thread::panicking(), "networks are left: {removed}");
        }
    }
}

impl Drop for TestEnv {
    fn drop(&mut self) {
        self.remove_networks();
        let left = unmount_below(self.dir.path());
        assert!(left.is_empty() || std::thread::panicking(), "the test left mounts behind: {left:?}");
    }
}

/// Unmounts what is mounted at or below `dir` and returns it, so that the directory can be removed.
pub fn unmount_below(dir: &Path) -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let left: Vec<String> = mounts_below(&mounts, dir).map(str::to_owned).collect();
    for mount in left.iter().rev() {
        // Detached, whatever still uses the mount. One that vanished meanwhile is no loss.
        let _ = nix::mount::umount2(mount.as_str(), nix::mount::MntFlags::MNT_DETACH);
    }
    left
}

/// The mount points at or below `dir`, in the order in which they were mounted.
fn mounts_below<'m>(mountinfo: &'m str, dir: &Path) -> impl Iterator<Item = &'m str> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(move |point| Path::new(point).starts_with(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_other_directories_are_not_ours() {
        let text = "22 1 0:20 / /proc rw - proc proc rw\n\
                    23 1 0:21 / /t/a/merged rw shared:1 - overlay overlay rw\n\
                    24 1 0:22 / /t/ab rw - tmpfs tmpfs rw\n";
        assert_eq!(mounts_below(text, Path::new("/t/a")).collect::<Vec<_>>(), ["/t/a/merged"]);
    }

    #[test]
    fn a_command_sees_only_the_environment_we_gave_it() {
        let env = TestEnv::with_binary(Path::new("/usr/bin/env")).source_date_epoch(7);
        // `env --root` is refused, so the real program is started by a shell that ignores its arguments.
        let output = Lap::new(Path::new("/bin/sh")).args(["-c", "/usr/bin/env"]).env("HOME", env.home()).ok();
        assert_eq!(output.stdout_text().lines().filter(|line| line.starts_with("HOME=")).count(), 1);
        assert!(!output.stdout_text().contains("CARGO"), "{}", output.stdout_text());
        assert!(env.lap(["images"]).to_string().ends_with(" images"), "{}", env.lap(["images"]));
    }
}
