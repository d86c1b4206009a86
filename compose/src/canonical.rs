//! A tree as it is shown: YAML or JSON with sorted keys.

use crate::yaml::{Node, Value};

/// The tree as JSON.
pub fn json(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::Text(text) => text.as_str().into(),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(map) => map.iter().map(|(key, node)| (key.clone(), json(node))).collect(),
    }
}

/// The tree in whose texts a `$` stands for itself when they are interpolated again.
#[must_use]
pub fn escaped(mut node: Node) -> Node {
    escape(&mut node);
    node
}

fn escape(node: &mut Node) {
    match &mut node.value {
        Value::Text(text) => *text = text.replace('$', "$$"),
        Value::List(items) => items.iter_mut().for_each(escape),
        Value::Map(map) => map.values_mut().for_each(escape),
        _ => {}
    }
}

/// The tree as YAML.
pub fn yaml(node: &Node) -> String {
    let mut out = String::new();
    block(&mut out, node, 0);
    out
}

fn block(out: &mut String, node: &Node, indent: usize) {
    match &node.value {
        Value::Map(map) => {
            for (key, value) in map {
                out.push_str(&" ".repeat(indent));
                entry(out, key, value, indent);
            }
        }
        Value::List(items) => {
            for item in items {
                out.push_str(&" ".repeat(indent));
                out.push('-');
                match &item.value {
                    Value::Map(map) if !map.is_empty() => {
                        for (index, (key, value)) in map.iter().enumerate() {
                            out.push_str(&" ".repeat(if index == 0 { 1 } else { indent + 2 }));
                            entry(out, key, value, indent + 2);
                        }
                    }
                    Value::List(items) if !items.is_empty() => {
                        out.push('\n');
                        block(out, item, indent + 2);
                    }
                    _ => line(out, item),
                }
            }
        }
        _ => line(out, node),
    }
}

fn entry(out: &mut String, key: &str, value: &Node, indent: usize) {
    out.push_str(&scalar_text(key));
    out.push(':');
    match &value.value {
        Value::Map(map) if !map.is_empty() => {
            out.push('\n');
            block(out, value, indent + 2);
        }
        Value::List(items) if !items.is_empty() => {
            out.push('\n');
            block(out, value, indent + 2);
        }
        _ => line(out, value),
    }
}

/// What fits in the line that has begun.
fn line(out: &mut String, node: &Node) {
    out.push(' ');
    match &node.value {
        Value::Null => out.push_str("null"),
        Value::Text(text) => out.push_str(&scalar_text(text)),
        Value::Map(_) => out.push_str("{}"),
        Value::List(_) => out.push_str("[]"),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => out.push_str(&node.text().unwrap_or_default()),
    }
    out.push('\n');
}

/// A text as it is, or in quotes where it would be something else.
fn scalar_text(text: &str) -> String {
    let is_plain =
        |c: char| c.is_ascii_alphanumeric() || "_-./@+=,~^%()<>;$ ".contains(c) || c.is_alphabetic();
    let first = |c: char| c.is_ascii_alphabetic() || c == '/' || c == '_' || c == '.' || c == '$';
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let plain = text.starts_with(first)
        && text.chars().all(|c| is_plain(c) || c == ':')
        && !text.contains(": ")
        && !text.ends_with([' ', ':'])
        && !words.contains(&text.to_ascii_lowercase().as_str())
        && text.parse::<f64>().is_err();
    if plain { text.to_owned() } else { quoted(text) }
}

/// A text in double quotes.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            ' '..='~' => quoted.push(c),
            c if c.is_alphanumeric() => quoted.push(c),
            // What no line may have, or nobody could see.
            c => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Node {
        crate::yaml::parse(&"f".into(), text).unwrap().swap_remove(0)
    }

    #[test]
    fn trees_are_written_with_sorted_keys() {
        let text = "b:\n  - x: 1\n    z: {}\n  - [1, two]\n  - '8080:80'\na: {k: null, l: []}\nc: 'yes'\n";
        let expected = "a:\n  k: null\n  l: []\nb:\n  - x: 1\n    z: {}\n  -\n    - 1\n    - two\n  - \"8080:80\"\nc: \"yes\"\n";
        assert_eq!(yaml(&read(text)), expected);
        assert_eq!(
            json(&read(text)).to_string(),
            r#"{"a":{"k":null,"l":[]},"b":[{"x":1,"z":{}},[1,"two"],"8080:80"],"c":"yes"}"#
        );
    }

    proptest! {
        #[test]
        fn every_text_is_read_again(key in "\\PC{1,12}", text in "(?s).{0,20}") {
            let place = crate::yaml::Place { file: "f".into(), line: 1 };
            let node = Node::map_at(&place, [(key.as_str(), Node::text_at(&place, text.clone()))]);
            prop_assert_eq!(json(&read(&yaml(&node))), json(&node));
        }
    }
}
