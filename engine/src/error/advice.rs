//! What the user may do about an error.

use runner::Expired;
use snapshotter::StoreError;
use snapshotter::apply::ApplyError;

use super::EngineError;

impl EngineError {
    /// What the user may do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoSuchImage(_) => {
                Some("`lap images` lists what is in the store; `lap pull` fetches more".to_owned())
            }
            Self::NoDockerfile { .. } => {
                Some("name another file with -f, or build in the directory that has it".to_owned())
            }
            Self::NoSuchCacheMount(_) => Some("`lap cache-mount ls` lists them".to_owned()),
            Self::CacheMountInUse(_) => Some("wait for the build that uses it, or stop it".to_owned()),
            Self::CacheMountExists(_) => Some("remove it first, or give another --id".to_owned()),
            Self::NoSuchBuild(_) => Some("`lap history ls` lists the builds".to_owned()),
            Self::Ambiguous(_) | Self::AmbiguousBuild(_) | Self::AmbiguousCacheMount(_) => Some("give more digits of the id".to_owned()),
            Self::NoFailedStep(_) => Some(
                "only a RUN whose command failed is kept: that of the ten newest builds in which one did, for a week"
                    .to_owned(),
            ),
            Self::NoShell { build, .. } => {
                Some(format!("name a program: lap debug {build} -- PROGRAM; or copy files out: lap debug cp {build}:PATH DEST"))
            }
            Self::Conflict(conflict) => Some(conflict.hint()),
            Self::NoSuchContainer(_) => Some("`lap ps --all` lists the containers".to_owned()),
            Self::ContainerNameTaken { .. } => Some("remove or rename that container, or take another name".to_owned()),
            Self::NoLog(_) => Some("a container keeps a log unless it was run with --log-driver none or --log-opt cache-disabled=true, or in the foreground with --rm".to_owned()),
            Self::Git(error) => error.hint(),
            Self::Lookup(error) => error.hint(),
            Self::Scanner { source, .. } => source.hint(),
            Self::Registries(error) => error.hint(),
            Self::Files(error) => error.hint().map(str::to_owned),
            Self::Download(error) if matches!(error.status(), Some(401 | 403)) => {
                let hint = "give a secret with the id HTTP_AUTH_TOKEN_<host> or HTTP_AUTH_HEADER_<host>";
                Some(hint.to_owned())
            }
            Self::Checksum { .. } => {
                Some("if the file may have changed, correct the checksum after looking at it".to_owned())
            }
            Self::Unpack(error) => limit_hint(error),
            Self::Store(StoreError::Apply { source, .. }) => limit_hint(source),
            Self::Change { .. } => Some(
                "changes are CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR"
                    .to_owned(),
            ),
            Self::SecretNeedsMount(id) => {
                Some(format!("take it as a variable: RUN --mount=type=secret,id={id},env=NAME"))
            }
            Self::Isolation(_) => Some("lap system doctor tells how to get more".to_owned()),
            Self::NoCommand(_) => Some("give one: lap run IMAGE COMMAND".to_owned()),
            Self::OtherFrontend { .. } => Some(
                "if it is an ordinary Dockerfile, build with --build-arg BUILDKIT_SYNTAX=dockerfile.v0"
                    .to_owned(),
            ),
            Self::FetchTimedOut { expired: Expired::Total(_), .. } => {
                Some("give it more time with --timeout, or another try with --retry".to_owned())
            }
            Self::FetchTimedOut { expired: Expired::Idle(_), .. } => {
                Some("give it more time with --idle-timeout, or another try with --retry".to_owned())
            }
            Self::NoSecret(id) => Some(format!("give it with --secret id={id},src=FILE or ,env=NAME")),
            Self::NoSshAgent(id) => Some(format!(
                "give it with --ssh {id}, when SSH_AUTH_SOCK leads to an agent, or --ssh {id}=KEYFILE"
            )),
            Self::SshKey { .. } => Some(
                "a key with a passphrase is added to an agent first: ssh-add KEYFILE, then --ssh default"
                    .to_owned(),
            ),
            Self::NoContext(name) => Some(format!("give it with --build-context {name}=PATH")),
            Self::NotInLayout { known, .. } if !known.is_empty() => Some(format!("it has: {known}")),
            Self::SeveralPlatforms(_) => Some("use type=oci, or build one platform".to_owned()),
            Self::DockerCompression(_) => {
                Some("use type=oci, or compression=gzip or uncompressed".to_owned())
            }
            Self::EmulatorOutside { .. } => {
                Some("register it with flag F, as Debian's qemu-user-static does".to_owned())
            }
            Self::NoEmulator { .. } => Some(
                "install one that registers with binfmt_misc, in Debian: apt-get install qemu-user-static"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    /// The exit code of `lap run` for this error, where it has one of its own.
    pub fn exit_code(&self) -> Option<u8> {
        match self {
            Self::Run(error) => u8::try_from(error.exit_code()).ok(),
            Self::Shim(error) => Some(error.exit_code()),
            _ => None,
        }
    }
}

/// What to do about an archive that is too large.
fn limit_hint(error: &ApplyError) -> Option<String> {
    error.is_limit().then(|| "if you trust it, raise --max-layer-size or --max-layer-entries".to_owned())
}
