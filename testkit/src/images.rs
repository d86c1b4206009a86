//! Small images from what Debian installs, without a network.

use std::process::Command;
use std::sync::OnceLock;

use crate::layer_tar::LayerTar;
use crate::oci::{Image, Layer};

/// Where Debian's package `busybox-static` puts its one file.
const BUSYBOX: &str = "/usr/bin/busybox";

/// A root filesystem of one program: `/bin/busybox` with a symlink for each of its commands, the users `root`
/// and `nobody`, and the usual empty directories. Its shell is `/bin/sh` and `PATH` is Docker's.
pub fn busybox() -> Image {
    busybox_as("busybox:latest")
}

/// The same image under another name.
pub fn busybox_as(name: &str) -> Image {
    Image::new(name).layer(Layer::tar(busybox_tar().to_vec())).configure(|config| {
        config.config.env =
            vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()];
        config.config.cmd = Some(vec!["/bin/sh".to_owned()]);
    })
}

/// Unpacks the layer of [`busybox`] into a directory.
pub fn unpack_busybox(directory: &std::path::Path) {
    let mut archive = tar::Archive::new(busybox_tar());
    archive.unpack(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
}

/// The layer of [`busybox`], uncompressed.
pub fn busybox_tar() -> &'static [u8] {
    static TAR: OnceLock<Vec<u8>> = OnceLock::new();
    TAR.get_or_init(|| {
        let program = std::fs::read(BUSYBOX)
            .unwrap_or_else(|error| panic!("{BUSYBOX}: {error}; apt-get install busybox-static"));
        let mut tar = LayerTar::new()
            .dir("bin/", 0o755)
            .file("bin/busybox", 0o755, program)
            .dir("dev/", 0o755)
            .dir("etc/", 0o755)
            .file("etc/group", 0o644, "root:x:0:\nstaff:x:50:nobody\nnogroup:x:65534:\n")
            .file(
                "etc/passwd",
                0o644,
                "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
            )
            .dir("proc/", 0o755)
            .dir("root/", 0o700)
            .dir("sys/", 0o755)
            .dir("tmp/", 0o1777);
        for applet in busybox_applets() {
            tar = tar.symlink(&format!("bin/{applet}"), "busybox");
        }
        tar.finish()
    })
}

/// The commands that the installed busybox knows, but for its own name.
fn busybox_applets() -> Vec<String> {
    let output = Command::new(BUSYBOX).arg("--list").output().expect("busybox starts");
    let list = String::from_utf8(output.stdout).expect("busybox lists its commands in ASCII");
    list.lines().filter(|applet| *applet != "busybox").map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busybox_has_a_shell_and_can_be_written() {
        let mut archive = tar::Archive::new(busybox_tar());
        let links: Vec<_> = archive
            .entries()
            .unwrap()
            .filter_map(|entry| {
                let entry = entry.unwrap();
                (entry.path_bytes().as_ref() == b"bin/sh")
                    .then(|| entry.link_name_bytes().unwrap().into_owned())
            })
            .collect();
        assert_eq!(links, [b"busybox"]);
    }
}
