//! The flags of `lap registry`, `login`, `logout` and `doctor`.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct RegistryArgs {
    #[command(subcommand)]
    pub(crate) command: RegistryCommand,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum RegistryCommand {
    /// Serve the images of the store as a registry, and take what is pushed into the store
    ///
    /// The image localhost:5000/team/app:1 of the store is what others pull as team/app:1 from port 5000, and what is
    /// pushed gets such a name. Images of other registries are served under their names as well: library/debian, or
    /// ghcr.io/owner/name.
    Serve(ServeArgs),
    /// List the tags of a repository, as its registry has them
    Tags(RegistryTagsArgs),
    /// List what refers to an image in its registry: signatures, attestations and the like
    Referrers(RegistryReferrersArgs),
    /// Take names away from a registry: a tag, or with a digest a manifest and all its tags
    Rm(RegistryRmArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RegistryTagsArgs {
    /// The repository, as registry.example/team/app
    pub(crate) repository: String,
}

#[derive(Debug, Args)]
pub(crate) struct RegistryReferrersArgs {
    /// The image
    pub(crate) image: String,

    /// Only those of this kind
    #[arg(long, value_name = "TYPE")]
    pub(crate) artifact_type: Option<String>,

    /// Print with a template such as '{{.Digest}}', or as json
    #[arg(long)]
    pub(crate) format: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RegistryRmArgs {
    /// The names, each with a tag or a digest
    #[arg(required = true, value_name = "NAME:TAG | NAME@DIGEST")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where to listen; port 0 is any that is free. The first line of output says where that is
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5000", value_parser = address)]
    pub(crate) addr: SocketAddr,

    /// The registry's name in the names of images [default: localhost:PORT, or the address if it is not this machine's]
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) name: Option<String>,

    /// Serve HTTPS with this certificate, PEM, those of its authorities after it
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The key of the certificate, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Let in only whom this file names, as `htpasswd -B` writes it; it is read again when it changes
    #[arg(long, value_name = "HTPASSWD")]
    pub(crate) auth: Option<PathBuf>,

    /// How long a record of a shared build cache is kept that nobody uses, as in 48h; 0s is for good
    #[arg(long, value_name = "TIME", default_value = "336h", value_parser = crate::units::time)]
    pub(crate) cache_keep: Duration,

    /// How many bytes of layers the records of shared build caches may need, the ones used last first; 0 is any number
    #[arg(long, value_name = "BYTES", default_value = "20GB", value_parser = crate::units::size)]
    pub(crate) cache_size: u64,

    /// Refuse pushes and deletions
    #[arg(long)]
    pub(crate) read_only: bool,
}

/// `HOST:PORT`; without a host, all addresses of this machine.
fn address(text: &str) -> Result<SocketAddr, String> {
    let complete = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    let mut found = complete.to_socket_addrs().map_err(|error| error.to_string())?;
    found.next().ok_or_else(|| "the host has no address".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_may_leave_the_host_out() {
        assert_eq!(address(":5000"), Ok("0.0.0.0:5000".parse().unwrap()));
        assert_eq!(address("[::1]:0"), Ok("[::1]:0".parse().unwrap()));
        assert!(address("127.0.0.1").is_err());
        assert!(address("127.0.0.1:99999").is_err());
    }
}

/// A password, which debug output does not show.
#[derive(Clone)]
pub(crate) struct Password(pub(crate) String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

impl From<String> for Password {
    fn from(text: String) -> Self {
        Self(text)
    }
}

#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// The registry [default: docker.io]
    pub(crate) registry: Option<String>,

    /// The user
    #[arg(short, long)]
    pub(crate) username: Option<String>,

    /// The password or token; other programs can see it, --password-stdin hides it
    #[arg(short, long, conflicts_with = "password_stdin")]
    pub(crate) password: Option<Password>,

    /// Take the password from standard input
    #[arg(long, requires = "username")]
    pub(crate) password_stdin: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LogoutArgs {
    /// The registry [default: docker.io]
    pub(crate) registry: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// A registry: how it is reached, with which certificates and which login, and what it answers. Without one, the
    /// machine is looked at, as by lap system doctor
    pub(crate) registry: Option<String>,

    /// Remove what networks left behind
    #[arg(long, conflicts_with = "registry")]
    pub(crate) fix: bool,
}
