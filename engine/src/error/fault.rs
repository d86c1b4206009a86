//! Whose fault an error is.

use base::{Fault, Faulty};

use super::EngineError;

impl Faulty for EngineError {
    fn fault(&self) -> Fault {
        match self {
            Self::Store(error) => error.fault(),
            Self::Import { source, .. } => source.fault(),
            Self::Compress(error) => error.fault(),
            Self::Registry(error) => error.fault(),
            Self::Lookup(error) => error.fault(),
            Self::Scanner { source, .. } => source.fault(),
            Self::Registries(error) => error.fault(),
            Self::Server(error) => error.fault(),
            Self::Reapi(error) => error.fault(),
            Self::Network(error) => error.fault(),
            Self::Volume(error) => error.fault(),
            Self::Files(error) => error.fault(),
            Self::Key(error) => error.fault(),
            Self::Policy(error) => error.fault(),
            Self::CacheDocument(error) => error.fault(),
            Self::BucketKeys(error) => error.fault(),
            Self::Archive(error) => error.fault(),
            Self::BuildArchive(error) => error.fault(),
            Self::Tree(error) => error.fault(),
            Self::Copy(error) => error.fault(),
            Self::Select(error) => error.fault(),
            Self::Write(error) => error.fault(),
            Self::Diff(error) => error.fault(),
            Self::Mode(error) => error.fault(),
            Self::Unpack(error) => error.fault(),
            Self::Download(error) => error.fault(),
            Self::Git(error) => error.fault(),
            Self::Isolation(error) => error.fault(),
            Self::Run(error) => error.fault(),
            Self::Shim(error) => error.fault(),
            Self::ContainerFile { .. } => Fault::Environment,
            Self::File(error) => error.fault(),
            Self::Program(error) => error.fault(),
            Self::FetchTimedOut { .. }
            | Self::Threads { .. }
            | Self::Chunk(_)
            | Self::NoEmulator { .. }
            | Self::EmulatorOutside { .. } => Fault::Environment,
            Self::Output { source, .. } => base::fault::of_io(source),
            Self::Cancelled => Fault::Cancelled,
            _ => Fault::Input,
        }
    }
}
