//! Every short form of a file turned into its long one, and every path made absolute, so that what comes after knows one form.

use base::GitUrl;
use base::git_url::is_http;

use crate::error::ComposeError;
use crate::paths::Base;
use crate::short;
use crate::yaml::{Map, Node, Place, Value};

type Result<T> = std::result::Result<T, ComposeError>;

/// Brings a file into the long form.
pub(crate) fn document(root: &mut Node, base: &Base) -> Result<()> {
    let Some(map) = root.map_mut() else { return Ok(()) };
    for (key, part) in map.iter_mut() {
        let Some(entries) = part.map_mut() else {
            if key == "include" {
                change(part, include_list);
            }
            continue;
        };
        for (name, entry) in entries.iter_mut() {
            let path = format!("{key}.{name}");
            match key.as_str() {
                "services" => service(entry, &path, base)?,
                "secrets" | "configs" => file(entry, "file", base),
                "networks" | "volumes" => named(entry),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Replaces a node by what is made of it.
fn change(node: &mut Node, make: impl FnOnce(Node) -> Node) {
    let place = node.place.clone();
    let taken = std::mem::replace(node, Node::at(&place, Value::Null));
    *node = make(taken);
}

/// The same with what may make no sense. A text that stays as it is has no long form yet.
fn try_change(node: &mut Node, base: &Base, make: impl FnOnce(Node) -> Result<Node>) -> Result<()> {
    if node.text().is_some_and(|text| base.leaves(&text)) {
        return Ok(());
    }
    let place = node.place.clone();
    let taken = std::mem::replace(node, Node::at(&place, Value::Null));
    *node = make(taken)?;
    Ok(())
}

/// Does something with an entry that is there.
fn entry(map: &mut Map, key: &str, act: impl FnOnce(&mut Node)) {
    if let Some(node) = map.get_mut(key).filter(|node| node.value != Value::Null) {
        act(node);
    }
}

/// A single text as a list of it.
fn list(node: Node) -> Node {
    match node.text() {
        Some(_) => {
            let item = Node { tag: None, ..node.clone() };
            node.with(Value::List(vec![item]))
        }
        None => node,
    }
}

/// A single text as a mapping with it.
fn keyed(key: &'static str) -> impl Fn(Node) -> Node {
    move |node| match node.text() {
        Some(text) => {
            Node { tag: node.tag, ..Node::map_at(&node.place, [(key, Node::text_at(&node.place, text))]) }
        }
        None => node,
    }
}

/// A list of names as a mapping from them.
fn names(node: Node, make: impl Fn(&Place) -> Node) -> Node {
    match &node.value {
        Value::List(items) if items.iter().all(|item| item.text().is_some()) => {
            let map = items.iter().filter_map(|item| Some((item.text()?, make(&item.place)))).collect();
            node.with(Value::Map(map))
        }
        _ => node,
    }
}

/// All items of a list changed.
fn items(node: Node, make: impl Fn(Node) -> Node) -> Node {
    match node.value {
        Value::List(items) => Node { value: Value::List(items.into_iter().map(make).collect()), ..node },
        _ => node,
    }
}

fn absolute(node: Node, base: &Base) -> Node {
    match node.text() {
        Some(text) => node.with(Value::Text(base.text(&text))),
        None => node,
    }
}

fn file(node: &mut Node, key: &str, base: &Base) {
    if let Some(map) = node.map_mut() {
        entry(map, key, |node| change(node, |node| absolute(node, base)));
    }
}

/// The labels and options of a network or volume. `external: {name: X}` is an older form.
fn named(node: &mut Node) {
    let Some(map) = node.map_mut() else { return };
    entry(map, "labels", |node| change(node, |node| short::pairs(node, &['='])));
    let older = map.get("external").filter(|external| external.map().is_some()).cloned();
    if let Some(older) = older {
        if let Some(name) = older.get("name") {
            map.insert("name".to_owned(), name.clone());
        }
        map.insert("external".to_owned(), Node::at(&older.place, Value::Bool(true)));
    }
}

fn include_list(node: Node) -> Node {
    items(list(node), |item| {
        let mut item = keyed("path")(item);
        if let Some(map) = item.map_mut() {
            entry(map, "path", |node| change(node, list));
            entry(map, "env_file", |node| change(node, list));
        }
        item
    })
}

fn service(node: &mut Node, path: &str, base: &Base) -> Result<()> {
    let Some(map) = node.map_mut() else { return Ok(()) };
    for key in ["environment", "labels", "annotations", "sysctls", "storage_opt"] {
        entry(map, key, |node| change(node, |node| short::pairs(node, &['='])));
    }
    for key in ["dns", "dns_search", "dns_opt", "tmpfs", "label_file", "profiles"] {
        entry(map, key, |node| change(node, list));
    }
    entry(map, "label_file", |node| change(node, |node| items(node, |item| absolute(item, base))));
    entry(map, "extra_hosts", |node| change(node, hosts));
    entry(map, "extends", |node| change(node, keyed("service")));
    entry(map, "networks", |node| change(node, |node| names(node, |place| Node::at(place, Value::Null))));
    entry(map, "depends_on", |node| change(node, dependencies));
    entry(map, "env_file", |node| change(node, |node| env_files(node, base)));
    for key in ["secrets", "configs"] {
        entry(map, key, |node| change(node, |node| items(node, keyed("source"))));
    }
    for key in ["command", "entrypoint"] {
        let below = format!("{path}.{key}");
        if let Some(node) = map.get_mut(key) {
            try_change(node, base, |node| short::words(node, &below))?;
        }
    }
    for key in ["post_start", "pre_stop"] {
        if let Some(node) = map.get_mut(key) {
            try_change(node, base, |node| hooks(node, &format!("{path}.{key}"), base))?;
        }
    }
    entry(map, "gpus", |node| change(node, |node| items(cards(node), card)));
    if let Some(test) = map.get_mut("healthcheck").and_then(Node::map_mut) {
        entry(test, "test", |node| change(node, health_test));
    }
    if let Some(ports) = map.get_mut("ports") {
        try_change(ports, base, |node| port_list(node, &format!("{path}.ports"), base))?;
    }
    if let Some(volumes) = map.get_mut("volumes") {
        try_change(volumes, base, |node| volume_list(node, &format!("{path}.volumes"), base))?;
    }
    entry(map, "build", |node| change(node, |node| build(node, base)));
    Ok(())
}

/// The hooks of a service, with their commands as words.
fn hooks(node: Node, path: &str, base: &Base) -> Result<Node> {
    let mut node = node;
    if let Value::List(items) = &mut node.value {
        for (index, hook) in items.iter_mut().enumerate() {
            let Some(map) = hook.map_mut() else { continue };
            entry(map, "environment", |node| change(node, |node| short::pairs(node, &['='])));
            let below = format!("{path}.{index}.command");
            if let Some(command) = map.get_mut("command") {
                try_change(command, base, |node| short::words(node, &below))?;
            }
        }
    }
    Ok(node)
}

/// `gpus: all`, in the long form.
fn cards(node: Node) -> Node {
    match node.text() {
        Some(count) => {
            let count = Node::text_at(&node.place, count);
            let card = node.clone().with(Value::Map([("count".to_owned(), count)].into_iter().collect()));
            node.with(Value::List(vec![card]))
        }
        None => node,
    }
}

fn card(mut node: Node) -> Node {
    if let Some(map) = node.map_mut() {
        for key in ["device_ids", "capabilities"] {
            entry(map, key, |node| change(node, list));
        }
    }
    node
}

fn hosts(node: Node) -> Node {
    match &node.value {
        Value::Map(map) => {
            let lines = |(name, address): (&String, &Node)| {
                let addresses: Vec<Node> = match &address.value {
                    Value::List(items) => items.clone(),
                    _ => vec![address.clone()],
                };
                let line = |one: Node| {
                    Node::text_at(&one.place, format!("{name}={}", one.text().unwrap_or_default()))
                };
                addresses.into_iter().map(line).collect::<Vec<_>>()
            };
            let list = map.iter().flat_map(lines).collect();
            node.with(Value::List(list))
        }
        _ => items(node, |item| match item.text() {
            Some(text) if !text.contains('=') => item.with(Value::Text(text.replacen(':', "=", 1))),
            _ => item,
        }),
    }
}

fn dependencies(node: Node) -> Node {
    let usual = |place: &Place| {
        let condition = Node::text_at(place, "service_started");
        Node::map_at(place, [("condition", condition), ("required", Node::at(place, Value::Bool(true)))])
    };
    let mut node = names(node, usual);
    for entry in node.map_mut().into_iter().flat_map(Map::values_mut) {
        let place = entry.place.clone();
        if let Some(map) = entry.map_mut() {
            map.entry("required".to_owned()).or_insert_with(|| Node::at(&place, Value::Bool(true)));
        }
    }
    node
}

fn env_files(node: Node, base: &Base) -> Node {
    items(list(node), |item| {
        let mut item = keyed("path")(item);
        let place = item.place.clone();
        if let Some(map) = item.map_mut() {
            map.entry("required".to_owned()).or_insert_with(|| Node::at(&place, Value::Bool(true)));
        }
        file(&mut item, "path", base);
        item
    })
}

fn health_test(node: Node) -> Node {
    match node.text() {
        Some(text) => {
            let words = ["CMD-SHELL".to_owned(), text].map(|word| Node::text_at(&node.place, word));
            node.with(Value::List(words.into()))
        }
        None => node,
    }
}

fn port_list(node: Node, path: &str, base: &Base) -> Result<Node> {
    let Value::List(items) = &node.value else { return Ok(node) };
    let mut ports = Vec::new();
    for item in items {
        match item.text() {
            Some(text) if base.leaves(&text) => ports.push(item.clone()),
            Some(_) => ports.extend(short::ports(item, path)?),
            None => ports.push(long_port(item.clone())),
        }
    }
    Ok(node.with(Value::List(ports)))
}

fn long_port(mut port: Node) -> Node {
    let place = port.place.clone();
    if let Some(map) = port.map_mut() {
        for (key, usual) in [("protocol", "tcp"), ("mode", "ingress")] {
            map.entry(key.to_owned()).or_insert_with(|| Node::text_at(&place, usual));
        }
        entry(map, "published", |node| {
            if let Some(text) = node.text() {
                node.value = Value::Text(text);
            }
        });
    }
    port
}

fn volume_list(node: Node, path: &str, base: &Base) -> Result<Node> {
    let Value::List(items) = &node.value else { return Ok(node) };
    let mut volumes = Vec::new();
    for item in items {
        let mut volume = match item.text() {
            Some(text) if base.leaves(&text) => item.clone(),
            Some(_) => short::volume(item, path)?,
            None => item.clone(),
        };
        let kind = volume.get("type").and_then(Node::text);
        if kind.as_deref() == Some("bind") {
            file(&mut volume, "source", base);
        }
        volumes.push(volume);
    }
    Ok(node.with(Value::List(volumes)))
}

/// Whether files come from elsewhere than this machine's directories.
fn is_remote(text: &str) -> bool {
    let is_path = text.starts_with(['.', '/', '~']);
    let is_git = || matches!(GitUrl::parse_context(text), Ok(Some(_)) | Err(_));
    !is_path && (is_http(text) || text.contains("://") || is_git())
}

fn build(node: Node, base: &Base) -> Node {
    let mut node = keyed("context")(node);
    let place = node.place.clone();
    let Some(map) = node.map_mut() else { return node };
    for key in ["args", "labels"] {
        entry(map, key, |node| change(node, |node| short::pairs(node, &['='])));
    }
    entry(map, "additional_contexts", |node| change(node, |node| short::pairs(node, &['='])));
    entry(map, "ssh", |node| change(node, |node| list_of_pairs(list(node))));
    entry(map, "extra_hosts", |node| change(node, hosts));
    entry(map, "secrets", |node| change(node, |node| items(node, keyed("source"))));
    let here = |node: Node| match node.text() {
        Some(text) if !base.leaves(&text) && !is_remote(&text) => absolute(node, base),
        _ => node,
    };
    map.entry("context".to_owned()).or_insert_with(|| Node::text_at(&place, "."));
    entry(map, "context", |node| change(node, here));
    if let Some(contexts) = map.get_mut("additional_contexts").and_then(Node::map_mut) {
        for context in contexts.values_mut() {
            let is_service = context.text().is_some_and(|text| text.starts_with("service:"));
            if !is_service {
                change(context, here);
            }
        }
    }
    node
}

/// A mapping as `NAME=VALUE` texts.
fn list_of_pairs(node: Node) -> Node {
    match &node.value {
        Value::Map(map) => {
            let line = |(name, value): (&String, &Node)| {
                let text = value.text().map_or_else(|| name.clone(), |value| format!("{name}={value}"));
                Node::text_at(&value.place, text)
            };
            let lines = map.iter().map(line).collect();
            node.with(Value::List(lines))
        }
        _ => node,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical;

    #[test]
    fn short_forms_become_long_ones() {
        let text = "services:\n  a:\n    build: ./app\n    command: run 'a b'\n    environment: [A=1, B]\n    depends_on: [b]\n    networks: [n]\n    env_file: x.env\n    healthcheck: {test: check it}\n    extra_hosts: {h: 10.0.0.1}\n    secrets: [s]\n    dns: 1.1.1.1\n    volumes: ['./d:/d']\n    ports: [{target: 80, published: 8080}]\n";
        let mut root = crate::yaml::parse(&"f".into(), text).unwrap().swap_remove(0);
        document(&mut root, &Base { directory: "/p".into(), home: None, raw: false }).unwrap();
        let service = canonical::json(root.get("services").unwrap().get("a").unwrap());
        for (pointer, expected) in [
            ("/build/context", "/p/app"),
            ("/command/1", "a b"),
            ("/environment/A", "1"),
            ("/depends_on/b/condition", "service_started"),
            ("/env_file/0/path", "/p/x.env"),
            ("/healthcheck/test/0", "CMD-SHELL"),
            ("/extra_hosts/0", "h=10.0.0.1"),
            ("/secrets/0/source", "s"),
            ("/dns/0", "1.1.1.1"),
            ("/volumes/0/source", "/p/d"),
            ("/ports/0/published", "8080"),
        ] {
            assert_eq!(
                service.pointer(pointer).and_then(serde_json::Value::as_str),
                Some(expected),
                "{pointer}"
            );
        }
        assert!(service["networks"]["n"].is_null() && service["environment"]["B"].is_null());
    }

    #[test]
    fn contexts_of_elsewhere_stay() {
        for remote in ["https://example.com/x.git", "git@example.com:a/b", "docker-image://alpine"] {
            assert!(is_remote(remote), "{remote}");
        }
        for here in [".", "./https", "app", "../x", "~/x", "/x"] {
            assert!(!is_remote(here), "{here}");
        }
    }
}
