//! JSON documents as the template engine has them.
//!
//! A field that a struct does not have is an error, and one that a map does not have is no value. JSON does not say
//! which of the two an object is; Docker's documents are structs but for the fields named here.

use gtmpl_ng::Value;
use serde_json::{Map, Number, Value as Document};

/// Fields whose keys are somebody's data.
const MAPS: [&str; 21] = [
    "Annotations",
    "Attributes",
    "AuxiliaryAddresses",
    "Containers",
    "CreateOptions",
    "Data",
    "DriverOpts",
    "ExposedPorts",
    "IndexConfigs",
    "Label",
    "Labels",
    "Networks",
    "Options",
    "PortBindings",
    "Ports",
    "Runtimes",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "UsageData",
    "Volumes",
];

/// Fields that Docker leaves out where they mean nothing, so that asking whether they are there is no error.
const OPTIONAL: [(&str, &str); 4] =
    [("Running", "Health"), ("Cmd", "Healthcheck"), ("Cmd", "StopTimeout"), ("RW", "Name")];

/// The fields of an event, by their names in JSON and in templates.
const OF_EVENT: [(&str, &str); 6] = [
    ("from", "From"),
    ("id", "ID"),
    ("scope", "Scope"),
    ("status", "Status"),
    ("time", "Time"),
    ("timeNano", "TimeNano"),
];

/// Whether a document is an event: the only one that has this field.
fn is_event<T>(field: impl Fn(&str) -> Option<T>) -> bool {
    field("timeNano").is_some()
}

/// A document for the engine.
pub(super) fn of_document(document: &Document) -> Value {
    match document {
        Document::Null => Value::Nil,
        Document::Bool(value) => Value::Bool(*value),
        Document::Number(number) => of_number(number),
        Document::String(text) => Value::from(text.as_str()),
        Document::Array(items) => Value::Array(items.iter().map(of_document).collect()),
        Document::Object(fields) => of_struct(fields),
    }
}

fn of_number(number: &Number) -> Value {
    let unsigned = number.as_u64().map(gtmpl_ng::Number::unsigned);
    let whole = unsigned.or_else(|| number.as_i64().map(gtmpl_ng::Number::signed));
    Value::Number(whole.unwrap_or_else(|| gtmpl_ng::Number::float(number.as_f64().unwrap_or_default())))
}

fn of_struct(fields: &Map<String, Document>) -> Value {
    let of_field = |(name, value): (&String, &Document)| {
        let driver = name == "Config" && fields.contains_key("Type");
        let value = match (MAPS.contains(&name.as_str()) || driver, value) {
            (true, Document::Null) => Value::NoValue,
            (true, Document::Object(entries)) => {
                Value::Map(entries.iter().map(|(name, value)| (name.clone(), of_document(value))).collect())
            }
            _ => of_document(value),
        };
        (name.clone(), value)
    };
    let mut known: std::collections::HashMap<String, Value> = fields.iter().map(of_field).collect();
    for (beside, name) in OPTIONAL {
        if fields.contains_key(beside) {
            known.entry(name.to_owned()).or_insert(Value::Nil);
        }
    }
    if is_event(|name| fields.get(name)) {
        for (in_json, name) in OF_EVENT {
            let value = known.get(in_json).cloned().unwrap_or_else(|| Value::from(""));
            known.insert(name.to_owned(), value);
        }
    }
    Value::Object(known)
}

/// What the engine has as JSON again, without what only templates see.
pub(super) fn to_document(value: &Value) -> Document {
    match value {
        Value::NoValue | Value::Nil | Value::Function(_) => Document::Null,
        Value::Bool(value) => Document::Bool(*value),
        Value::String(text) => Document::String(text.clone()),
        Value::Number(number) => to_number(number),
        Value::Array(items) => Document::Array(items.iter().map(to_document).collect()),
        Value::Map(fields) => {
            Document::Object(fields.iter().map(|(name, value)| (name.clone(), to_document(value))).collect())
        }
        Value::Object(fields) => {
            let absent = |name: &str, value: &Value| {
                let optional = OPTIONAL.iter().any(|(_, optional)| *optional == name);
                name == "Label" || optional && matches!(value, Value::Nil)
            };
            let is_event = is_event(|name| fields.get(name));
            let is_alias = |name: &str| is_event && OF_EVENT.iter().any(|(_, alias)| *alias == name);
            let kept = fields.iter().filter(|(name, value)| !absent(name, value) && !is_alias(name));
            Document::Object(kept.map(|(name, value)| (name.clone(), to_document(value))).collect())
        }
    }
}

fn to_number(number: &gtmpl_ng::Number) -> Document {
    let whole = number.as_u64().map(Number::from).or_else(|| number.as_i64().map(Number::from));
    whole.or_else(|| number.as_f64().and_then(Number::from_f64)).map_or(Document::Null, Document::Number)
}
