//! The names of compressions and their levels, as outputs and caches have them.

use super::Compression;

/// Why no compression is meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}; {hint}")]
pub struct WrongCompression {
    /// What is wrong.
    pub why: String,
    /// What to write instead.
    pub hint: &'static str,
}

/// The compression called `method`, at a level as it was typed.
///
/// # Errors
/// There is no such compression, or it does not have the level.
pub fn compression(method: &str, level: Option<&str>) -> Result<Compression, WrongCompression> {
    match method {
        // A level of nothing is nothing, as in BuildKit.
        "uncompressed" => number(level, 22, 0).map(|_| Compression::None),
        "gzip" => number(level, 9, 6).map(Compression::Gzip),
        "zstd" => number(level, 22, 3).map(|level| Compression::Zstd(level.cast_signed())),
        other => {
            let why = match other {
                "estargz" => "layers in estargz are read, but not written".to_owned(),
                other => format!("unknown compression \"{other}\""),
            };
            Err(WrongCompression { why, hint: "the compressions are uncompressed, gzip and zstd" })
        }
    }
}

fn number(level: Option<&str>, highest: u32, default: u32) -> Result<u32, WrongCompression> {
    let Some(text) = level else { return Ok(default) };
    text.parse().ok().filter(|level| *level <= highest).ok_or_else(|| {
        let why = format!("compression-level is a number from 0 to {highest}, not \"{text}\"");
        WrongCompression { why, hint: "levels go from 0 to 9 for gzip, and from 0 to 22 for zstd" }
    })
}
