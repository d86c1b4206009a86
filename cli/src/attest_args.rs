//! `--provenance`, `--sbom` and `--attest` of `lap build`.

use clap::Args;
use engine::request::Attestations;

use crate::error::CliError;

const EXAMPLE: &str =
    "as in --provenance=mode=max,version=v1, --sbom=true or --attest type=provenance,mode=min";

// What is told of an image besides.
#[derive(Debug, Args)]
pub(crate) struct AttestArgs {
    /// Tell where the image came from: true, false, or mode=min|max, version=v0.2|v1, builder-id=URL, reproducible=BOOL,
    /// inline-only=BOOL, filename=NAME
    #[arg(long, value_name = "BOOL|ATTRIBUTES")]
    pub(crate) provenance: Option<String>,

    /// Tell which packages are in the image: true (those of dpkg, apk, npm, pip and cargo), false, or generator=IMAGE[,NAME=VALUE] to
    /// have an image look for them
    #[arg(long, value_name = "BOOL|ATTRIBUTES")]
    pub(crate) sbom: Option<String>,

    /// The same in other words: type=provenance or type=sbom with attributes; may be repeated
    #[arg(long = "attest", value_name = "type=KIND[,ATTRIBUTES]")]
    pub(crate) attestations: Vec<String>,
}

impl AttestArgs {
    /// What is asked for; nothing unless it is.
    pub(crate) fn asked(&self) -> Result<Attestations, CliError> {
        let mut asked = Attestations::default();
        for text in &self.attestations {
            let mut rest: Vec<&str> = text.split(',').collect();
            let kind = rest.iter().position(|field| field.starts_with("type=")).map(|at| rest.remove(at));
            let kind = kind.and_then(|field| field.strip_prefix("type=")).ok_or_else(|| {
                CliError::usage(format!("invalid --attest \"{text}\": it has no type"), EXAMPLE)
            })?;
            ask(&mut asked, kind, &rest.join(","))?;
        }
        for (kind, text) in [("provenance", &self.provenance), ("sbom", &self.sbom)] {
            if let Some(text) = text {
                ask(&mut asked, kind, text)?;
            }
        }
        Ok(asked)
    }
}

/// Provenance is short unless somebody says how much: build arguments are not for everybody who has the image.
fn ask(asked: &mut Attestations, kind: &str, text: &str) -> Result<(), CliError> {
    let text = match kind {
        "provenance" if base::boolean::parse(text) == Some(true) => "mode=min".to_owned(),
        "provenance" if base::boolean::parse(text).is_none() => format!("mode=min,{text}"),
        _ => text.to_owned(),
    };
    asked.ask(kind, &text).map_err(|wrong| CliError::usage(wrong.to_string(), EXAMPLE))
}

#[cfg(test)]
mod tests {
    use engine::request::ProvenanceMode;

    use super::*;

    fn asked(provenance: Option<&str>, attestations: &[&str]) -> Result<Attestations, String> {
        let args = AttestArgs {
            provenance: provenance.map(str::to_owned),
            sbom: None,
            attestations: attestations.iter().map(|text| (*text).to_owned()).collect(),
        };
        args.asked().map_err(|error| error.message().to_owned())
    }

    #[test]
    fn provenance_is_short_unless_more_is_said() {
        let mode = |text: &str| asked(Some(text), &[]).unwrap().provenance.map(|options| options.mode);
        assert_eq!(mode("true"), Some(ProvenanceMode::Min));
        assert_eq!(mode("version=v1"), Some(ProvenanceMode::Min));
        assert_eq!(mode("mode=max"), Some(ProvenanceMode::Max));
        assert_eq!(mode("false"), None);
        assert!(asked(None, &[]).unwrap().is_none());
        let both = asked(None, &["type=sbom", "mode=max,type=provenance"]).unwrap();
        assert!(both.sbom && both.provenance.is_some_and(|options| options.mode == ProvenanceMode::Max));
        assert!(asked(None, &["mode=max"]).unwrap_err().contains("it has no type"));
        assert!(asked(Some("mode=some"), &[]).unwrap_err().contains("min or max"));
    }
}
