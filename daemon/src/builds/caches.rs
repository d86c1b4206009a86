//! The caches that a client wants its build to share: entries of calls, and attributes of the Dockerfile frontend.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use engine::caller::CallersBlobs;
use engine::request::{CacheWords, DocumentPlace, SharedCaches};
use tonic::Status;

use crate::proto::{control, frontend};

/// How many caches one build may name.
const MOST: usize = 100;

/// The answer with what leads to the cache that was written.
const WRITTEN: &str = "cache.manifest";

/// A cache by its type and attributes.
type Entry = (String, HashMap<String, String>);

/// What a build shares: what its call says, and what a solve with these entries and attributes adds.
///
/// # Errors
/// An entry names no cache.
pub(crate) fn shared(
    options: Option<&control::CacheOptions>,
    entries: &[frontend::CacheOptionsEntry],
    attributes: &HashMap<String, String>,
    directories: Option<&Arc<dyn CallersBlobs>>,
) -> Result<SharedCaches, Status> {
    let mut caches = SharedCaches::default();
    let mut imports = entries.iter().map(|entry| (entry.r#type.clone(), entry.attrs.clone())).collect();
    of_attributes(attributes, &mut imports)?;
    let mut exports = Vec::new();
    if let Some(options) = options {
        let entry = |entry: &control::CacheOptionsEntry| (entry.r#type.clone(), entry.attrs.clone());
        imports.extend(options.imports.iter().map(entry));
        imports.extend(options.import_refs_deprecated.iter().map(|name| of_registry(name)));
        exports.extend(options.exports.iter().map(entry));
        if !options.export_ref_deprecated.is_empty() {
            let (kind, mut attributes) = of_registry(&options.export_ref_deprecated);
            attributes.extend(options.export_attrs_deprecated.clone());
            exports.push((kind, attributes));
        }
    }
    // The same may be said in the call and again in its solves.
    let mut read: Vec<Entry> = Vec::new();
    for entry in imports {
        if !read.contains(&entry) {
            read.push(entry);
        }
    }
    if read.len() > MOST || exports.len() > MOST {
        return Err(Status::invalid_argument(format!("a build has at most {MOST} caches")));
    }
    for (kind, attributes) in &read {
        caches
            .read_from(&words(kind, attributes, ("src", directories)))
            .map_err(|why| wrong("import", kind, &why))?;
    }
    for (kind, attributes) in &exports {
        caches
            .write_to(&words(kind, attributes, ("dest", directories)))
            .map_err(|why| wrong("export", kind, &why))?;
    }
    Ok(caches)
}

fn of_registry(name: &str) -> Entry {
    ("registry".to_owned(), HashMap::from([("ref".to_owned(), name.to_owned())]))
}

/// An entry as it is in JSON, in which most clients begin names with capitals.
fn of_json(document: &serde_json::Value) -> Entry {
    let kind = document.get("Type").or_else(|| document.get("type"));
    let attributes = document.get("Attrs").or_else(|| document.get("attrs"));
    let attributes = attributes.and_then(serde_json::Value::as_object).into_iter().flatten();
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    (
        kind.and_then(text).unwrap_or_default(),
        attributes.filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect(),
    )
}

/// `cache-imports` has entries as JSON, `cache-from` names of registries.
fn of_attributes(attributes: &HashMap<String, String>, entries: &mut Vec<Entry>) -> Result<(), Status> {
    let get = |name: &str| attributes.get(name).filter(|text| !text.is_empty());
    if let Some(text) = get("cache-imports") {
        let wrong =
            |why| Status::invalid_argument(format!("failed to unmarshal cache-imports ({text:?}): {why}"));
        let documents: Vec<serde_json::Value> = serde_json::from_str(text).map_err(wrong)?;
        entries.extend(documents.iter().map(of_json));
    }
    let names = get("cache-from").into_iter().flat_map(|text| text.split(','));
    entries.extend(names.filter(|name| !name.is_empty()).map(of_registry));
    Ok(())
}

/// What a client is told of caches that it keeps itself, when they were written: it finds the document by that.
pub(super) fn written(caches: &SharedCaches) -> Option<(String, String)> {
    let document = caches.documents.iter().rev().find_map(|document| match &document.place {
        DocumentPlace::Caller(place) => place.written.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        _ => None,
    })?;
    Some((WRITTEN.to_owned(), serde_json::to_string(&document).ok()?))
}

/// The words of an entry. A client says all of it: it names no files here, and our environment is none of its business.
fn words<'a>(
    kind: &'a str,
    attributes: &'a HashMap<String, String>,
    (directory, of_client): (&'a str, Option<&Arc<dyn CallersBlobs>>),
) -> CacheWords<'a> {
    let mut fields: Vec<(&str, &str)> =
        attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    fields.sort_unstable();
    fields.push(("type", kind));
    let caller = of_client.map(|blobs| (directory, Arc::clone(blobs)));
    CacheWords { fields, directory: None, caller, environment: &|_| None }
}

fn wrong(direction: &str, kind: &str, why: &dyn std::fmt::Display) -> Status {
    Status::invalid_argument(format!("invalid cache {direction} of type \"{kind}\": {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_is_said_twice_is_read_once() {
        let json = r#"[{"Type":"registry","Attrs":{"ref":"example.com/a"}},{"type":"registry","attrs":{"ref":"example.com/b"}}]"#;
        let said = attributes(&[("cache-imports", json), ("cache-from", "example.com/b,example.com/c")]);
        let entry = frontend::CacheOptionsEntry {
            r#type: "registry".to_owned(),
            attrs: attributes(&[("ref", "example.com/a")]),
        };
        let options = control::CacheOptions {
            export_ref_deprecated: "example.com/d".to_owned(),
            export_attrs_deprecated: attributes(&[("mode", "max")]),
            import_refs_deprecated: vec!["example.com/c".to_owned()],
            ..control::CacheOptions::default()
        };
        let caches = shared(Some(&options), &[entry], &said, None).unwrap();
        assert_eq!((caches.from.len(), caches.documents.len()), (3, 1));
        assert_eq!(caches.documents[0].mode, engine::request::CacheMode::Max);
    }

    #[test]
    fn nonsense_is_refused() {
        let refused = |kind: &str, pairs: &[(&str, &str)]| {
            let entry = control::CacheOptionsEntry { r#type: kind.to_owned(), attrs: attributes(pairs) };
            let options = control::CacheOptions { exports: vec![entry], ..control::CacheOptions::default() };
            shared(Some(&options), &[], &HashMap::new(), None).unwrap_err().message().to_owned()
        };
        assert!(refused("local", &[("dest", "/srv")]).contains("a directory of the client"));
        assert!(refused("azblob", &[]).contains("it has no account_url"));
        assert!(refused("tape", &[]).contains("\"tape\" is not supported"));
        assert!(refused("registry", &[]).contains("it has no ref"));
        assert!(refused("registry", &[("type", "inline")]).contains("it has no ref"));
        shared(None, &[], &attributes(&[("cache-imports", "[{")]), None).unwrap_err();
        let many = "a,".repeat(3) + &(0..200).map(|n| format!("x{n},")).collect::<String>();
        shared(None, &[], &attributes(&[("cache-from", &many)]), None).unwrap_err();
    }
}
