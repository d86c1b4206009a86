//! The functions that Docker adds to those of Go's templates.

use gtmpl_ng::{Func, FuncError, Value};

use super::value::to_document;

/// Most characters that one function of ours makes.
const LONGEST: usize = 1 << 20;

/// Docker's functions, and those of Go that treat absent labels otherwise than the crate does.
pub(super) const OF_VALUES: [(&str, Func); 10] = [
    ("json", json),
    ("split", split),
    ("join", join),
    ("title", title),
    ("lower", lower),
    ("upper", upper),
    ("pad", pad),
    ("truncate", truncate),
    ("index", index),
    (LABEL, index),
];

/// The same names for a line of titles, which stays as it is.
pub(super) const OF_TITLES: [(&str, Func); 10] = [
    ("json", first),
    ("split", first),
    ("join", first),
    ("title", first),
    ("lower", first),
    ("upper", first),
    ("pad", first),
    ("truncate", first),
    ("index", index),
    (LABEL, label_title),
];

/// What `.Label` becomes, because it is the one field that takes an argument.
const LABEL: &str = "label";

/// Writes `.Label "name"` as a call of a function, outside of strings and of text.
pub(super) fn calls_of_label(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(".Label ") {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let follows_action = before.trim_end().ends_with(['{', '(', '-', '|']);
        let takes_text = after[".Label ".len()..].trim_start().starts_with(['"', '`', '$']);
        let (written, length) =
            if follows_action && takes_text { ("label .Label ", ".Label ".len()) } else { (".", 1) };
        out.push_str(written);
        rest = &after[length..];
    }
    out + rest
}

fn first(args: &[Value]) -> Result<Value, FuncError> {
    Ok(args.first().cloned().unwrap_or(Value::NoValue))
}

/// The title of a column of one label is the label's name, without what comes before its last dot.
fn label_title(args: &[Value]) -> Result<Value, FuncError> {
    let name = text("Label", args, 1)?;
    Ok(Value::from(name.rsplit('.').next().unwrap_or_default().replace(['-', '_'], " ")))
}

fn json(args: &[Value]) -> Result<Value, FuncError> {
    let value = args.first().ok_or_else(|| FuncError::AtLeastXArgs("json".to_owned(), 1))?;
    Ok(Value::from(to_document(value).to_string()))
}

fn split(args: &[Value]) -> Result<Value, FuncError> {
    let (source, separator) = (text("split", args, 0)?, text("split", args, 1)?);
    let parts: Vec<Value> = match separator {
        "" => source.chars().map(|c| Value::from(c.to_string())).collect(),
        separator => source.split(separator).map(Value::from).collect(),
    };
    Ok(Value::Array(parts))
}

fn join(args: &[Value]) -> Result<Value, FuncError> {
    let separator = text("join", args, 1)?;
    match args.first() {
        Some(Value::Array(parts)) => {
            let parts: Vec<String> = parts.iter().map(Value::to_string).collect();
            Ok(Value::from(parts.join(separator)))
        }
        Some(Value::Nil | Value::NoValue) => Ok(Value::from("")),
        other => Err(wrong("join", "a list", other)),
    }
}

fn title(args: &[Value]) -> Result<Value, FuncError> {
    let mut start = true;
    let capital = |c: char| {
        let shown = if start { c.to_uppercase().collect::<String>() } else { c.to_string() };
        start = !(c.is_alphanumeric() || c == '_' || c == '\'');
        shown
    };
    Ok(Value::from(text("title", args, 0)?.chars().map(capital).collect::<String>()))
}

fn lower(args: &[Value]) -> Result<Value, FuncError> {
    Ok(Value::from(text("lower", args, 0)?.to_lowercase()))
}

fn upper(args: &[Value]) -> Result<Value, FuncError> {
    Ok(Value::from(text("upper", args, 0)?.to_uppercase()))
}

/// A text with so many blanks before and after it; an empty one stays empty.
fn pad(args: &[Value]) -> Result<Value, FuncError> {
    let (source, before, after) = (text("pad", args, 0)?, number("pad", args, 1)?, number("pad", args, 2)?);
    match source {
        "" => Ok(Value::from("")),
        source => Ok(Value::from(format!("{}{source}{}", " ".repeat(before), " ".repeat(after)))),
    }
}

fn truncate(args: &[Value]) -> Result<Value, FuncError> {
    let (source, length) = (text("truncate", args, 0)?, number("truncate", args, 1)?);
    Ok(Value::from(source.chars().take(length).collect::<String>()))
}

/// Go's `index`. A label that is not there is an empty text, as in a map of texts.
fn index(args: &[Value]) -> Result<Value, FuncError> {
    match args {
        [Value::Map(fields), Value::String(name)] => Ok(fields.get(name).cloned().unwrap_or_else(|| {
            let of_texts = fields.values().all(|value| matches!(value, Value::String(_)));
            if of_texts { Value::from("") } else { Value::NoValue }
        })),
        [Value::NoValue | Value::Nil, Value::String(_)] => Ok(Value::from("")),
        _ => gtmpl_ng::funcs::index(args),
    }
}

fn text<'a>(function: &str, args: &'a [Value], place: usize) -> Result<&'a str, FuncError> {
    match args.get(place) {
        Some(Value::String(text)) => Ok(text),
        Some(Value::NoValue | Value::Nil) => Ok(""),
        other => Err(wrong(function, "a string", other)),
    }
}

fn number(function: &str, args: &[Value], place: usize) -> Result<usize, FuncError> {
    match args.get(place) {
        Some(Value::Number(number)) => {
            let number = number.as_u64().and_then(|number| usize::try_from(number).ok());
            let number = number.filter(|number| *number <= LONGEST);
            number.ok_or_else(|| wrong(function, "a number of characters", args.get(place)))
        }
        other => Err(wrong(function, "a number", other)),
    }
}

fn wrong(function: &str, wanted: &str, found: Option<&Value>) -> FuncError {
    FuncError::Generic(match found {
        Some(found) => format!("wrong type for value; {function} expected {wanted}; got {found}"),
        None => format!("wrong number of args for {function}: want {wanted} more"),
    })
}
