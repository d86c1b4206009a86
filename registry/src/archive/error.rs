//! Why an archive cannot be read or written.

use std::fmt;
use std::io;

use base::Digest;
use base::fault::{self, Fault, Faulty};

use crate::documents::DocumentError;

/// An archive that cannot be read or written.
#[derive(Debug)]
pub struct ArchiveError {
    /// What the user calls the archive, usually its path.
    pub archive: String,
    /// What went wrong.
    pub kind: Box<ArchiveErrorKind>,
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "archive {}: {}", self.archive, self.kind)
    }
}

impl std::error::Error for ArchiveError {
    /// The cause below the kind, whose text is already part of this error's.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&*self.kind)
    }
}

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveErrorKind {
    /// An operation on the file failed.
    #[error("cannot {operation} it")]
    Io {
        /// A verb.
        operation: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Neither `index.json` nor `manifest.json` is there.
    #[error(
        "it is neither an OCI image layout (no oci-layout and index.json) nor made by `docker save` (no manifest.json)"
    )]
    Unrecognised,
    /// The compressed stream is damaged or cut short.
    #[error("cannot unpack it, it is damaged or cut short")]
    Unpack {
        /// Why.
        source: io::Error,
    },
    /// The tar is damaged.
    #[error("it is not a tar, or a damaged one")]
    Tar {
        /// Why.
        source: io::Error,
    },
    /// The file ends within an entry.
    #[error("it is cut short: \"{entry}\" should end at byte {end}, but the file has {length}")]
    Truncated {
        /// The entry.
        entry: String,
        /// Where it should end.
        end: u64,
        /// The length of the file.
        length: u64,
    },
    /// The file ends between two entries.
    #[error("it is cut short: the block of zeros that ends a tar is missing")]
    NoEnd,
    /// Something follows the end.
    #[error("it goes on after its end: the data from byte {offset} on is not part of the archive")]
    Trailing {
        /// Where the data begins, in the archive as it is unpacked.
        offset: u64,
    },
    /// It is an archive, but has nothing to load.
    #[error("it has no image")]
    NoImage,
    /// A layer is of a kind that is not understood.
    #[error("layer {digest} is of the unknown type \"{media_type}\"")]
    LayerType {
        /// The layer.
        digest: Digest,
        /// Its media type.
        media_type: String,
    },
    /// An entry's name leads out of the archive.
    #[error("the entry \"{entry}\" has a name or a link that leads out of the archive")]
    UnsafeName {
        /// The name.
        entry: String,
    },
    /// An entry is of a kind that does not belong into an image archive.
    #[error("the entry \"{entry}\" is a sparse file, which image archives do not have")]
    Sparse {
        /// The name.
        entry: String,
    },
    /// The archive has too many entries.
    #[error("it has more than {limit} entries")]
    TooManyEntries {
        /// The limit.
        limit: usize,
    },
    /// The layout is of a version that is not understood.
    #[error("the OCI layout has version \"{version}\"; only 1.0.0 is understood")]
    LayoutVersion {
        /// The version.
        version: String,
    },
    /// A file of the layout is not the JSON it should be.
    #[error("{file} is not valid")]
    Json {
        /// The file in the archive.
        file: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A file that another one refers to is not there.
    #[error("\"{file}\" is missing")]
    MissingFile {
        /// The file.
        file: String,
    },
    /// A blob that a document refers to is not there.
    #[error("blob {digest} is missing")]
    MissingBlob {
        /// The blob.
        digest: Digest,
    },
    /// Something is not a plain file.
    #[error("\"{file}\" is not a plain file")]
    NotAFile {
        /// The file.
        file: String,
    },
    /// Links in the archive lead to each other.
    #[error("the link \"{entry}\" leads through too many links")]
    LinkLoop {
        /// The entry.
        entry: String,
    },
    /// A document is too big.
    #[error("{item} is larger than the limit of {limit} bytes")]
    TooLarge {
        /// The document.
        item: String,
        /// The limit.
        limit: u64,
    },
    /// A blob's bytes are not those of its digest.
    #[error("the bytes of blob {expected} have digest {actual}: the archive is damaged or forged")]
    DigestMismatch {
        /// The blob's name.
        expected: Digest,
        /// What its bytes hash to.
        actual: Digest,
    },
    /// A blob has another length than its descriptor says.
    #[error("blob {digest} has {actual} bytes where its descriptor says {expected}")]
    SizeMismatch {
        /// The blob.
        digest: Digest,
        /// The length in the descriptor.
        expected: u64,
        /// Its length.
        actual: u64,
    },
    /// A document in it cannot be used.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A name in it is not an image name.
    #[error("it has an unusable image name")]
    Name {
        /// Why.
        source: base::reference::ReferenceError,
    },
    /// The config and the list of layers of a `docker save` archive do not agree.
    #[error("manifest.json lists {layers} layers for config \"{config}\", which has {diff_ids}")]
    LayerCount {
        /// The config's file.
        config: String,
        /// Layers in the list.
        layers: usize,
        /// Layers in the config.
        diff_ids: usize,
    },
    /// A blob to be written cannot be had.
    #[error("cannot read blob {digest} to write it")]
    Source {
        /// The blob.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
}

impl ArchiveErrorKind {
    pub(crate) fn io(operation: &'static str, source: io::Error) -> Self {
        Self::Io { operation, source }
    }

    /// The error of this kind about `archive`.
    pub(crate) fn of(self, archive: &str) -> ArchiveError {
        ArchiveError { archive: archive.to_owned(), kind: Box::new(self) }
    }
}

impl Faulty for ArchiveError {
    fn fault(&self) -> Fault {
        match &*self.kind {
            ArchiveErrorKind::Io { source, .. } | ArchiveErrorKind::Source { source, .. } => {
                fault::of_io(source)
            }
            ArchiveErrorKind::Unpack { source } | ArchiveErrorKind::Tar { source } => fault::of_io(source),
            _ => Fault::Input,
        }
    }
}
