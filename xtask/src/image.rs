//! `cargo xtask image`: an image archive from the tar of a root filesystem, for the demo's base image.

use std::io::{IsTerminal, stdout};
use std::path::Path;
use std::process::ExitCode;

use testkit::{Image, Layer};

/// Writes the archive to standard output.
pub(crate) fn run(rootfs: &Path, name: &str) -> ExitCode {
    if stdout().is_terminal() {
        eprintln!("standard output is a terminal; redirect it into a file");
        return ExitCode::from(2);
    }
    let written = Layer::file(rootfs).and_then(|layer| {
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let image = Image::new(name).layer(layer).configure(|config| {
            config.config.env = vec![path.to_owned()];
            config.config.cmd = Some(vec!["/bin/sh".to_owned()]);
        });
        image.write_archive_to(stdout().lock())
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("make an image of {}: {error}", rootfs.display());
            ExitCode::FAILURE
        }
    }
}
