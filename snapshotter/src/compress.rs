//! Compression of layers: telling formats apart, decompressing, and compressing so that the same input
//! gives the same bytes on every machine, however many threads work on it.
//!
//! The bytes depend on the version of the compression library, as with every tool. Nothing here knows tar
//! or files.

mod gzip;

use std::io::{self, BufRead, BufReader, Cursor, Read, Write};

use base::image::media_type;
use base::{Digest, Fault, Faulty};

use crate::digest_thread::DigestThread;

/// How much compressed data is read at a time.
const READ_BUFFER: usize = 256 << 10;

/// The most memory that decompressing xz may take, in bytes. `xz -9` needs 65 MiB.
const XZ_MEMORY: u64 = 512 << 20;

/// `LZMA_CONCATENATED`: several xz streams in a row are one file (liblzma, `lzma/container.h`).
const XZ_CONCATENATED: u32 = 0x08;

/// How much input one zstd job takes. Fixed, because frames are cut at job borders. Larger jobs are hardly faster, and
/// there are several in memory for each thread.
const ZSTD_JOB: u32 = 4 << 20;

/// How a layer is compressed when it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip with a level from 0 (stored) to 9 (smallest).
    Gzip(u32),
    /// zstd with a level from 1 (fastest) to 22 (smallest); 0 is its default, 3.
    Zstd(i32),
}

impl Compression {
    /// gzip as most builders write it.
    pub const GZIP: Self = Self::Gzip(6);
    /// zstd at its own default.
    pub const ZSTD: Self = Self::Zstd(3);

    /// The media type of a layer that is compressed so.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::None => media_type::OCI_LAYER,
            Self::Gzip(_) => media_type::OCI_LAYER_GZIP,
            Self::Zstd(_) => media_type::OCI_LAYER_ZSTD,
        }
    }

    /// Whether `media_type` is one of this method's, at any level.
    pub fn is_named_by(self, media_type: &str) -> bool {
        let docker = match self {
            Self::None => media_type::DOCKER_LAYER,
            Self::Gzip(_) => media_type::DOCKER_LAYER_GZIP,
            Self::Zstd(_) => media_type::DOCKER_LAYER_ZSTD,
        };
        [self.media_type(), docker].contains(&media_type)
    }
}

/// What the first bytes of a stream say about its compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// None of the others.
    Plain,
    /// RFC 1952.
    Gzip,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
    /// RFC 8878, frames and skippable frames.
    Zstd,
}

impl Format {
    /// How many bytes [`detect`](Self::detect) looks at.
    pub const MAGIC: u64 = 6;

    /// Tells the format by its signature. Fewer than six bytes may be too few.
    pub fn detect(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, 8, ..] => Self::Gzip,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

/// Why compressing or decompressing did not begin or end well. Failures in between are the [`io::Error`]s
/// of the stream.
#[derive(Debug, thiserror::Error)]
pub enum CompressError {
    /// The first bytes could not be read.
    #[error("cannot read the beginning of the compressed stream")]
    Start(#[source] io::Error),
    /// The decompressor could not be set up.
    #[error("cannot set up decompression")]
    Decoder(#[source] io::Error),
    /// The compressor could not be set up: the level does not exist.
    #[error("cannot set up compression {compression:?}")]
    Encoder {
        /// What was asked for.
        compression: Compression,
        /// What the library said.
        #[source]
        source: io::Error,
    },
    /// The output refused the last bytes.
    #[error("cannot write the end of the compressed stream")]
    Finish(#[source] io::Error),
}

impl Faulty for CompressError {
    fn fault(&self) -> Fault {
        match self {
            Self::Encoder { .. } => Fault::Input,
            Self::Start(source) | Self::Decoder(source) | Self::Finish(source) => base::fault::of_io(source),
        }
    }
}

/// The decompressed bytes of `input`, whatever its format; a stream in no known format passes unchanged.
///
/// Several gzip members, xz streams or zstd frames in a row are one stream. Bad data and a truncated
/// stream show as [`io::Error`]s while reading.
pub fn decompressor<'a, R: Read + Send + 'a>(
    mut input: R,
) -> Result<Box<dyn Read + Send + 'a>, CompressError> {
    let mut start = Vec::new();
    input.by_ref().take(Format::MAGIC).read_to_end(&mut start).map_err(CompressError::Start)?;
    let format = Format::detect(&start);
    let input = BufReader::with_capacity(READ_BUFFER, Cursor::new(start).chain(input));
    Ok(match format {
        Format::Plain => Box::new(input),
        Format::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Format::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
        Format::Xz => Box::new(xz_decoder(input)?),
        Format::Zstd => {
            Box::new(zstd::stream::read::Decoder::with_buffer(input).map_err(CompressError::Decoder)?)
        }
    })
}

fn xz_decoder<R: BufRead>(input: R) -> Result<liblzma::bufread::XzDecoder<R>, CompressError> {
    let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, XZ_CONCATENATED)
        .map_err(|error| CompressError::Decoder(error.into()))?;
    Ok(liblzma::bufread::XzDecoder::new_stream(input, stream))
}

/// What came out of a [`LayerEncoder`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoded {
    /// The digest of what was written into the encoder: for a layer, its diffID.
    pub diff_id: Digest,
    /// The digest of what the encoder wrote: for a layer, its blob's digest.
    pub digest: Digest,
    /// How many bytes the encoder wrote.
    pub size: u64,
    /// How many bytes were written into the encoder.
    pub uncompressed_size: u64,
}

/// Compresses what is written to it, and digests both sides on the way. What was written is complete only
/// after [`LayerEncoder::finish`].
pub struct LayerEncoder<W: Write> {
    encoder: Encoder<W>,
    /// Digests the input; `None` when the output is the same bytes and is digested anyway.
    diff_id: Option<DigestThread>,
    uncompressed_size: u64,
}

enum Encoder<W: Write> {
    Plain(DigestWriter<W>),
    Gzip(gzip::GzipWriter<DigestWriter<W>>),
    Zstd(zstd::stream::write::Encoder<'static, DigestWriter<W>>),
}

impl<W: Write> LayerEncoder<W> {
    /// An encoder that writes to `out`. gzip runs on the rayon pool of the calling thread, zstd on as many
    /// threads of its own as that pool has; digests have threads of their own.
    pub fn new(out: W, compression: Compression) -> Result<Self, CompressError> {
        let out = DigestWriter { out, digest: DigestThread::default(), size: 0 };
        let encoder = match compression {
            Compression::None => Encoder::Plain(out),
            Compression::Gzip(level @ 0..=9) => Encoder::Gzip(gzip::GzipWriter::new(out, level)),
            Compression::Gzip(_) => {
                let source = io::Error::new(io::ErrorKind::InvalidInput, "gzip levels go from 0 to 9");
                return Err(CompressError::Encoder { compression, source });
            }
            Compression::Zstd(level) => {
                let encoder = zstd_encoder(out, level);
                Encoder::Zstd(encoder.map_err(|source| CompressError::Encoder { compression, source })?)
            }
        };
        let diff_id = (compression != Compression::None).then(DigestThread::default);
        Ok(Self { encoder, diff_id, uncompressed_size: 0 })
    }

    /// Writes what is left, and says what all of it was. The output is neither flushed nor synced.
    pub fn finish(self) -> Result<Encoded, CompressError> {
        let out = match self.encoder {
            Encoder::Plain(out) => Ok(out),
            Encoder::Gzip(encoder) => encoder.finish(),
            Encoder::Zstd(encoder) => encoder.finish(),
        };
        let out = out.map_err(CompressError::Finish)?;
        let digest = out.digest.finish();
        Ok(Encoded {
            diff_id: self.diff_id.map_or(digest, DigestThread::finish),
            digest,
            size: out.size,
            uncompressed_size: self.uncompressed_size,
        })
    }
}

/// A zstd encoder whose frames do not depend on the number of threads: there is always at least one
/// worker, so that the input is always cut into jobs, and the size of a job is fixed.
fn zstd_encoder<W: Write>(
    out: DigestWriter<W>,
    level: i32,
) -> io::Result<zstd::stream::write::Encoder<'static, DigestWriter<W>>> {
    if !zstd::compression_level_range().contains(&level) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "zstd has no such level"));
    }
    let mut encoder = zstd::stream::write::Encoder::new(out, level)?;
    // Both sides have a digest; another checksum would only take time.
    encoder.include_checksum(false)?;
    let workers = rayon::current_num_threads().clamp(1, 16);
    encoder.set_parameter(zstd::zstd_safe::CParameter::NbWorkers(workers as u32))?;
    encoder.set_parameter(zstd::zstd_safe::CParameter::JobSize(ZSTD_JOB))?;
    Ok(encoder)
}

impl<W: Write> Write for LayerEncoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = match &mut self.encoder {
            Encoder::Plain(out) => out.write(bytes),
            Encoder::Gzip(encoder) => encoder.write(bytes),
            Encoder::Zstd(encoder) => encoder.write(bytes),
        }?;
        if let Some(diff_id) = &mut self.diff_id {
            diff_id.update(&bytes[..count]);
        }
        self.uncompressed_size += count as u64;
        Ok(count)
    }

    /// Does nothing: a flush in the middle would change the compressed bytes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Digests and counts what is written through it.
struct DigestWriter<W> {
    out: W,
    digest: DigestThread,
    size: u64,
}

impl<W: Write> Write for DigestWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.digest.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
