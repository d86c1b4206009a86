//! Independent programs from Debian that judge our results.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::privilege::missing;

/// A program that is installed.
pub struct Judge {
    path: PathBuf,
}

/// `skopeo`, which reads and copies images of every form.
pub fn skopeo() -> Option<Judge> {
    program("skopeo")
}

/// `umoci`, which unpacks OCI layouts.
pub fn umoci() -> Option<Judge> {
    program("umoci")
}

/// The program `name` from the usual directories. Without it the calling test is skipped, or fails in CI.
pub fn program(name: &str) -> Option<Judge> {
    let dirs = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let path = dirs.iter().map(|dir| Path::new(dir).join(name)).find(|path| path.is_file());
    path.map(|path| Judge { path }).or_else(|| missing(&format!("{name} is not installed")))
}

impl Judge {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs it, expects success and returns its standard output.
    pub fn ok<I, S>(&self, args: I) -> Vec<u8>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut command = Command::new(&self.path);
        command.args(args);
        let output = command.output().expect("an installed program starts");
        assert!(
            output.status.success(),
            "{command:?}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    }

    /// The JSON that it prints.
    pub fn json<I, S>(&self, args: I) -> serde_json::Value
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        serde_json::from_slice(&self.ok(args)).expect("the judge prints JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images;
    use crate::tree::Tree;

    #[test]
    fn skopeo_accepts_our_images() {
        let Some(skopeo) = skopeo() else { return };
        let dir = tempfile::tempdir().unwrap();
        let (archive, image) = (dir.path().join("image.tar"), images::busybox());
        image.write_archive(&archive);
        let seen = skopeo.json(["inspect", &format!("oci-archive:{}", archive.display())]);
        assert_eq!(seen["Digest"], image.digest().to_string());
        let config = skopeo.json(["inspect", "--config", &format!("docker-archive:{}", archive.display())]);
        assert_eq!(config["config"]["Cmd"][0], "/bin/sh");
    }

    #[test]
    fn umoci_unpacks_our_layouts() {
        let Some(umoci) = umoci() else { return };
        let dir = tempfile::tempdir().unwrap();
        let (layout, bundle) = (dir.path().join("layout"), dir.path().join("bundle"));
        images::busybox().write_layout(&layout);
        let image = format!("{}:latest", layout.display());
        umoci.ok(["unpack", "--image", &image, &bundle.display().to_string()]);
        let expected = Tree::of_tar(images::busybox_tar());
        expected.assert_is(&Tree::of_dir(&bundle.join("rootfs")));
    }
}
