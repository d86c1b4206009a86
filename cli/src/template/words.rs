//! Docker's words for templates that are wrong.

use gtmpl_ng::{ErrorContext, ExecError, ParseError};

use super::Missing;
use crate::error::CliError;

/// A text that is no template.
pub(super) fn of_parsing(error: &ParseError, template: &str) -> CliError {
    let (line, what) = match error {
        ParseError::WithContext(context, what) => (context.line, what.clone()),
        other => (1, other.to_string()),
    };
    bad(format!("template: :{line}: {}", of_go(&what)), template)
}

/// A template that nests too deep to be read.
pub(super) fn of_nesting() -> CliError {
    bad("template: :1: nested too deep".to_owned(), "{{")
}

/// A template that cannot be filled with a document.
pub(super) fn of_filling(error: &ExecError, template: &str, missing: Missing) -> CliError {
    let Some(error) = error.as_structured() else { return bad(error.to_string(), template) };
    let expression = expression(template, &error.context);
    let what = match (absent_field(&error.message), missing) {
        (Some(field), Missing::Field) => format!("can't evaluate field {field}"),
        (Some(field), Missing::Key) => format!("map has no entry for key \"{field}\""),
        (None, _) if error.message.starts_with("only maps and objects have fields") => {
            let field = expression.rsplit('.').next().unwrap_or_default();
            format!("can't evaluate field {field} in what has no fields")
        }
        (None, _) => error.message.clone(),
    };
    let (line, column) = (error.context.line, error.context.col.saturating_sub(1));
    bad(format!("template: :{line}:{column}: executing \"\" at <{expression}>: {what}"), template)
}

/// Go's words where the engine has others.
fn of_go(what: &str) -> String {
    what.trim().trim_start_matches("template: ").to_owned()
}

/// The field's name, if a message says that there is none of it.
fn absent_field(message: &str) -> Option<&str> {
    message.strip_prefix("no field `")?.split('`').next()
}

/// The part of the template that an error is about.
fn expression<'a>(template: &'a str, context: &ErrorContext) -> &'a str {
    let line = template.split('\n').nth(context.line.saturating_sub(1)).unwrap_or_default();
    let start = context.col.saturating_sub(1);
    line.get(start..start.saturating_add(context.len)).unwrap_or(line)
}

fn bad(what: String, template: &str) -> CliError {
    let hint = if template.contains("{{") {
        "for example {{.Name}}, {{json .}} or {{range .List}}{{.}} {{end}}; functions are json, join, split, lower, upper, title, pad, truncate and those of Go's text/template"
    } else {
        "a template has fields in double braces, as {{.Name}}"
    };
    CliError::failed_with_hint(format!("template parsing error: {what}"), hint)
}
