//! The names of compressions and their levels, as outputs and caches have them.

use engine::request::Compression;

/// Why no compression is meant.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) why: String,
    /// What to write instead.
    pub(crate) hint: &'static str,
}

/// The compression called `method`, at a level as it was typed.
pub(crate) fn parse(method: &str, level: Option<&str>) -> Result<Compression, Wrong> {
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
            Err(Wrong { why, hint: "the compressions are uncompressed, gzip and zstd" })
        }
    }
}

fn number(level: Option<&str>, highest: u32, default: u32) -> Result<u32, Wrong> {
    let Some(text) = level else { return Ok(default) };
    text.parse().ok().filter(|level| *level <= highest).ok_or_else(|| {
        let why = format!("compression-level is a number from 0 to {highest}, not \"{text}\"");
        Wrong { why, hint: "levels go from 0 to 9 for gzip, and from 0 to 22 for zstd" }
    })
}
