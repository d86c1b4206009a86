//! The short forms of ports, volumes, secrets and the like, turned into the long ones.

use crate::error::ComposeError;
use crate::yaml::{Node, Place, Value};

fn invalid(place: &Place, path: &str, why: impl Into<String>) -> ComposeError {
    ComposeError::Invalid { place: place.clone(), path: path.to_owned(), why: why.into() }
}

/// `[ADDRESS:][PORTS:]PORTS[/PROTOCOL]` as one entry for each port of the container.
pub(crate) fn ports(node: &Node, path: &str) -> Result<Vec<Node>, ComposeError> {
    let text = node.text().unwrap_or_default();
    let bad = |why: &str| invalid(&node.place, path, format!("invalid port \"{text}\": {why}"));
    let (rest, protocol) = text.split_once('/').unwrap_or((&text, "tcp"));
    if !matches!(protocol, "tcp" | "udp" | "sctp") {
        return Err(bad("the protocol is tcp, udp or sctp"));
    }
    let (before, target) =
        rest.rsplit_once(':').map_or((None, rest), |(before, target)| (Some(before), target));
    let (address, published) = match before {
        None => (None, None),
        Some(before) => match before.rsplit_once(':') {
            Some((address, published)) => (Some(address), Some(published)),
            None if before.contains('.') => (Some(before), None),
            None => (None, Some(before)),
        },
    };
    let address = address.map(|address| address.trim_start_matches('[').trim_end_matches(']'));
    if address.is_some_and(|address| address.parse::<std::net::IpAddr>().is_err()) {
        return Err(bad("that is no IP address"));
    }
    let range =
        |text: &str| port_range(text).ok_or_else(|| bad("ports are numbers from 1 to 65535, or ranges"));
    let targets = range(target)?;
    let published = published.filter(|published| !published.is_empty());
    let offered = published.map(range).transpose()?;
    let (first, last) = targets;
    let of_target = |target: u16| -> Result<Option<String>, ComposeError> {
        Ok(match offered {
            None => None,
            Some((from, to)) if to - from == last - first => Some((from + (target - first)).to_string()),
            // Any port of the range.
            Some(_) if first == last => published.map(str::to_owned),
            Some(_) => return Err(bad("the ranges have different lengths")),
        })
    };
    (first..=last)
        .map(|target| {
            let place = &node.place;
            let mut entry = Node::map_at(
                place,
                [
                    ("mode", Node::text_at(place, "ingress")),
                    ("protocol", Node::text_at(place, protocol)),
                    ("target", Node::at(place, Value::Int(i64::from(target)))),
                ],
            );
            let map = entry.map_mut().into_iter();
            let published = of_target(target)?.map(|published| ("published", published));
            let address = address.map(|address| ("host_ip", address.to_owned()));
            for map in map {
                for (key, text) in published.iter().chain(&address) {
                    map.insert((*key).to_owned(), Node::text_at(place, text.clone()));
                }
            }
            Ok(entry)
        })
        .collect()
}

fn port_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    Some((port(first)?, port(last)?)).filter(|(first, last)| first <= last)
}

/// `[SOURCE:]TARGET[:OPTIONS]`
pub(crate) fn volume(node: &Node, path: &str) -> Result<Node, ComposeError> {
    let (text, place) = (node.text().unwrap_or_default(), &node.place);
    let parts: Vec<&str> = text.split(':').collect();
    let bad = |why: &str| invalid(place, path, format!("invalid spec: {text}: {why}"));
    let (source, target, options) = match parts[..] {
        [target] => (None, target, ""),
        [source, target] => (Some(source), target, ""),
        [source, target, options] => (Some(source), target, options),
        _ => return Err(bad("too many colons")),
    };
    if target.is_empty() || source == Some("") {
        return Err(bad("empty section between colons"));
    }
    let is_path = source.is_some_and(|source| source.starts_with(['/', '.', '~']));
    let mut entry = Node::map_at(
        place,
        [
            ("type", Node::text_at(place, if is_path { "bind" } else { "volume" })),
            ("target", Node::text_at(place, target)),
        ],
    );
    let Some(map) = entry.map_mut() else { return Ok(entry) };
    if let Some(source) = source {
        map.insert("source".to_owned(), Node::text_at(place, source));
    }
    let mut details = Vec::new();
    let yes = || Node::at(place, Value::Bool(true));
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => drop(map.insert("read_only".to_owned(), yes())),
            "rw" | "cached" | "delegated" | "consistent" => {}
            "nocopy" if !is_path => details.push(("nocopy", yes())),
            "z" | "Z" if is_path => details.push(("selinux", Node::text_at(place, option))),
            "z" | "Z" => {}
            "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" if is_path => {
                details.push(("propagation", Node::text_at(place, option)));
            }
            other => return Err(bad(&format!("unknown option \"{other}\""))),
        }
    }
    if is_path {
        details.push(("create_host_path", yes()));
    }
    if !details.is_empty() {
        let details = details.into_iter().map(|(key, node)| (key.to_owned(), node)).collect();
        let kind = if is_path { "bind" } else { "volume" };
        map.insert(kind.to_owned(), Node::at(place, Value::Map(details)));
    }
    Ok(entry)
}

/// `NAME[=VALUE]` as a mapping; what has no value is null.
pub(crate) fn pairs(node: Node, separators: &[char]) -> Node {
    let place = node.place.clone();
    let is_list = matches!(&node.value, Value::List(items) if items.iter().all(|item| item.text().is_some()));
    if !is_list {
        return node;
    }
    let pair = |item: &Node| {
        let text = item.text().unwrap_or_default();
        match text.split_once(separators) {
            Some((name, value)) => (name.trim().to_owned(), Node::text_at(&item.place, value)),
            None => (text, Node::at(&item.place, Value::Null)),
        }
    };
    let map = node.items().iter().map(pair).collect();
    Node { value: Value::Map(map), place, tag: node.tag }
}

/// Words as a shell would split them.
pub(crate) fn words(node: Node, path: &str) -> Result<Node, ComposeError> {
    let Some(text) = node.text() else { return Ok(node) };
    let words = shlex::split(&text)
        .ok_or_else(|| invalid(&node.place, path, format!("unbalanced quotes in \"{text}\"")))?;
    let items = words.into_iter().map(|word| Node::text_at(&node.place, word)).collect();
    Ok(node.with(Value::List(items)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical;

    fn node(text: &str) -> Node {
        Node::text_at(&Place { file: "f".into(), line: 1 }, text)
    }

    fn shown(nodes: Vec<Node>) -> String {
        nodes.iter().map(|node| canonical::json(node).to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ports_have_addresses_ranges_and_protocols() {
        let read = |text| ports(&node(text), "p").map(shown).map_err(|error| error.to_string());
        for (text, expected) in [
            ("80", r#"{"mode":"ingress","protocol":"tcp","target":80}"#),
            ("8080:80", r#"{"mode":"ingress","protocol":"tcp","published":"8080","target":80}"#),
            (
                "127.0.0.1:53:53/udp",
                r#"{"host_ip":"127.0.0.1","mode":"ingress","protocol":"udp","published":"53","target":53}"#,
            ),
            ("127.0.0.1::80", r#"{"host_ip":"127.0.0.1","mode":"ingress","protocol":"tcp","target":80}"#),
            (
                "[::1]:1:2",
                r#"{"host_ip":"::1","mode":"ingress","protocol":"tcp","published":"1","target":2}"#,
            ),
            ("8000-8010:80", r#"{"mode":"ingress","protocol":"tcp","published":"8000-8010","target":80}"#),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
        }
        let two = read("9001-9002:91-92").unwrap();
        assert!(
            two.contains(r#""published":"9001","target":91"#)
                && two.contains(r#""published":"9002","target":92"#)
        );
        for bad in ["", "x", "0", "70000", "1:2:3:4", "80/x", "5-4", "1-3:1-2", "a:80", "300.1.1.1:1:2"] {
            assert!(read(bad).unwrap_err().starts_with("f:1: p: invalid port"), "{bad}");
        }
    }

    #[test]
    fn volumes_are_paths_names_or_nothing() {
        let read = |text| {
            volume(&node(text), "v")
                .map(|node| canonical::json(&node).to_string())
                .map_err(|error| error.to_string())
        };
        for (text, expected) in [
            ("/data", r#"{"target":"/data","type":"volume"}"#),
            ("db:/data:ro", r#"{"read_only":true,"source":"db","target":"/data","type":"volume"}"#),
            (
                "db:/data:nocopy",
                r#"{"source":"db","target":"/data","type":"volume","volume":{"nocopy":true}}"#,
            ),
            (
                "./a:/b:rw,z,rslave",
                r#"{"bind":{"create_host_path":true,"propagation":"rslave","selinux":"z"},"source":"./a","target":"/b","type":"bind"}"#,
            ),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
        }
        for bad in ["", ":/b", "a:", "a:/b:odd", "a:/b:ro:x"] {
            assert!(read(bad).unwrap_err().contains("invalid spec"), "{bad}");
        }
    }

    #[test]
    fn commands_are_words() {
        let read = |text| words(node(text), "c").map(|node| canonical::json(&node).to_string());
        assert_eq!(read("sh -c 'a b' \"\"").unwrap(), r#"["sh","-c","a b",""]"#);
        assert!(read("sh 'open").is_err());
    }
}
