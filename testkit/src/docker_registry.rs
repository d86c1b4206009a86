//! Debian's `docker-registry` on a loopback port of its own, with storage that goes away with it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;

use crate::judges;

/// How long the registry may take to say that it listens.
const START: Duration = Duration::from_secs(120);

/// What a registry asks of its clients.
#[derive(Debug, Clone, Default)]
pub struct RegistryDoor {
    /// An htpasswd file with those who may use it; everybody without one.
    pub accounts: Option<PathBuf>,
    /// Its certificate and key; it speaks HTTP without them.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The certificate of the authority that clients need one of.
    pub client_authority: Option<PathBuf>,
    /// Where it keeps what it has; a directory of its own without one.
    pub data: Option<PathBuf>,
}

/// A running registry. Dropped, it ends.
pub struct DockerRegistry {
    process: Child,
    address: String,
    dir: TempDir,
}

impl DockerRegistry {
    /// Starts an empty registry and waits until it listens. None if the package is not installed; see
    /// [`judges::program`].
    pub fn start() -> Option<Self> {
        Self::start_with(&RegistryDoor::default())
    }

    /// The same, not for everybody.
    pub fn start_with(door: &RegistryDoor) -> Option<Self> {
        let program = judges::program("docker-registry")?;
        let dir = tempfile::Builder::new().prefix("lap-registry-").tempdir().expect("a temporary directory");
        let config = dir.path().join("config.yml");
        let own = dir.path().join("data");
        std::fs::write(&config, configuration(door.data.as_deref().unwrap_or(&own), door))
            .expect("a file in a new directory");
        let mut process = Command::new(program.path())
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("an installed program starts");
        let log = BufReader::new(process.stderr.take().expect("the pipe was asked for"));
        let address = listening_address(log).unwrap_or_else(|log| {
            let _ = process.kill();
            let _ = process.wait();
            panic!("docker-registry does not listen after {START:?}; it wrote:\n{log}")
        });
        Some(Self { process, address, dir })
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A reference in this registry.
    pub fn reference(&self, repository_and_tag: &str) -> String {
        format!("{}/{repository_and_tag}", self.address)
    }

    /// Where the registry keeps a blob, for tests that damage it.
    pub fn blob_file(&self, digest: &base::Digest) -> PathBuf {
        let hex = digest.hex();
        self.dir.path().join(format!("data/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]))
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Port 0 lets the kernel choose a free one.
fn configuration(data: &std::path::Path, door: &RegistryDoor) -> String {
    let mut tls = String::new();
    if let Some((certificate, key)) = &door.certificate {
        let authorities = door.client_authority.as_ref();
        let authorities = authorities.map(|file| format!(", clientcas: ['{}']", file.display()));
        let authorities = authorities.unwrap_or_default();
        tls = format!(
            ", tls: {{certificate: '{}', key: '{}'{authorities}}}",
            certificate.display(),
            key.display()
        );
    }
    let accounts = door.accounts.as_ref();
    let auth =
        accounts.map(|file| format!("auth: {{htpasswd: {{realm: test, path: '{}'}}}}\n", file.display()));
    format!(
        "version: 0.1\n\
         log: {{level: info, formatter: text}}\n\
         storage: {{filesystem: {{rootdirectory: '{}'}}, delete: {{enabled: true}}}}\n\
         {}http: {{addr: '127.0.0.1:0'{tls}}}\n",
        data.display(),
        auth.unwrap_or_default(),
    )
}

/// Reads the log up to the line that names the address, and the rest in the background so that the pipe never
/// fills. The error is what was read instead.
fn listening_address(log: impl BufRead + Send + 'static) -> Result<String, String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in log.lines().map_while(Result::ok) {
            // Nobody listens any more once the address is known.
            let _ = sender.send(line);
        }
    });
    let mut read = String::new();
    while let Ok(line) = lines.recv_timeout(START) {
        if let Some(address) = address_in(&line) {
            return Ok(address.to_owned());
        }
        read.push_str(&line);
        read.push('\n');
    }
    Err(read)
}

fn address_in(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("listening on ")?;
    rest.split(['"', ' ', ',']).next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images;

    #[test]
    fn the_address_is_read_from_the_log() {
        let line = r#"time="…" level=info msg="listening on 127.0.0.1:46065" go.version=go1.19.8"#;
        assert_eq!(address_in(line), Some("127.0.0.1:46065"));
        assert_eq!(listening_address(std::io::Cursor::new("no port\n")), Err("no port\n".to_owned()));
    }

    #[test]
    fn an_image_goes_in_and_its_blobs_can_be_found() {
        let (Some(registry), Some(skopeo)) = (DockerRegistry::start(), judges::skopeo()) else { return };
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("image.tar");
        let image = images::busybox();
        image.write_archive(&archive);
        let (from, to) = (
            format!("oci-archive:{}", archive.display()),
            format!("docker://{}", registry.reference("busybox:latest")),
        );
        skopeo.ok(["copy", "--preserve-digests", "--insecure-policy", "--dest-tls-verify=false", &from, &to]);
        assert!(registry.blob_file(&image.id()).is_file());
        let seen = skopeo.json(["inspect", "--tls-verify=false", &to]);
        assert_eq!(seen["Digest"], image.digest().to_string());
    }
}
