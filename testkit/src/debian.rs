//! A real Debian base image, made by `mmdebstrap` from the Debian mirror that apt uses, without a registry.
//!
//! It takes about a quarter of a minute once, and is then kept below the target directory. `scripts/debian-base`
//! makes it for the tests and for the demo alike.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::binary::{cache_dir, workspace};
use crate::oci::{Image, Layer};

/// The minimal `debian:bookworm`.
pub fn bookworm() -> Image {
    let layer = Layer::file(rootfs()).expect("the root filesystem was just made");
    Image::new("debian:bookworm").layer(layer).configure(|config| {
        config.config.env =
            vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()];
        config.config.cmd = Some(vec!["bash".to_owned()]);
    })
}

/// The tar of its root filesystem. Tests that need it at once, in one process or several, make it once.
pub fn rootfs() -> &'static Path {
    static ROOTFS: OnceLock<PathBuf> = OnceLock::new();
    ROOTFS.get_or_init(|| {
        let path = cache_dir().join("debian-bookworm.tar");
        let lock = File::create(path.with_extension("lock")).expect("a lock file in the cache directory");
        lock.lock().expect("the lock");
        if !path.exists() {
            let script = workspace().join("scripts/debian-base");
            let output = Command::new(&script).arg(&path).output().expect("scripts/debian-base starts");
            let log = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {}\n{log}", script.display(), output.status);
        }
        path
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_apt_and_its_sources() {
        if crate::judges::program("mmdebstrap").is_none() || crate::privilege::root().is_none() {
            return;
        }
        let mut archive = tar::Archive::new(File::open(rootfs()).unwrap());
        let names: Vec<PathBuf> =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
        for wanted in ["usr/bin/apt-get", "etc/apt/sources.list"] {
            assert!(names.iter().any(|name| name.ends_with(wanted)), "no {wanted}");
        }
    }
}
