//! `--output`: what was typed to the engine's outputs.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use base::Reference;
use base::reference::has_tag;
use engine::request::{
    Annotations, Destination, FileOptions, LayerOptions, Output, PushOutput, WrongAnnotation,
};

use crate::commands::reference;
use crate::error::CliError;

/// One `--output`.
#[derive(Debug)]
pub(crate) struct ParsedOutput {
    /// The stage that it is for, if it says so.
    pub(crate) stage: Option<String>,
    /// Names of the image besides those of `--tag`.
    pub(crate) names: Vec<Reference>,
    /// Where the result goes.
    pub(crate) output: Output,
}

/// Reads one `--output`: `type=T,dest=D` and more as CSV, a directory, or `-`.
pub(crate) fn parse(text: &str) -> Result<ParsedOutput, CliError> {
    let whole = |output| Ok(ParsedOutput { stage: None, names: Vec::new(), output });
    if text == "-" {
        return whole(Output::Tar(stdout(), FileOptions::default()));
    }
    if !text.contains('=') {
        return whole(Output::Local(PathBuf::from(text), FileOptions::default()));
    }
    let (mut stage, mut rest) = (None, Vec::new());
    for field in csv(text) {
        match field.strip_prefix("target=") {
            Some(target) => stage = Some(target.to_owned()),
            None => rest.push(field),
        }
    }
    if let [only] = rest.as_slice()
        && !only.contains('=')
    {
        return Ok(ParsedOutput { stage, ..parse(only)? });
    }
    let fields = Fields::parse(text, &rest)?;
    let output = fields.output()?;
    let names = if fields.by_digest { Vec::new() } else { fields.names()? };
    Ok(ParsedOutput { stage, names, output })
}

/// `--push` makes images of the store go to a registry, and is an output of its own when there is no other.
pub(crate) fn push(outputs: &mut Vec<Output>) -> Result<(), CliError> {
    for output in outputs.iter_mut() {
        *output = match std::mem::replace(output, Output::Store(LayerOptions::default())) {
            Output::Store(layers) => {
                Output::Registry(PushOutput { insecure: false, layers, by_digest: Vec::new() })
            }
            pushed @ Output::Registry(_) => pushed,
            _ => {
                let message = "--push is about images, not about archives and files".to_owned();
                return Err(CliError::usage(message, "add a further output: -o type=registry"));
            }
        };
    }
    if outputs.is_empty() {
        outputs.push(Output::Registry(PushOutput::default()));
    }
    Ok(())
}

/// The fields of a line of CSV (RFC 4180): a field with commas is in quotes, and a quote in it doubled.
pub(crate) fn csv(text: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = text.chars().peekable();
    let mut quoted = false;
    while let Some(character) = characters.next() {
        let field = fields.last_mut();
        match (character, field) {
            ('"', Some(field)) if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            ('"', Some(field)) if quoted || field.is_empty() => quoted = !quoted,
            (',', _) if !quoted => fields.push(String::new()),
            (character, field) => field.into_iter().for_each(|field| field.push(character)),
        }
    }
    fields
}

/// The fields as typed.
struct Fields<'a> {
    /// All of them.
    text: &'a str,
    kind: Option<&'a str>,
    destination: Option<&'a str>,
    names: Vec<&'a str>,
    push: bool,
    by_digest: bool,
    insecure: bool,
    as_tar: bool,
    compression: Option<&'a str>,
    level: Option<&'a str>,
    force: bool,
    rewrite_times: bool,
    oci_types: bool,
    artifacts: bool,
    annotations: Annotations,
    files: FileOptions,
}

impl<'a> Fields<'a> {
    fn parse(text: &'a str, all: &'a [String]) -> Result<Self, CliError> {
        let mut fields = Self {
            text,
            kind: None,
            destination: None,
            names: Vec::new(),
            push: false,
            by_digest: false,
            insecure: false,
            as_tar: true,
            compression: None,
            level: None,
            force: false,
            rewrite_times: true,
            oci_types: true,
            artifacts: false,
            annotations: Annotations::default(),
            files: FileOptions::default(),
        };
        for field in all {
            let (name, value) = field.split_once('=').unwrap_or((field.as_str(), ""));
            let truth = || {
                // A name alone is the wish for it, as in BuildKit.
                if field == name {
                    return Ok(true);
                }
                let why = format!("\"{name}\" is true or false, not \"{value}\"");
                base::boolean::parse(value).ok_or_else(|| fields_error(text, &why, EXAMPLE))
            };
            match name {
                "type" => fields.kind = Some(value),
                "dest" => fields.destination = Some(value),
                "name" => fields.names = value.split(',').filter(|name| !name.is_empty()).collect(),
                "push" => fields.push = truth()?,
                "push-by-digest" => fields.by_digest = truth()?,
                "registry.insecure" => fields.insecure = truth()?,
                "oci-mediatypes" => fields.oci_types = truth()?,
                "oci-artifact" => fields.artifacts = truth()?,
                // Images always are in the store, ready to run, and known by their digest.
                "store" | "unpack" | "name-canonical" => drop(truth()?),
                "tar" => fields.as_tar = truth()?,
                "compression" => fields.compression = Some(value),
                "compression-level" => fields.level = Some(value),
                "force-compression" => fields.force = truth()?,
                "rewrite-timestamp" => fields.rewrite_times = truth()?,
                "attestation-prefix" => value.clone_into(&mut fields.files.prefix),
                "platform-split" => fields.files.split = Some(truth()?),
                "mode" => fields.files.is_exact = fields.is_exact(value)?,
                _ if fields.annotations.attribute(name, value).map_err(|wrong| noted_wrong(&wrong))? => {}
                _ => return Err(fields_error(text, &format!("\"{field}\" is not supported"), EXAMPLE)),
            }
        }
        Ok(fields)
    }

    /// Where the result goes.
    fn output(&self) -> Result<Output, CliError> {
        let kind = self.kind.ok_or_else(|| {
            let message = format!("output \"{}\" has no type", self.text);
            CliError::usage(message, "add type=oci|docker|image|registry|tar|local|cacheonly")
        })?;
        self.refuse_what_does_not_fit(kind)?;
        let layers = self.layers()?;
        let path = || self.path(kind);
        match kind {
            "registry" => self.registry(layers),
            "image" if self.push => self.registry(layers),
            "image" => Ok(Output::Store(layers)),
            "docker" | "oci" if !self.as_tar => Ok(Output::OciLayout(path()?, layers)),
            "docker" if self.destination.is_none() => Ok(Output::Store(layers)),
            "docker" => Ok(Output::Docker(self.archive(), layers)),
            "oci" => Ok(Output::Oci(self.archive(), layers)),
            "cacheonly" => Ok(Output::CacheOnly),
            "tar" => Ok(Output::Tar(self.archive(), self.files.clone())),
            "local" => Ok(Output::Local(path()?, self.files.clone())),
            other => {
                let message = format!("unknown output type \"{other}\"");
                Err(CliError::usage(
                    message,
                    "the types are image, registry, oci, docker, tar, local and cacheonly",
                ))
            }
        }
    }

    /// `mode`: whether what is in a directory besides the result goes.
    fn is_exact(&self, mode: &str) -> Result<bool, CliError> {
        match mode {
            "copy" => Ok(false),
            "delete" => Ok(true),
            other => Err(fields_error(
                self.text,
                &format!("\"{other}\" is no mode"),
                "the modes are copy and delete",
            )),
        }
    }

    fn registry(&self, layers: LayerOptions) -> Result<Output, CliError> {
        if !self.by_digest {
            return Ok(Output::Registry(PushOutput {
                insecure: self.insecure,
                layers,
                by_digest: Vec::new(),
            }));
        }
        let by_digest = self.names()?;
        if self.names.is_empty() || self.names.iter().any(|name| has_tag(name)) {
            let why = "what is pushed by its digest has a name without tag";
            return Err(fields_error(self.text, why, "write name=REGISTRY/REPOSITORY"));
        }
        Ok(Output::Registry(PushOutput { insecure: self.insecure, layers, by_digest }))
    }

    fn names(&self) -> Result<Vec<Reference>, CliError> {
        self.names.iter().map(|name| reference(name)).collect()
    }

    /// Only images have layers, and only OCI layouts are written as files or as a tar.
    fn refuse_what_does_not_fit(&self, kind: &str) -> Result<(), CliError> {
        if !self.as_tar && !matches!(kind, "oci" | "docker") {
            let message = format!("--output type={kind} cannot be written as tar=false");
            return Err(CliError::usage(message, "only type=oci and type=docker can"));
        }
        if matches!(kind, "tar" | "local")
            && (self.compression.is_some() || self.level.is_some() || self.force)
        {
            let why = format!("type={kind} is not compressed");
            return Err(fields_error(self.text, &why, "only type=oci, docker and image have layers"));
        }
        let is_files = matches!(kind, "tar" | "local");
        if is_files && !self.annotations.is_empty() {
            let why = format!("type={kind} is no image, and has no annotations");
            return Err(fields_error(self.text, &why, "only images have annotations"));
        }
        if kind == "tar" && self.files.is_exact {
            let why = "type=tar has nothing besides that could be removed";
            return Err(fields_error(self.text, why, "mode=delete is for type=local"));
        }
        if !is_files && self.files != FileOptions::default() {
            let why = format!("type={kind} has no files to name or to split");
            return Err(fields_error(
                self.text,
                &why,
                "attestation-prefix, platform-split and mode are for type=tar and local",
            ));
        }
        if matches!(kind, "image" | "registry") && self.destination.is_some() {
            let why = format!("type={kind} is no file");
            return Err(fields_error(self.text, &why, "leave dest out"));
        }
        if self.insecure && !matches!(kind, "image" | "registry") {
            let why = format!("type={kind} is in no registry");
            return Err(fields_error(self.text, &why, "leave registry.insecure out"));
        }
        if self.push && kind != "image" && kind != "registry" {
            let why = format!("type={kind} is not pushed");
            return Err(fields_error(self.text, &why, "use type=image,push=true"));
        }
        Ok(())
    }

    fn layers(&self) -> Result<LayerOptions, CliError> {
        let wanted = self.compression.is_some() || self.level.is_some() || self.force;
        let compression = match self.compression {
            None if !wanted => None,
            method => {
                let compression = engine::request::compression(method.unwrap_or("gzip"), self.level);
                Some(compression.map_err(|wrong| fields_error(self.text, &wrong.why, wrong.hint))?)
            }
        };
        let (force, keep_times, docker_types) = (self.force, !self.rewrite_times, !self.oci_types);
        let annotations = self.annotations.clone();
        let artifacts = self.artifacts;
        if artifacts && docker_types {
            let why = "oci-artifact=true needs oci-mediatypes=true";
            return Err(fields_error(self.text, why, "Docker's documents have no subjects"));
        }
        Ok(LayerOptions { compression, force, keep_times, docker_types, artifacts, annotations })
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
const EXAMPLE: &str =
    "write type=oci|docker|tar|local,dest=PATH[,compression=METHOD], or type=image,name=NAME,push=true";

/// A note that makes no sense.
pub(crate) fn noted_wrong(wrong: &WrongAnnotation) -> CliError {
    let hint = "write --annotation NAME=VALUE, --annotation index,manifest[linux/amd64]:NAME=VALUE, or annotation-index.NAME=VALUE in an output";
    CliError::usage(wrong.to_string(), hint)
}

fn fields_error(text: &str, why: &str, hint: &str) -> CliError {
    CliError::usage(format!("invalid output \"{text}\": {why}"), hint)
}

fn stdout() -> Destination {
    Destination::Stream(Arc::new(Mutex::new(std::io::stdout())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::request::Compression;

    fn parse(text: &str) -> Result<Output, CliError> {
        super::parse(text).map(|parsed| parsed.output)
    }

    #[test]
    fn an_output_may_say_for_which_target_it_is() {
        let stage = |text| super::parse(text).unwrap().stage;
        assert_eq!(stage("out"), None);
        assert_eq!(stage("target=a,out").as_deref(), Some("a"));
        assert_eq!(stage("type=tar,target=a,dest=x").as_deref(), Some("a"));
    }

    #[test]
    fn images_are_pushed_under_their_names_or_by_digest() {
        let parsed = super::parse("type=image,\"name=r.example/a,r.example/b:2\",push=true").unwrap();
        let names: Vec<String> = parsed.names.iter().map(Reference::familiar).collect();
        assert_eq!(names, ["r.example/a:latest", "r.example/b:2"]);
        assert!(matches!(parsed.output, Output::Registry(push) if push.by_digest.is_empty()));
        assert!(matches!(parse("type=registry,push=false"), Ok(Output::Registry(_))));
        assert!(matches!(parse("type=image,name=x,push=false"), Ok(Output::Store(_))));
        let by_digest = super::parse("type=image,name=r.example/a,push-by-digest,push").unwrap();
        assert!(by_digest.names.is_empty());
        assert!(matches!(by_digest.output, Output::Registry(push) if push.by_digest.len() == 1));
        for bad in [
            "type=registry,push-by-digest=true",
            "type=registry,push-by-digest=true,name=a:1",
            "type=registry,dest=x",
            "type=oci,push=true,dest=x",
            "type=registry,name=A",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn fields_with_commas_are_quoted() {
        assert_eq!(csv("a,\"b=1,2\",c"), ["a", "b=1,2", "c"]);
        assert_eq!(csv("\"a\"\"b\",x\"y"), ["a\"b", "x\"y"]);
        assert_eq!(csv(""), [""]);
    }

    #[test]
    fn forms_of_output() {
        assert!(matches!(parse("out"), Ok(Output::Local(path, _)) if path.as_os_str() == "out"));
        assert!(matches!(parse("-"), Ok(Output::Tar(Destination::Stream(_), _))));
        assert!(matches!(parse("type=oci,dest=a.tar"), Ok(Output::Oci(Destination::File(_), _))));
        assert!(matches!(parse("type=oci,tar=0,dest=a"), Ok(Output::OciLayout(..))));
        assert!(matches!(parse("type=docker,tar=0,dest=a"), Ok(Output::OciLayout(..))));
        let local = "type=local,dest=a,attestation-prefix=p.,platform-split=false";
        let told = FileOptions { prefix: "p.".to_owned(), split: Some(false), is_exact: false };
        assert!(matches!(parse(local), Ok(Output::Local(_, options)) if options == told));
        let noted = parse("type=image,annotation.a=1,annotation-index.b=2").unwrap();
        assert!(matches!(noted, Output::Store(options) if !options.annotations.is_empty()));
        assert!(matches!(parse("type=docker"), Ok(Output::Store(_))));
        assert!(matches!(parse("type=docker,dest=-"), Ok(Output::Docker(Destination::Stream(_), _))));
        for bad in [
            "type=local",
            "type=zip,dest=x",
            "type=oci,tar=false",
            "type=oci,tar=maybe,dest=x",
            "type=tar,tar=false,dest=x",
            "type=local,dest=x,annotation.a=1",
            "type=image,annotation-layer.a=1",
            "type=image,platform-split=true",
            "type=image,mode=delete",
            "type=tar,mode=delete",
            "type=local,dest=a,mode=move",
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
