//! What becomes of two files that say something about the same.

use std::collections::BTreeMap;

use crate::yaml::{Map, Node, Tag, Value};

/// Lists of a service that a later file replaces.
const REPLACED: [&str; 3] = ["command", "entrypoint", "test"];

/// Mappings in which an entry without a value means something.
const WITH_EMPTY: [&str; 3] = ["environment", "args", "labels"];

/// Lays `over` on `base`, both in their long forms. What is to be reset stays as a mark until [`settle`].
pub(crate) fn merge(base: Node, over: Node) -> Node {
    meet(&[], base, over)
}

fn meet(path: &[&str], base: Node, over: Node) -> Node {
    if over.tag.is_some() {
        return over;
    }
    let key = path.last().copied().unwrap_or_default();
    let Node { value, place, tag } = base;
    match (value, over.value) {
        (Value::Map(old), Value::Map(new)) => {
            // Options belong to their driver.
            let driver = |map: &Map| map.get("driver").and_then(Node::text);
            let other_driver = driver(&new).is_some() && driver(&old) != driver(&new);
            if key == "logging" && other_driver {
                return Node { value: Value::Map(new), ..over };
            }
            Node { value: Value::Map(maps(path, old, new)), place, tag: None }
        }
        (Value::List(old), Value::List(new)) => {
            let value = match key {
                key if REPLACED.contains(&key) => new,
                _ => lists(key, old, new),
            };
            Node { value: Value::List(value), place: over.place, tag: None }
        }
        // Nothing said is nothing changed.
        (value, Value::Null) => Node { value, place, tag },
        (_, value) => Node { value, place: over.place, tag: None },
    }
}

fn maps(path: &[&str], mut old: Map, new: Map) -> Map {
    let keeps_empty = path.last().is_some_and(|key| WITH_EMPTY.contains(key));
    for (key, over) in new {
        let met = match old.remove(&key) {
            Some(base) if !(keeps_empty && over.value == Value::Null) => {
                let mut below = path.to_vec();
                below.push(&key);
                meet(&below, base, over)
            }
            _ => over,
        };
        old.insert(key, met);
    }
    old
}

/// Both lists; an entry that is about the same as an earlier one takes its place.
fn lists(key: &str, old: Vec<Node>, new: Vec<Node>) -> Vec<Node> {
    let mut places = BTreeMap::new();
    let mut all: Vec<Node> = Vec::new();
    for item in old.into_iter().chain(new) {
        match places.entry(identity(key, &item)) {
            std::collections::btree_map::Entry::Occupied(at) => {
                let index: usize = *at.get();
                // What a mapping says about another one of the same kind is laid over it, too.
                let merged = match item.map().is_some() && matches!(key, "volumes" | "secrets" | "configs") {
                    true => meet(&[], all[index].clone(), item),
                    false => item,
                };
                all[index] = merged;
            }
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert(all.len());
                all.push(item);
            }
        }
    }
    all
}

/// By what an entry is known.
fn identity(key: &str, item: &Node) -> String {
    let field = |name: &str| item.get(name).and_then(Node::text);
    let known = match key {
        "volumes" => field("target").map(|target| target.trim_end_matches('/').to_owned()),
        "secrets" | "configs" => field("target").or_else(|| field("source")),
        "env_file" => field("path"),
        "ports" => {
            let parts =
                ["host_ip", "target", "published", "protocol"].map(|name| field(name).unwrap_or_default());
            Some(parts.join(" "))
        }
        _ => None,
    };
    known.unwrap_or_else(|| crate::canonical::json(item).to_string())
}

/// Removes what was to be reset, and the marks.
pub(crate) fn settle(node: &mut Node) {
    node.tag = None;
    match &mut node.value {
        Value::Map(map) => {
            map.retain(|_, node| node.tag != Some(Tag::Reset));
            map.values_mut().for_each(settle);
        }
        Value::List(items) => {
            items.retain(|node| node.tag != Some(Tag::Reset));
            items.iter_mut().for_each(settle);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical;
    use crate::paths::Base;

    fn merged(base: &str, over: &str) -> String {
        let read = |text: &str| {
            let text = format!("services:\n  a: {text}");
            let mut node = crate::yaml::parse(&"f".into(), &text).unwrap().swap_remove(0);
            crate::normal::document(&mut node, &Base { directory: "/".into(), home: None, raw: false })
                .unwrap();
            node
        };
        let mut node = merge(read(base), read(over));
        settle(&mut node);
        canonical::json(node.get("services").unwrap().get("a").unwrap()).to_string()
    }

    #[test]
    fn each_kind_has_its_rule() {
        for (base, over, expected) in [
            ("{image: a, tty: true}", "{image: b}", r#"{"image":"b","tty":true}"#),
            ("{command: a b}", "{command: [c]}", r#"{"command":["c"]}"#),
            (
                "{environment: [A=1, B=2]}",
                "{environment: {B: 3, A: }}",
                r#"{"environment":{"A":null,"B":3}}"#,
            ),
            ("{dns: 1.1.1.1}", "{dns: [2.2.2.2, 1.1.1.1]}", r#"{"dns":["1.1.1.1","2.2.2.2"]}"#),
            (
                "{networks: [a]}",
                "{networks: {b: {ipv4_address: 1.2.3.4}}}",
                r#"{"networks":{"a":null,"b":{"ipv4_address":"1.2.3.4"}}}"#,
            ),
            ("{cap_add: [A]}", "{cap_add: !override [B]}", r#"{"cap_add":["B"]}"#),
            ("{cap_add: [A], tty: true}", "{cap_add: !reset null}", r#"{"tty":true}"#),
            ("{environment: {A: 1, B: 2}}", "{environment: {A: !reset null}}", r#"{"environment":{"B":2}}"#),
            (
                "{logging: {driver: x, options: {a: 1}}}",
                "{logging: {driver: y}}",
                r#"{"logging":{"driver":"y"}}"#,
            ),
            (
                "{logging: {driver: x, options: {a: 1}}}",
                "{logging: {options: {b: 2}}}",
                r#"{"logging":{"driver":"x","options":{"a":1,"b":2}}}"#,
            ),
            ("{image: a}", "{image: }", r#"{"image":"a"}"#),
        ] {
            assert_eq!(merged(base, over), expected, "{base} {over}");
        }
        let volumes = merged("{volumes: ['a:/x', 'b:/y']}", "{volumes: ['./c:/x/']}");
        assert!(volumes.contains(r#""source":"/c""#) && !volumes.contains(r#""source":"a""#), "{volumes}");
        let ports = merged("{ports: ['80:80']}", "{ports: ['80:80', '81:80']}");
        assert_eq!(ports.matches("target").count(), 2);
    }
}
