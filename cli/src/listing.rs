//! Lists in the form that was asked for: a table, lines of a template, a table of a template, or JSON, a line each.

use serde_json::Value;

use crate::error::CliError;
use crate::table;
use crate::template::{Missing, Template};
use crate::terminal::print;

/// The columns of a list.
pub(crate) struct Columns<'a> {
    /// The template of its table, with `\t` between columns.
    pub(crate) template: &'a str,
    /// Titles of fields where they are not the field's name in capitals.
    pub(crate) titles: &'a [(&'a str, &'a str)],
}

/// Prints rows with `--format`, or as the usual table.
///
/// # Errors
/// The template is none, or asks for a field that there is not.
pub(crate) fn show(rows: &[Value], format: Option<&str>, columns: &Columns<'_>) -> Result<(), CliError> {
    print(&text(rows, format, columns)?);
    Ok(())
}

/// What [`show`] prints.
pub(crate) fn text(rows: &[Value], format: Option<&str>, columns: &Columns<'_>) -> Result<String, CliError> {
    let usual = || Some(columns.template.to_owned());
    let table = match format.map(str::trim) {
        None | Some("" | "table") => usual(),
        Some(format) => {
            format.strip_prefix("table").filter(|rest| rest.starts_with([' ', '{'])).map(unescaped)
        }
    };
    match (table, format) {
        (Some(table), _) => drawn(rows, table.trim_start(), columns),
        (None, format) => {
            let template = Template::parse(&unescaped(format.unwrap_or_default().trim()))?;
            let line = |row| template.fill(row, Missing::Field).map(|line| line + "\n");
            rows.iter().map(line).collect()
        }
    }
}

fn drawn(rows: &[Value], template: &str, columns: &Columns<'_>) -> Result<String, CliError> {
    let cells = |line: String| line.split('\t').map(str::to_owned).collect::<Vec<_>>();
    let titles = Template::parse_for_titles(template)?;
    let template = Template::parse(template)?;
    let mut lines = Vec::new();
    // Where there are no rows, any field may be named.
    let header = rows.first().map_or_else(|| usual_titles(columns), |row| titles_of(row, columns));
    lines.push(cells(titles.fill(&header, Missing::Field)?));
    for row in rows {
        lines.push(cells(template.fill(row, Missing::Field)?));
    }
    Ok(table::align(&lines))
}

/// The title of each field that a row has.
fn titles_of(row: &Value, columns: &Columns<'_>) -> Value {
    let names = row.as_object().into_iter().flat_map(|fields| fields.keys());
    names
        .map(|name| (name.clone(), Value::from(title(name, columns))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// The titles of the fields that the usual table has.
fn usual_titles(columns: &Columns<'_>) -> Value {
    let names = columns.template.split("{{.").skip(1).filter_map(|part| part.split("}}").next());
    let names = names.chain(columns.titles.iter().map(|(name, _)| *name));
    names
        .map(|name| (name.to_owned(), Value::from(title(name, columns))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// `CreatedAt` is `CREATED AT`, unless it has a title of its own.
fn title(name: &str, columns: &Columns<'_>) -> String {
    if let Some((_, title)) = columns.titles.iter().find(|(field, _)| *field == name) {
        return (*title).to_owned();
    }
    let mut title = String::new();
    let mut before = 'A';
    for c in name.chars() {
        if c.is_uppercase() && before.is_lowercase() {
            title.push(' ');
        }
        title.extend(c.to_uppercase());
        before = c;
    }
    title
}

/// Docker reads `\t` and `\n` in formats of lists as what they stand for.
fn unescaped(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const COLUMNS: Columns<'static> =
        Columns { template: "{{.ID}}\t{{.Names}}", titles: &[("ID", "CONTAINER ID")] };

    fn table(template: &str) -> String {
        drawn(
            &[json!({"ID": "1", "Names": "one", "CreatedAt": "now", "Label": {"a": "x"}})],
            template,
            &COLUMNS,
        )
        .unwrap()
    }

    #[test]
    fn titles_are_those_of_docker() {
        assert_eq!(table("{{.ID}}\t{{.Names}}"), "CONTAINER ID   NAMES\n1              one\n");
        assert_eq!(table("{{.CreatedAt}}\t{{.Names | upper}}"), "CREATED AT   NAMES\nnow          ONE\n");
        assert_eq!(table("{{.Label \"a\"}}\t{{.ID}}"), "a         CONTAINER ID\nx         1\n");
        assert!(drawn(&[], "{{.ID}}\t{{.Names}}", &COLUMNS).unwrap().starts_with("CONTAINER ID"));
    }
}
