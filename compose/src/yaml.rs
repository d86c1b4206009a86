//! YAML as a tree whose nodes know where they stand, with anchors, merges (`<<`) and Compose's own tags resolved or kept.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, Span};

use crate::error::ComposeError;

/// How deep collections may lie in each other.
const DEEPEST: usize = 100;

/// How many nodes a file may have when all aliases stand for what they mean.
const MOST_NODES: usize = 200_000;

/// Where something was written.
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    /// The file as it was named.
    pub file: Arc<str>,
    /// The line, from 1; 0 is the file as a whole.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What a file says about how a node meets one of an earlier file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// `!reset`: there is nothing any more.
    Reset,
    /// `!override`: it replaces what was there, whatever is usual.
    Override,
}

/// A mapping. Its order means nothing in Compose files.
pub type Map = BTreeMap<String, Node>;

/// A part of a document.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Where it was written.
    pub place: Place,
    /// How it meets an earlier one.
    pub tag: Option<Tag>,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Another number.
    Float(f64),
    /// A text.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping.
    Map(Map),
}

impl Value {
    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Int(_) | Self::Float(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

impl Node {
    /// A node that stands where another one does.
    pub fn at(place: &Place, value: Value) -> Self {
        Self { value, place: place.clone(), tag: None }
    }

    /// A text that stands where another node does.
    pub fn text_at(place: &Place, text: impl Into<String>) -> Self {
        Self::at(place, Value::Text(text.into()))
    }

    /// A mapping that stands where another node does.
    pub fn map_at<const N: usize>(place: &Place, entries: [(&str, Node); N]) -> Self {
        Self::at(place, Value::Map(entries.map(|(key, node)| (key.to_owned(), node)).into()))
    }

    /// The same node with another value.
    #[must_use]
    pub fn with(self, value: Value) -> Self {
        Self { value, ..self }
    }

    /// Its entries, if it is a mapping.
    pub fn map(&self) -> Option<&Map> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// Its entries, to be changed.
    pub fn map_mut(&mut self) -> Option<&mut Map> {
        match &mut self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The entry of a mapping.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.map().and_then(|map| map.get(key)).filter(|node| node.value != Value::Null)
    }

    /// Its items; none if it is no sequence.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// It as text, if it is a scalar other than null.
    pub fn text(&self) -> Option<String> {
        match &self.value {
            Value::Text(text) => Some(text.clone()),
            Value::Bool(value) => Some(value.to_string()),
            Value::Int(number) => Some(number.to_string()),
            Value::Float(number) => Some(number.to_string()),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// It as true or false, also if it was written as a text.
    pub fn bool(&self) -> Option<bool> {
        match &self.value {
            Value::Bool(value) => Some(*value),
            Value::Text(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "y" | "on" | "1" => Some(true),
                "false" | "no" | "n" | "off" | "0" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    /// It as a whole number, also if it was written as a text.
    pub fn int(&self) -> Option<i64> {
        match &self.value {
            Value::Int(number) => Some(*number),
            Value::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// It as a number, also if it was written as a text.
    pub fn number(&self) -> Option<f64> {
        match &self.value {
            Value::Int(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            Value::Text(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
            _ => None,
        }
    }
}

/// Reads every document of a file; those that are empty are left out.
///
/// # Errors
/// [`ComposeError::Yaml`] with the line.
pub fn parse(file: &Arc<str>, text: &str) -> Result<Vec<Node>, ComposeError> {
    let mut reader = Reader { parser: Parser::new_from_str(text), file, anchors: HashMap::new(), nodes: 0 };
    let mut documents = Vec::new();
    while let Some((event, span)) = reader.next()? {
        if matches!(
            event,
            Event::StreamStart | Event::StreamEnd | Event::DocumentStart(..) | Event::DocumentEnd
        ) {
            continue;
        }
        let (node, _) = reader.node(event, span, 0)?;
        if node.value != Value::Null {
            documents.push(node);
        }
    }
    Ok(documents)
}

struct Reader<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    file: &'a Arc<str>,
    /// What anchors stand for, with the number of nodes.
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, ComposeError> {
        loop {
            let next = self.parser.next().transpose();
            let next = next.map_err(|error| self.error(error.marker().line(), error.info()))?;
            // Comments exist only if another crate asks the parser for them.
            let is_node = |event: &Event<'_>| {
                event.is_node()
                    || matches!(
                        event,
                        Event::StreamStart
                            | Event::StreamEnd
                            | Event::DocumentStart(..)
                            | Event::DocumentEnd
                            | Event::SequenceEnd
                            | Event::MappingEnd
                            | Event::Alias(_)
                    )
            };
            match next {
                Some((event, _)) if !is_node(&event) => {}
                next => return Ok(next),
            }
        }
    }

    /// What has to follow inside of a collection.
    fn inside(&mut self, line: usize) -> Result<(Event<'a>, Span), ComposeError> {
        self.next()?.ok_or_else(|| self.error(line, "the file ends too early".to_owned()))
    }

    fn error(&self, line: usize, why: String) -> ComposeError {
        ComposeError::Yaml { place: Place { file: self.file.clone(), line }, why }
    }

    /// A node, and how many nodes it is.
    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<(Node, usize), ComposeError> {
        let line = span.start.line();
        if depth > DEEPEST {
            return Err(self.error(line, format!("more than {DEEPEST} levels of nesting")));
        }
        let place = Place { file: self.file.clone(), line };
        let own = |event: &Event<'_>| event.tag().and_then(|tag| own_tag(tag.handle(), tag.suffix()));
        let tag = own(&event);
        let (value, anchor, count) = match event {
            Event::Alias(id) => {
                let Some((node, count)) = self.anchors.get(&id).cloned() else {
                    return Err(self.error(line, "an alias inside of what it stands for".to_owned()));
                };
                self.count(count, line)?;
                return Ok((node, count));
            }
            Event::Scalar(text, style, anchor, tag) => {
                let kind = tag.as_ref().and_then(|tag| tag.core_suffix().map(str::to_owned));
                let plain = style == ScalarStyle::Plain;
                let value = match kind.as_deref() {
                    Some("str") => Value::Text(text.into_owned()),
                    _ if plain => plain_scalar(&text),
                    _ => Value::Text(text.into_owned()),
                };
                (value, anchor, 1)
            }
            Event::SequenceStart(_, anchor, _) => {
                let (mut items, mut count) = (Vec::new(), 1);
                loop {
                    let (event, span) = self.inside(line)?;
                    if matches!(event, Event::SequenceEnd) {
                        break;
                    }
                    let (item, nodes) = self.node(event, span, depth + 1)?;
                    count += nodes;
                    items.push(item);
                }
                (Value::List(items), anchor, count)
            }
            Event::MappingStart(_, anchor, _) => {
                let (map, count) = self.mapping(line, depth)?;
                (Value::Map(map), anchor, count + 1)
            }
            other => return Err(self.error(line, format!("unexpected {other:?}"))),
        };
        self.count(1, line)?;
        let node = Node { value, place, tag };
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), count));
        }
        Ok((node, count))
    }

    fn count(&mut self, nodes: usize, line: usize) -> Result<(), ComposeError> {
        self.nodes = self.nodes.saturating_add(nodes);
        match self.nodes > MOST_NODES {
            true => {
                Err(self
                    .error(line, format!("more than {MOST_NODES} nodes, counting what aliases stand for")))
            }
            false => Ok(()),
        }
    }

    fn mapping(&mut self, line: usize, depth: usize) -> Result<(Map, usize), ComposeError> {
        let (mut map, mut merged, mut count) = (Map::new(), Vec::new(), 0);
        loop {
            let (event, span) = self.inside(line)?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let is_merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<");
            let line = span.start.line();
            let (key, _) = self.node(event, span, depth + 1)?;
            let (event, span) = self.inside(line)?;
            let (value, nodes) = self.node(event, span, depth + 1)?;
            count += nodes + 1;
            if is_merge {
                merged.push(value);
                continue;
            }
            let Some(key) = key.text().or_else(|| (key.value == Value::Null).then(String::new)) else {
                return Err(self.error(line, format!("{} as a key", key.value.kind())));
            };
            if let Some(earlier) = map.get(&key) {
                let earlier: &Node = earlier;
                let why = format!("mapping key \"{key}\" already defined at line {}", earlier.place.line);
                return Err(self.error(line, why));
            }
            map.insert(key, value);
        }
        for node in merged {
            self.merge(&mut map, node)?;
        }
        Ok((map, count))
    }

    /// `<<`: what the mapping does not say itself.
    fn merge(&self, map: &mut Map, from: Node) -> Result<(), ComposeError> {
        match from.value {
            Value::Map(entries) => {
                for (key, node) in entries {
                    map.entry(key).or_insert(node);
                }
                Ok(())
            }
            Value::List(items) => items.into_iter().try_for_each(|item| self.merge(map, item)),
            Value::Null => Ok(()),
            other => {
                let why = format!("<< needs a mapping or a list of mappings, not {}", other.kind());
                Err(self.error(from.place.line, why))
            }
        }
    }
}

fn own_tag(handle: &str, suffix: &str) -> Option<Tag> {
    match (handle, suffix) {
        ("!", "reset") => Some(Tag::Reset),
        ("!", "override") => Some(Tag::Override),
        _ => None,
    }
}

/// A scalar without quotes, by the core schema of YAML 1.2.
fn plain_scalar(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return Value::Text(text.to_owned());
    }
    let based =
        |prefix: &str, radix| digits.strip_prefix(prefix).map(|rest| i64::from_str_radix(rest, radix));
    let number = based("0x", 16)
        .or_else(|| based("0o", 8))
        // As in YAML 1.1, which modes of files are still written in.
        .or_else(|| based("0", 8).filter(|_| digits.len() > 1 && digits.bytes().all(|b| b.is_ascii_digit())))
        .unwrap_or_else(|| digits.parse());
    if let Ok(number) = number {
        return Value::Int(if text.starts_with('-') { -number } else { number });
    }
    let is_decimal = digits.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    match text.parse::<f64>() {
        Ok(number) if is_decimal && number.is_finite() => Value::Float(number),
        _ => Value::Text(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Node {
        parse(&"f".into(), text).unwrap().swap_remove(0)
    }

    fn error(text: &str) -> String {
        parse(&"f".into(), text).unwrap_err().to_string()
    }

    #[test]
    fn scalars_have_types() {
        for (text, value) in [
            ("a: true", Value::Bool(true)),
            ("a: yes", Value::Text("yes".to_owned())),
            ("a: 1_0", Value::Text("1_0".to_owned())),
            ("a: 12", Value::Int(12)),
            ("a: -3", Value::Int(-3)),
            ("a: 0440", Value::Int(0o440)),
            ("a: 0o440", Value::Int(0o440)),
            ("a: 0x10", Value::Int(16)),
            ("a: 1.5", Value::Float(1.5)),
            ("a: '1.5'", Value::Text("1.5".to_owned())),
            ("a: 1.2.3", Value::Text("1.2.3".to_owned())),
            ("a: 8080:80", Value::Text("8080:80".to_owned())),
            ("a: !!str 5", Value::Text("5".to_owned())),
            ("a: ~", Value::Null),
            ("a:", Value::Null),
        ] {
            assert_eq!(one(text).map().unwrap()["a"].value, value, "{text}");
        }
    }

    #[test]
    fn anchors_merges_and_tags() {
        let node = one(
            "x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\nz:\n  <<: [*x, {c: 4}]\nr: !reset []\no: !override {a: 1}\n",
        );
        assert_eq!(node.get("y").unwrap().get("a").unwrap().int(), Some(1));
        assert_eq!(node.get("y").unwrap().get("b").unwrap().int(), Some(3));
        assert_eq!(node.get("z").unwrap().get("c").unwrap().int(), Some(4));
        assert_eq!(node.get("r").unwrap().tag, Some(Tag::Reset));
        assert_eq!(node.get("o").unwrap().tag, Some(Tag::Override));
        assert_eq!(node.get("y").unwrap().place.to_string(), "f:3");
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        assert_eq!(error("a: 1\nb: 2\na: 3\n"), "f:3: mapping key \"a\" already defined at line 1");
        assert!(error("a: [1\n").starts_with("f:"));
        assert!(error("a: *nowhere\n").starts_with("f:1: "));
        assert!(error("a: &a [*a]\n").starts_with("f:1: "));
        assert!(error("a:\n  <<: 5\n").contains("needs a mapping"));
        assert!(error("{a: 1}: 2\n").contains("a mapping as a key"));
    }

    #[test]
    fn hostile_files_are_refused_early() {
        let mut laughs = "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n".to_owned();
        for level in 1..12 {
            let before = format!("*a{}", level - 1);
            laughs += &format!("a{level}: &a{level} [{}]\n", [before.as_str(); 10].join(","));
        }
        assert!(error(&laughs).contains("counting what aliases stand for"));
        let deep = format!("a: {}{}", "[".repeat(5000), "]".repeat(5000));
        assert!(error(&deep).starts_with("f:1: "));
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_odd(text in "(?s)[ \n\t:{}\\[\\],&*!<'\"|>#?-]{0,40}|(?s).{0,80}") {
            let _ = parse(&"f".into(), &text);
        }
    }
}
