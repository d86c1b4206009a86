//! The options of `RUN --mount=key=value,…`.
//!
//! They are one record of comma-separated values (RFC 4180): an option with a comma in it is written
//! `"source=a,b"`. Keys are checked, and values as far as they contain no variable; what the options
//! mean together is for the frontend.

use crate::ast::{Mount, Word};
use crate::diagnostic::Diagnostic;
use crate::span::Span;
use crate::suggest;

const TYPES: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];
const SHARING: [&str; 3] = ["shared", "private", "locked"];
/// Keys that may stand without a value.
const SWITCHES: [&str; 5] = ["readonly", "ro", "readwrite", "rw", "required"];
const KEYS: [&str; 18] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
];
/// A key that only secrets have.
const ENV: &str = "env";

/// Reads the value of `--mount`.
pub(crate) fn read(raw: Word) -> Result<Mount, Diagnostic> {
    let fields = csv_fields(&raw.text).ok_or_else(|| {
        let message = "the options have a quote in the wrong place";
        Diagnostic::error("invalid-mount", raw.span, message)
            .with_help("quote a whole option: --mount=type=bind,\\\"source=a,b\\\"")
    })?;
    let mut options = Vec::with_capacity(fields.len());
    for Field { text, start, end } in fields {
        let (key, value) = text.split_once('=').map_or((text.as_str(), None), |(k, v)| (k, Some(v)));
        let key = key.to_lowercase();
        check(&key, value, part_of(&raw, start, end))?;
        options.push((key, value.map(str::to_owned)));
    }
    Ok(Mount { raw, options })
}

/// Where some bytes of a flag's value stand. All of it, if it lost quotes and the bytes moved.
fn part_of(raw: &Word, start: usize, end: usize) -> Span {
    let is_as_written = raw.span.end - raw.span.start == raw.text.len();
    if is_as_written { Span::new(raw.span.start + start, raw.span.start + end) } else { raw.span }
}

fn check(key: &str, value: Option<&str>, span: Span) -> Result<(), Diagnostic> {
    let keys = || KEYS.into_iter().chain([ENV]);
    if !keys().any(|known| known == key) {
        let error = Diagnostic::error("unknown-mount-option", span, format!("a mount has no option {key:?}"));
        return Err(error.with_suggestion(suggest::nearest(key, keys())));
    }
    let Some(value) = value else {
        if SWITCHES.contains(&key) {
            return Ok(());
        }
        let message = format!("the mount option {key} needs a value");
        return Err(Diagnostic::error("invalid-mount", span, message).with_help(format!("write {key}=VALUE")));
    };
    match key {
        "from" if has_variable(value) => {
            let message = "the mount option from does not take variables";
            let error = Diagnostic::error("variable-in-mount-from", span, message);
            Err(error.with_help("give the image a name with FROM … AS name, and use that name"))
        }
        _ if has_variable(value) => Ok(()),
        "type" => one_of(value, &TYPES, "unknown-mount-type", "mount type", span),
        "sharing" => one_of(value, &SHARING, "unknown-mount-sharing", "sharing mode", span),
        "mode" if u32::from_str_radix(value, 8).is_err() => Err(not_a(key, value, "an octal number", span)),
        "uid" | "gid" if value.parse::<u32>().is_err() => Err(not_a(key, value, "a number", span)),
        key if SWITCHES.contains(&key) && base::boolean::parse(value).is_none() => {
            Err(not_a(key, value, "true or false", span))
        }
        _ => Ok(()),
    }
}

fn has_variable(value: &str) -> bool {
    value.split_once('$').is_some_and(|(_, after)| !after.is_empty())
}

fn one_of(
    value: &str,
    known: &[&'static str],
    code: &'static str,
    what: &str,
    span: Span,
) -> Result<(), Diagnostic> {
    if known.iter().any(|name| name.eq_ignore_ascii_case(value)) {
        return Ok(());
    }
    let error = Diagnostic::error(code, span, format!("there is no {what} {value:?}"));
    Err(match suggest::nearest(value, known.iter().copied()) {
        Some(near) => error.with_help(format!("did you mean {near}?")),
        None => error.with_help(format!("use one of {}", known.join(", "))),
    })
}

fn not_a(key: &str, value: &str, expected: &str, span: Span) -> Diagnostic {
    let message = format!("the mount option {key} is {expected}, not {value:?}");
    Diagnostic::error("invalid-mount", span, message)
}

/// One field of a CSV record.
#[derive(Debug)]
struct Field {
    /// Without its quotes.
    text: String,
    /// Where it stands in the record, in bytes.
    start: usize,
    end: usize,
}

/// The fields of one CSV record, or `None` if its quotes are wrong.
fn csv_fields(text: &str) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let start = text.len() - rest.len();
        let field;
        (field, rest) = if let Some(quoted) = rest.strip_prefix('"') {
            quoted_field(quoted)?
        } else {
            plain_field(rest)?
        };
        fields.push(Field { text: field, start, end: text.len() - rest.len() });
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None => return rest.is_empty().then_some(fields),
        }
    }
}

fn plain_field(text: &str) -> Option<(String, &str)> {
    let (field, rest) = text.split_at(text.find(',').unwrap_or(text.len()));
    (!field.contains('"')).then(|| (field.to_owned(), rest))
}

/// A field whose opening quote is already gone; `""` in it is a quote.
fn quoted_field(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"')?;
        field.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => return Some((field, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> Option<&'static str> {
        read(Word { text: text.to_owned(), ..Word::default() }).err().map(|diagnostic| diagnostic.code)
    }

    #[test]
    fn records() {
        let texts = |text| Some(csv_fields(text)?.into_iter().map(|field| field.text).collect::<Vec<_>>());
        assert_eq!(texts("a,b=c").unwrap(), ["a", "b=c"]);
        assert_eq!(texts("\"a,\"\"b\",c").unwrap(), ["a,\"b", "c"]);
        assert_eq!(texts("").unwrap(), [""]);
        assert_eq!(texts("a\"b"), None);
        assert_eq!(texts("\"a"), None);
        assert_eq!(texts("\"a\"b"), None);
    }

    #[test]
    fn options_are_checked() {
        assert_eq!(code("type=cache,target=/x,sharing=locked,mode=0755,uid=1000,ro"), None);
        assert_eq!(code("type=secret,id=a,env=TOKEN,required=true"), None);
        assert_eq!(code("type=$kind,mode=$mode"), None);
        assert_eq!(code("type=cahe"), Some("unknown-mount-type"));
        assert_eq!(code("traget=/x"), Some("unknown-mount-option"));
        assert_eq!(code("target"), Some("invalid-mount"));
        assert_eq!(code("from=$base"), Some("variable-in-mount-from"));
        assert_eq!(code("mode=0999"), Some("invalid-mount"));
        assert_eq!(code("uid=root"), Some("invalid-mount"));
        assert_eq!(code("ro=maybe"), Some("invalid-mount"));
        assert_eq!(code("sharing=none"), Some("unknown-mount-sharing"));
    }
}
