//! `--output`: what was typed to the engine's outputs.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use engine::request::{Compression, Destination, LayerOptions, Output};

use crate::error::CliError;

/// Reads one `--output`: `type=T,dest=D` and more as CSV, a directory, or `-`.
pub(crate) fn parse(text: &str) -> Result<Output, CliError> {
    if text == "-" {
        return Ok(Output::Tar(stdout()));
    }
    if !text.contains('=') {
        return Ok(Output::Local(PathBuf::from(text)));
    }
    let fields = Fields::parse(text)?;
    let kind = fields.kind.ok_or_else(|| {
        CliError::usage(format!("output \"{text}\" has no type"), "add type=oci|docker|image|tar|local")
    })?;
    fields.refuse_what_does_not_fit(kind)?;
    let layers = fields.layers()?;
    let path = || fields.path(kind);
    match kind {
        "image" => Ok(Output::Store(layers)),
        "docker" if fields.destination.is_none() => Ok(Output::Store(layers)),
        "docker" => Ok(Output::Docker(fields.archive(), layers)),
        "oci" if fields.as_tar => Ok(Output::Oci(fields.archive(), layers)),
        "oci" => Ok(Output::OciLayout(path()?, layers)),
        "tar" => Ok(Output::Tar(fields.archive())),
        "local" => Ok(Output::Local(path()?)),
        other => {
            let message = format!("unknown output type \"{other}\"");
            Err(CliError::usage(message, "the types are image, oci, docker, tar and local"))
        }
    }
}

/// The fields as typed.
struct Fields<'a> {
    /// All of them.
    text: &'a str,
    kind: Option<&'a str>,
    destination: Option<&'a str>,
    as_tar: bool,
    compression: Option<&'a str>,
    level: Option<&'a str>,
    force: bool,
    rewrite_times: bool,
}

impl<'a> Fields<'a> {
    fn parse(text: &'a str) -> Result<Self, CliError> {
        let mut fields = Self {
            text,
            kind: None,
            destination: None,
            as_tar: true,
            compression: None,
            level: None,
            force: false,
            rewrite_times: true,
        };
        for field in text.split(',') {
            let (name, value) = field.split_once('=').unwrap_or((field, ""));
            let truth = || {
                let why = format!("\"{name}\" is true or false, not \"{value}\"");
                base::boolean::parse(value).ok_or_else(|| fields_error(text, &why, EXAMPLE))
            };
            match name {
                "type" => fields.kind = Some(value),
                "dest" => fields.destination = Some(value),
                "tar" => fields.as_tar = truth()?,
                "compression" => fields.compression = Some(value),
                "compression-level" => fields.level = Some(value),
                "force-compression" => fields.force = truth()?,
                "rewrite-timestamp" => fields.rewrite_times = truth()?,
                _ => return Err(fields_error(text, &format!("\"{field}\" is not supported"), EXAMPLE)),
            }
        }
        Ok(fields)
    }

    /// Only images have layers, and only OCI layouts are written as files or as a tar.
    fn refuse_what_does_not_fit(&self, kind: &str) -> Result<(), CliError> {
        if !self.as_tar && kind != "oci" {
            let message = format!("--output type={kind} cannot be written as tar=false");
            return Err(CliError::usage(message, "only type=oci can"));
        }
        if matches!(kind, "tar" | "local")
            && (self.compression.is_some() || self.level.is_some() || self.force)
        {
            let why = format!("type={kind} is not compressed");
            return Err(fields_error(self.text, &why, "only type=oci, docker and image have layers"));
        }
        if kind == "image" && self.destination.is_some() {
            return Err(fields_error(self.text, "type=image goes to the store", "leave dest out"));
        }
        Ok(())
    }

    fn layers(&self) -> Result<LayerOptions, CliError> {
        let wanted = self.compression.is_some() || self.level.is_some() || self.force;
        let compression = match self.compression {
            None if !wanted => None,
            method => Some(self.compression(method.unwrap_or("gzip"))?),
        };
        Ok(LayerOptions { compression, force: self.force, keep_times: !self.rewrite_times })
    }

    /// The compression called `method`, at the level that was typed.
    fn compression(&self, method: &str) -> Result<Compression, CliError> {
        match method {
            // A level of nothing is nothing, as in BuildKit.
            "uncompressed" => self.level(22, 0).map(|_| Compression::None),
            "gzip" => self.level(9, 6).map(Compression::Gzip),
            "zstd" => self.level(22, 3).map(|level| Compression::Zstd(level.cast_signed())),
            other => {
                let why = match other {
                    "estargz" => "layers in estargz are read, but not written".to_owned(),
                    other => format!("unknown compression \"{other}\""),
                };
                Err(fields_error(self.text, &why, "the compressions are uncompressed, gzip and zstd"))
            }
        }
    }

    fn level(&self, highest: u32, default: u32) -> Result<u32, CliError> {
        let Some(text) = self.level else { return Ok(default) };
        text.parse().ok().filter(|level| *level <= highest).ok_or_else(|| {
            let why = format!("compression-level is a number from 0 to {highest}, not \"{text}\"");
            fields_error(self.text, &why, "levels go from 0 to 9 for gzip, and from 0 to 22 for zstd")
        })
    }

    fn archive(&self) -> Destination {
        match self.destination {
            Some("-") | None => stdout(),
            Some(path) => Destination::File(PathBuf::from(path)),
        }
    }

    fn path(&self, kind: &str) -> Result<PathBuf, CliError> {
        let missing =
            || CliError::usage(format!("--output type={kind} as files needs a dest"), "add dest=DIR");
        self.destination.map(PathBuf::from).ok_or_else(missing)
    }
}

/// What an output looks like.
const EXAMPLE: &str = "write type=oci|docker|tar|local,dest=PATH[,compression=METHOD]";

fn fields_error(text: &str, why: &str, hint: &str) -> CliError {
    CliError::usage(format!("invalid output \"{text}\": {why}"), hint)
}

fn stdout() -> Destination {
    Destination::Stream(Arc::new(Mutex::new(std::io::stdout())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_output() {
        assert!(matches!(parse("out"), Ok(Output::Local(path)) if path.as_os_str() == "out"));
        assert!(matches!(parse("-"), Ok(Output::Tar(Destination::Stream(_)))));
        assert!(matches!(parse("type=oci,dest=a.tar"), Ok(Output::Oci(Destination::File(_), _))));
        assert!(matches!(parse("type=oci,tar=0,dest=a"), Ok(Output::OciLayout(..))));
        assert!(matches!(parse("type=docker"), Ok(Output::Store(_))));
        assert!(matches!(parse("type=docker,dest=-"), Ok(Output::Docker(Destination::Stream(_), _))));
        for bad in [
            "type=local",
            "type=zip,dest=x",
            "type=oci,tar=false",
            "type=oci,tar=maybe,dest=x",
            "type=tar,tar=false,dest=x",
            "type=image,dest=x",
            "dest=x",
            "type=oci,colour=red,dest=x",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    fn layers(fields: &str) -> Option<LayerOptions> {
        match parse(&format!("type=image,{fields}")) {
            Ok(Output::Store(layers)) => Some(layers),
            _ => None,
        }
    }

    #[test]
    fn layers_are_compressed_as_asked() {
        let compression = |fields: &str| layers(fields).and_then(|layers| layers.compression);
        assert_eq!(compression("rewrite-timestamp=false"), None);
        assert_eq!(compression("compression=uncompressed"), Some(Compression::None));
        assert_eq!(compression("compression=gzip"), Some(Compression::Gzip(6)));
        assert_eq!(compression("compression-level=0"), Some(Compression::Gzip(0)));
        assert_eq!(compression("force-compression=1"), Some(Compression::Gzip(6)));
        assert_eq!(compression("compression=zstd,compression-level=22"), Some(Compression::Zstd(22)));
        assert!(layers("force-compression=true").is_some_and(|layers| layers.force && !layers.keep_times));
        assert!(layers("rewrite-timestamp=false").is_some_and(|layers| layers.keep_times));
    }

    #[test]
    fn what_is_wrong_with_a_compression_is_named() {
        for (fields, named) in [
            ("compression=lzma", "\"lzma\""),
            ("compression=estargz", "estargz are read, but not written"),
            ("compression=gzip,compression-level=10", "0 to 9, not \"10\""),
            ("compression=zstd,compression-level=23", "0 to 22, not \"23\""),
            ("compression=zstd,compression-level=-1", "\"-1\""),
            ("compression-level=best", "\"best\""),
            ("force-compression=perhaps", "\"perhaps\""),
        ] {
            let error = parse(&format!("type=image,{fields}")).err();
            let error = error.map(|error| format!("{error:?}").replace('\\', ""));
            assert!(error.as_ref().is_some_and(|error| error.contains(named)), "{fields}: {error:?}");
        }
        assert!(parse("type=tar,dest=x,compression=gzip").is_err());
    }
}
