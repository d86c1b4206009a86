//! Services that extend others, and files that include others.

use std::path::PathBuf;

use crate::error::ComposeError;
use crate::load::{Environment, Loader};
use crate::merge;
use crate::paths::Base;
use crate::yaml::{Node, Value};

/// A service that is being extended: its file, and its name.
type Step = (String, String);

/// Lays every service of a file on what it extends.
pub(crate) fn services(
    loader: &Loader<'_>,
    document: &mut Node,
    environment: &Environment<'_>,
    base: &Base,
) -> Result<(), ComposeError> {
    let names: Vec<String> = match document.get("services").and_then(Node::map) {
        Some(map) => map
            .iter()
            .filter(|(_, node)| node.get("extends").is_some())
            .map(|(name, _)| name.clone())
            .collect(),
        None => return Ok(()),
    };
    let whole = document.clone();
    for name in names {
        let extended = service(loader, &whole, &name, environment, base, &mut Vec::new())?;
        if let Some(map) = document.map_mut().and_then(|map| map.get_mut("services")).and_then(Node::map_mut)
        {
            map.insert(name, extended);
        }
    }
    Ok(())
}

/// A service of a file with what it extends.
fn service(
    loader: &Loader<'_>,
    document: &Node,
    name: &str,
    environment: &Environment<'_>,
    base: &Base,
    open: &mut Vec<Step>,
) -> Result<Node, ComposeError> {
    let found = document.get("services").and_then(|services| services.get(name)).cloned();
    let Some(mut own) = found else {
        return Err(ComposeError::NothingToExtend {
            place: document.place.clone(),
            name: name.to_owned(),
            file: document.place.file.to_string(),
        });
    };
    let Some(extends) = own.map_mut().and_then(|map| map.remove("extends")) else { return Ok(own) };
    let step = (document.place.file.to_string(), name.to_owned());
    if open.contains(&step) {
        let path = open.iter().chain([&step]).map(|(file, name)| format!("{name} in {file}")).collect();
        return Err(ComposeError::Circular { place: extends.place, path });
    }
    open.push(step);
    let Some(wanted) = extends.get("service").and_then(Node::text) else {
        let (path, why) = (format!("services.{name}.extends"), "it names no service".to_owned());
        return Err(ComposeError::Invalid { place: extends.place, path, why });
    };
    let missing = |error| match error {
        ComposeError::NothingToExtend { name, file, .. } => {
            ComposeError::NothingToExtend { place: extends.place.clone(), name, file }
        }
        other => other,
    };
    let extended = match extends.get("file").and_then(Node::text) {
        None => service(loader, document, &wanted, environment, base, open).map_err(missing)?,
        Some(file) => {
            let path = base.resolve(&file);
            let directory = path.parent().unwrap_or(&base.directory).to_owned();
            let base = Base { directory, ..base.clone() };
            let mut documents = loader.parse(&[path])?;
            if documents.is_empty() {
                let place = extends.place.clone();
                return Err(ComposeError::NothingToExtend { place, name: wanted, file });
            }
            let other = loader.prepare(documents.swap_remove(0), &base, environment)?;
            service(loader, &other, &wanted, environment, &base, open).map_err(missing)?
        }
    };
    open.pop();
    Ok(merge::merge(extended, own))
}

/// The files that a file includes, each as it is by itself.
pub(crate) fn included(
    loader: &Loader<'_>,
    document: &Node,
    environment: &Environment<'_>,
    base: &Base,
    open: &mut Vec<PathBuf>,
) -> Result<Vec<Node>, ComposeError> {
    let Some(list) = document.get("include") else { return Ok(Vec::new()) };
    let mut trees = Vec::new();
    for include in list.items() {
        let texts = |key: &str| -> Vec<String> {
            include
                .get(key)
                .map(|node| node.items().iter().filter_map(Node::text).collect())
                .unwrap_or_default()
        };
        let paths: Vec<PathBuf> = texts("path").iter().map(|path| base.resolve(path)).collect();
        let Some(first) = paths.first() else {
            let (path, why) = ("include".to_owned(), "it names no file".to_owned());
            return Err(ComposeError::Invalid { place: include.place.clone(), path, why });
        };
        if let Some(again) = paths.iter().find(|path| open.contains(path)) {
            let path = open.iter().chain([again]).map(|path| path.display().to_string()).collect();
            return Err(ComposeError::Circular { place: include.place.clone(), path });
        }
        let directory = match include.get("project_directory").and_then(Node::text) {
            Some(directory) => base.resolve(&directory),
            None => first.parent().unwrap_or(&base.directory).to_owned(),
        };
        let env_files: Vec<PathBuf> = texts("env_file").iter().map(|path| base.resolve(path)).collect();
        let mut own = loader.environment(&directory, &env_files)?;
        // What includes it has the last word.
        own.inner.extend(environment.inner.iter().map(|(name, value)| (name.clone(), value.clone())));
        let base = Base { directory, ..base.clone() };
        let documents = loader.parse(&paths)?;
        let depth = open.len();
        open.extend(paths);
        trees.push(loader.tree(documents, &base, &own, open)?);
        open.truncate(depth);
    }
    Ok(trees)
}

/// Adds what an included file defines. Nothing is defined twice in different ways.
pub(crate) fn import(document: &mut Node, mut other: Node) -> Result<(), ComposeError> {
    merge::settle(&mut other);
    let Value::Map(sections) = other.value else { return Ok(()) };
    let Some(map) = document.map_mut() else { return Ok(()) };
    for (section, node) in sections {
        if !["services", "networks", "volumes", "secrets", "configs"].contains(&section.as_str()) {
            continue;
        }
        let Value::Map(entries) = node.value else { continue };
        let place = node.place;
        let own =
            map.entry(section.clone()).or_insert_with(|| Node::at(&place, Value::Map(Default::default())));
        let Some(own) = own.map_mut() else { continue };
        for (name, entry) in entries {
            match own.get(&name) {
                Some(there) if crate::canonical::json(there) != crate::canonical::json(&entry) => {
                    let (path, why) = (
                        format!("{section}.{name}"),
                        format!("conflicts with imported resource of {}", entry.place),
                    );
                    return Err(ComposeError::Invalid { place: there.place.clone(), path, why });
                }
                _ => drop(own.insert(name, entry)),
            }
        }
    }
    Ok(())
}
