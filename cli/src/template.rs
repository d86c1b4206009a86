//! `--format`: the part of Go's templates that scripts use most.
//!
//! `{{.Field}}`, `{{.Nested.Field}}`, `{{json .}}` and `{{json .Field}}` over a JSON value, with `\t` and
//! `\n` in the text. Anything else is refused by name.

use serde_json::Value;

use crate::error::CliError;

/// Fills `template` with `value`. The word `json` alone prints the whole value.
pub(crate) fn fill(template: &str, value: &Value) -> Result<String, CliError> {
    if template == "json" {
        return Ok(value.to_string());
    }
    let mut out = String::new();
    let mut rest = template;
    while let Some(start) = rest.find("{{") {
        out.push_str(&unescaped(&rest[..start]));
        let body = &rest[start + 2..];
        let end = body.find("}}").ok_or_else(|| bad(template, "a {{ has no }}"))?;
        out.push_str(&action(body[..end].trim(), value, template)?);
        rest = &body[end + 2..];
    }
    out.push_str(&unescaped(rest));
    Ok(out)
}

fn action(text: &str, value: &Value, template: &str) -> Result<String, CliError> {
    if let Some(path) = text.strip_prefix("json ") {
        return Ok(select(path.trim(), value, template)?.to_string());
    }
    Ok(plain(select(text, value, template)?))
}

fn select<'a>(path: &str, value: &'a Value, template: &str) -> Result<&'a Value, CliError> {
    let Some(path) = path.strip_prefix('.') else {
        return Err(bad(template, &format!("\"{path}\" is not a field such as .Name")));
    };
    let mut current = value;
    for field in path.split('.').filter(|field| !field.is_empty()) {
        if !field.chars().all(|c| c.is_alphanumeric() || c == '_') {
            return Err(bad(template, &format!("\"{field}\" is not a field name")));
        }
        current =
            current.get(field).ok_or_else(|| bad(template, &format!("there is no field \"{field}\"")))?;
    }
    Ok(current)
}

/// As Go prints a value: text as it is, lists and maps in Go's `%v`.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(name, value)| format!("{name}:{}", plain(value))).collect();
            format!("map[{}]", fields.join(" "))
        }
        other => other.to_string(),
    }
}

fn unescaped(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

fn bad(template: &str, why: &str) -> CliError {
    CliError::usage(
        format!("cannot use the format \"{template}\": {why}"),
        "supported are {{.Field}}, {{.Nested.Field}}, {{json .}} and json",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_lists_and_json() {
        let value = json!({"Name": "a", "Config": {"Env": ["A=1", "B=2"]}});
        let filled = |template: &str| fill(template, &value).unwrap();
        assert_eq!(filled("{{.Name}}\\t{{ .Config.Env }}"), "a\t[A=1 B=2]");
        assert_eq!(filled("{{json .Config}}"), r#"{"Env":["A=1","B=2"]}"#);
        assert_eq!(filled("plain"), "plain");
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        for bad in ["{{.Nope}}", "{{range .X}}", "{{.Name", "{{if .X}}"] {
            assert!(fill(bad, &json!({"Name": "a"})).is_err(), "{bad}");
        }
    }
}
