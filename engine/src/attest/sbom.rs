//! What is in an image: a bill of materials in SPDX.
//!
//! Source: SPDX 2.3, "Document Creation Information", "Package Information" and "Relationships".

use std::sync::Arc;

use base::Digest;
use frontend::LoweredImage;
use serde_json::{Value, json};
use snapshotter::Tree;

use super::Predicate;
use super::packages::{self, Package};
use crate::assemble::Assembly;
use crate::error::EngineError;
use crate::ops::StepResult;

pub(super) const TYPE: &str = "https://spdx.dev/Document";
const UNKNOWN: &str = "NOASSERTION";

/// The packages of one image, and of what is looked through besides.
pub(super) fn predicates(
    assembly: &Assembly<'_>,
    lowered: &LoweredImage,
    root: Option<StepResult>,
    extras: &[(String, StepResult)],
) -> Result<Vec<Predicate>, EngineError> {
    let extras =
        extras.iter().map(|(name, what)| (format!(" of {name}"), format!("sbom-{name}"), Some(*what)));
    let all = std::iter::once((String::new(), "sbom".to_owned(), root)).chain(extras);
    all.map(|(of, file, root)| predicate(assembly, lowered, (&of, &file), root)).collect()
}

fn predicate(
    assembly: &Assembly<'_>,
    lowered: &LoweredImage,
    (of, file): (&str, &str),
    root: Option<StepResult>,
) -> Result<Predicate, EngineError> {
    let name = format!("[{}] generating sbom{of} with the built-in scanner", lowered.platform);
    let packages = assembly.progress.step(&name, |_| found(assembly, root))?;
    let created = assembly.request.epoch.unwrap_or_else(|| assembly.engine.clock.now());
    let image = assembly.request.tags.first().map_or_else(|| "image".to_owned(), |name| name.familiar());
    let content = Arc::new(document(&format!("{image}{of}"), &format!("{created:.0}"), &packages));
    let file = format!("{file}.spdx.json");
    Ok(Predicate { kind: TYPE, file, inline_only: false, content, subjects: None })
}

fn found(assembly: &Assembly<'_>, root: Option<StepResult>) -> Result<Vec<Package>, EngineError> {
    let snapshot = match root {
        None => return Ok(Vec::new()),
        Some(StepResult::Here(filesystem)) => filesystem.snapshot,
        Some(StepResult::Shared { id, .. }) => assembly.sharing.cache.bring(id, assembly.cancel)?.snapshot,
    };
    let store = &assembly.engine.store;
    store.hold(assembly.lease, snapshot)?;
    packages::find(&Tree::overlay(store.view_dirs(snapshot)?)?, assembly.cancel)
}

fn document(name: &str, created: &str, packages: &[Package]) -> Value {
    let id = |number: usize| format!("SPDXRef-Package-{}", number + 1);
    let entries: Vec<Value> =
        packages.iter().enumerate().map(|(n, package)| entry(&id(n), package)).collect();
    let relation = |number: usize| {
        json!({
            "spdxElementId": "SPDXRef-DOCUMENT",
            "relationshipType": "DESCRIBES",
            "relatedSpdxElement": id(number),
        })
    };
    let unique = Digest::of(format!("{name}\n{created}\n{entries:?}").as_bytes());
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": format!("https://spdx.org/spdxdocs/lapstrake-{}", unique.hex()),
        "creationInfo": {
            "created": created,
            "creators": [format!("Tool: lapstrake-{}", env!("CARGO_PKG_VERSION"))],
        },
        "packages": entries,
        "relationships": (0..packages.len()).map(relation).collect::<Vec<_>>(),
    })
}

fn entry(id: &str, package: &Package) -> Value {
    json!({
        "SPDXID": id,
        "name": package.name,
        "versionInfo": package.version,
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": false,
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": UNKNOWN,
        "copyrightText": UNKNOWN,
        "sourceInfo": format!("acquired package info from {}", package.found_in),
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": package.url(),
        }],
    })
}
