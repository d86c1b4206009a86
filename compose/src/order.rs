//! In which order services are started: each after what it waits for.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::ComposeError;
use crate::model::Service;

/// All services, each after what it waits for, and by name otherwise.
///
/// # Errors
/// [`ComposeError::Cycle`], which names those that wait for each other.
pub(crate) fn sorted(services: &BTreeMap<String, Service>) -> Result<Vec<&Service>, ComposeError> {
    let mut order = Vec::new();
    let mut done = BTreeSet::new();
    for name in services.keys() {
        visit(services, name, &mut Vec::new(), &mut done, &mut order)?;
    }
    Ok(order)
}

fn visit<'a>(
    services: &'a BTreeMap<String, Service>,
    start: &'a str,
    path: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
    order: &mut Vec<&'a Service>,
) -> Result<(), ComposeError> {
    // Not by recursion: a file may have a chain of any length.
    let needs = |name: &str| services.get(name).map(|service| service.dependencies.keys());
    let mut open = vec![];
    if !done.contains(start) {
        path.push(start);
        open.push(needs(start).into_iter().flatten());
    }
    while let (Some(next), Some(name)) = (open.last_mut(), path.last().copied()) {
        match next.next() {
            Some(other) if path.contains(&other.as_str()) => {
                let from = path.iter().position(|on_path| *on_path == other).unwrap_or(0);
                let circle = path[from..].iter().copied().chain([other.as_str()]);
                return Err(ComposeError::Cycle { path: circle.map(str::to_owned).collect() });
            }
            Some(other) if done.contains(other.as_str()) || !services.contains_key(other) => {}
            Some(other) => {
                path.push(other);
                open.push(needs(other).into_iter().flatten());
            }
            None => {
                open.pop();
                path.pop();
                done.insert(name);
                order.extend(services.get(name));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    fn order(text: &str) -> Result<Vec<String>, String> {
        let root = yaml::parse(&"f".into(), text).unwrap().swap_remove(0);
        let service = |(name, node): (&String, &yaml::Node)| {
            let text = format!("a: {{image: x, depends_on: {}}}", crate::canonical::json(node));
            let mut one = yaml::parse(&"f".into(), &format!("services:\n  {text}")).unwrap().swap_remove(0);
            crate::normal::document(
                &mut one,
                &crate::paths::Base { directory: "/".into(), home: None, raw: false },
            )
            .unwrap();
            let node = one.get("services").unwrap().get("a").unwrap().clone();
            (name.clone(), Service::new(name, node).unwrap())
        };
        let services = root.map().unwrap().iter().map(service).collect();
        sorted(&services)
            .map(|all| all.into_iter().map(|service| service.name.clone()).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn each_comes_after_what_it_waits_for() {
        assert_eq!(order("{a: [c], b: [], c: [d], d: []}").unwrap(), ["d", "c", "a", "b"]);
        assert_eq!(order("{a: [b, c], b: [c], c: []}").unwrap(), ["c", "b", "a"]);
    }

    #[test]
    fn circles_are_named() {
        let told = "dependency cycle detected: b -> c -> b";
        assert_eq!(order("{a: [b], b: [c], c: [b]}"), Err(told.to_owned()));
        assert_eq!(order("{a: [a]}"), Err("dependency cycle detected: a -> a".to_owned()));
    }
}
