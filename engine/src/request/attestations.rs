//! What is told of an image besides the image: where it came from, and what is in it.

use std::collections::BTreeMap;

use base::Reference;

/// What is told of the images of a build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attestations {
    /// Where the image came from.
    pub provenance: Option<ProvenanceOptions>,
    /// The packages in it.
    pub sbom: bool,
    /// The image that looks for them; without one, that is done here.
    pub scanner: Option<Scanner>,
    /// What the caller knows of the repository that the context is in: `source` and `revision`.
    pub vcs: BTreeMap<String, String>,
}

/// An image that looks for packages (`generator=`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanner {
    /// Its name.
    pub image: Reference,
    /// What else it is told, by names without `BUILDKIT_SCAN_`.
    pub parameters: BTreeMap<String, String>,
}

/// How provenance is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProvenanceOptions {
    /// How much is told.
    pub mode: ProvenanceMode,
    /// In which form.
    pub version: ProvenanceVersion,
    /// Who built, as a URL.
    pub builder_id: String,
    /// Whether the caller says that the same comes out again.
    pub reproducible: bool,
    /// `inline-only`: not for its sake is there an index, or a file.
    pub inline_only: bool,
    /// The name of the file in directories and archives; `provenance.json` without one.
    pub filename: Option<String>,
}

/// How much provenance tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProvenanceMode {
    /// Neither build arguments nor labels, nor what the steps were.
    Min,
    /// Everything, but for the values of secrets.
    #[default]
    Max,
}

/// The form of provenance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProvenanceVersion {
    /// SLSA provenance v0.2.
    #[default]
    V02,
    /// SLSA provenance v1.
    V1,
}

/// Why an attestation is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid attestation \"{kind}\": {why}")]
pub struct WrongAttestation {
    /// What was to be told.
    pub kind: String,
    /// What is wrong.
    pub why: String,
}

impl Attestations {
    /// Asks for `provenance` or `sbom`, with attributes as in `mode=max,version=v1`. `false` or `disabled=true` asks for none.
    ///
    /// # Errors
    /// There is no such attestation, or it has no such attribute.
    pub fn ask(&mut self, kind: &str, attributes: &str) -> Result<(), WrongAttestation> {
        let wrong = |why: String| WrongAttestation { kind: kind.to_owned(), why };
        let mut fields: Vec<(&str, &str)> = attributes
            .split(',')
            .filter(|field| !field.is_empty())
            .map(|field| field.split_once('=').unwrap_or((field, "")))
            .collect();
        let mut wanted = true;
        if let [(word, "")] = fields.as_slice()
            && let Some(is_wanted) = base::boolean::parse(word)
        {
            (wanted, fields) = (is_wanted, Vec::new());
        }
        let is_true = |name: &str, value: &str| {
            let why = || wrong(format!("\"{name}\" is true or false, not \"{value}\""));
            base::boolean::parse(value).ok_or_else(why)
        };
        let mut options = ProvenanceOptions::default();
        let (mut image, mut parameters) = (None, BTreeMap::new());
        for (name, value) in fields {
            match (kind, name) {
                // buildx says it twice.
                (_, "type") if value == kind => {}
                (_, "disabled") => wanted = !is_true(name, value)?,
                ("provenance", "mode") => {
                    options.mode = match value {
                        "min" => ProvenanceMode::Min,
                        "max" => ProvenanceMode::Max,
                        other => return Err(wrong(format!("mode is min or max, not \"{other}\""))),
                    };
                }
                ("provenance", "version") => {
                    options.version = match value {
                        "v0.2" => ProvenanceVersion::V02,
                        "v1" => ProvenanceVersion::V1,
                        other => return Err(wrong(format!("version is v0.2 or v1, not \"{other}\""))),
                    };
                }
                ("provenance", "builder-id") => value.clone_into(&mut options.builder_id),
                ("provenance", "reproducible") => options.reproducible = is_true(name, value)?,
                ("provenance", "inline-only") => options.inline_only = is_true(name, value)?,
                ("provenance", "filename") if is_name(value) => options.filename = Some(value.to_owned()),
                ("provenance", "filename") => {
                    return Err(wrong(format!("\"{value}\" is no name of a file")));
                }
                ("sbom", "generator") => {
                    let why = |error| wrong(format!("{value:?} is no name of an image: {error}"));
                    image = Some(value.parse::<Reference>().map_err(why)?);
                }
                ("sbom", name) if is_parameter(name) => {
                    parameters.insert(name.to_owned(), value.to_owned());
                }
                ("provenance" | "sbom", other) => return Err(wrong(format!("\"{other}\" is not supported"))),
                _ => {}
            }
        }
        match kind {
            "provenance" => self.provenance = wanted.then_some(options),
            "sbom" => {
                if let (None, Some(name)) = (&image, parameters.keys().next()) {
                    return Err(wrong(format!("\"{name}\" is for a scanner: name one with generator=IMAGE")));
                }
                self.sbom = wanted;
                self.scanner = image.filter(|_| wanted).map(|image| Scanner { image, parameters });
            }
            _ => return Err(wrong("there are provenance and sbom".to_owned())),
        }
        Ok(())
    }

    /// Whether anything is told.
    pub fn is_none(&self) -> bool {
        self.provenance.is_none() && !self.sbom
    }
}

/// Whether a scanner can be told something under this name: it makes a variable, and none that we set.
fn is_parameter(name: &str) -> bool {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty()
        && name.bytes().all(is_name)
        && !["DESTINATION", "SOURCE", "SOURCE_EXTRAS"].contains(&name)
}

/// Whether this names a file in a directory, and none elsewhere.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text != "." && text != ".." && !text.contains(['/', '\0']) && text.len() < 200
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(kind: &str, attributes: &str) -> Result<Attestations, String> {
        let mut attestations = Attestations::default();
        attestations.ask(kind, attributes).map(|()| attestations).map_err(|error| error.to_string())
    }

    #[test]
    fn attributes_say_how() {
        let text =
            "mode=min,version=v1,builder-id=https://ci/1,reproducible=true,inline-only=true,filename=p.json";
        let options = asked("provenance", text).unwrap().provenance.unwrap();
        assert_eq!((options.mode, options.version), (ProvenanceMode::Min, ProvenanceVersion::V1));
        assert_eq!(
            (options.builder_id.as_str(), options.filename.as_deref()),
            ("https://ci/1", Some("p.json"))
        );
        assert!(options.reproducible && options.inline_only);
        let default = asked("provenance", "").unwrap().provenance.unwrap();
        assert_eq!(default, ProvenanceOptions::default());
        for none in ["false", "disabled=true", "mode=max,disabled=1"] {
            assert!(asked("provenance", none).unwrap().is_none(), "{none}");
        }
        assert!(asked("sbom", "type=sbom").unwrap().sbom && asked("sbom", "type=provenance").is_err());
        let scanner = asked("sbom", "generator=scanner:1,DEPTH=2").unwrap().scanner.unwrap();
        assert_eq!(scanner.image.familiar(), "scanner:1");
        assert_eq!(scanner.parameters["DEPTH"], "2");
        assert!(asked("sbom", "generator=scanner,disabled=true").unwrap() == Attestations::default());
        assert!(asked("sbom", "true").unwrap().sbom && asked("sbom", "").unwrap().sbom);
    }

    #[test]
    fn mistakes_are_named() {
        for (kind, text, why) in [
            ("provenance", "mode=some", "mode is min or max"),
            ("provenance", "version=2", "version is v0.2 or v1"),
            ("provenance", "reproducible=perhaps", "true or false"),
            ("provenance", "filename=../x", "no name of a file"),
            ("provenance", "colour=red", "\"colour\" is not supported"),
            ("sbom", "generator=Not An Image", "no name of an image"),
            ("sbom", "DEPTH=2", "name one with generator=IMAGE"),
            ("sbom", "generator=scanner,SOURCE=/", "\"SOURCE\" is not supported"),
            ("vex", "", "there are provenance and sbom"),
        ] {
            let error = asked(kind, text).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
