//! `--filter` of `lap events`: names, values and what fits are Docker's.

use std::collections::BTreeMap;

use engine::events_log::Event;

use super::{FilterError, label};

/// What can be asked for.
const NAMES: [&str; 8] = ["type", "event", "container", "image", "volume", "network", "label", "scope"];

/// What Docker's daemon tells of and there is nothing of here, so that nothing fits.
const OF_OTHERS: [&str; 6] = ["config", "daemon", "node", "plugin", "secret", "service"];

/// All filters of one command. One of each name has to fit.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct EventFilters(BTreeMap<String, Vec<String>>);

impl EventFilters {
    /// Reads filters.
    ///
    /// # Errors
    /// One of them is none.
    pub fn parse(texts: &[String]) -> Result<Self, FilterError> {
        let mut filters: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for text in texts {
            let hint = "write NAME=VALUE; the names are type, event, container, image, volume, network, label and scope";
            let Some((name, value)) = text.split_once('=') else {
                return Err(FilterError::new(format!("invalid filter '{text}': it has no ="), hint));
            };
            let name = name.trim().to_lowercase();
            if !NAMES.contains(&name.as_str()) && !OF_OTHERS.contains(&name.as_str()) {
                return Err(FilterError::new(format!("invalid filter '{name}'"), hint));
            }
            filters.entry(name).or_default().push(value.trim().to_owned());
        }
        Ok(Self(filters))
    }

    /// Whether an event fits.
    pub fn fit(&self, event: &Event) -> bool {
        self.0.iter().all(|(name, values)| match name.as_str() {
            // All labels have to be there.
            "label" => values.iter().all(|value| label(value, true).fits(&event.attributes)),
            name => values.iter().any(|value| fits(event, name, value)),
        })
    }
}

fn fits(event: &Event, name: &str, value: &str) -> bool {
    let attribute = |name: &str| event.attributes.get(name).map_or("", String::as_str);
    match name {
        "type" => event.kind == value,
        // What comes after is about the one event: `health_status: healthy`.
        "event" => event.action == value || event.action.split(':').next() == Some(value),
        "container" | "volume" | "network" => {
            event.kind == name && (event.id.starts_with(value) || attribute("name").starts_with(value))
        }
        "image" => {
            let image = match event.kind.as_str() {
                "image" => attribute("name"),
                "container" => attribute("image"),
                _ => return false,
            };
            let of_image = event.kind == "image" && [event.id.as_str(), untagged(&event.id)].contains(&value);
            of_image || [image, untagged(image)].contains(&value)
        }
        "scope" => value == "local",
        _ => false,
    }
}

/// A name without its tag.
fn untagged(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => before,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, action: &str, id: &str, attributes: &[(&str, &str)]) -> Event {
        let attributes =
            attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (kind, action, id) = (kind.to_owned(), action.to_owned(), id.to_owned());
        Event { kind, action, id, attributes, time: base::Timestamp::UNIX_EPOCH }
    }

    fn fits(texts: &[&str], event: &Event) -> bool {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        EventFilters::parse(&texts).unwrap().fit(event)
    }

    #[test]
    fn one_of_each_name_has_to_fit() {
        let image = "registry:5000/app:1";
        let start =
            event("container", "start", "abc1", &[("name", "web"), ("image", image), ("tier", "front")]);
        for fitting in [
            &[][..],
            &["type=container", "event=start"],
            &["event=stop", "event=start"],
            &["container=web"],
            &["container=abc"],
            &["image=registry:5000/app:1"],
            &["image=registry:5000/app"],
            &["label=tier", "label=tier=front"],
            &["scope=local"],
        ] {
            assert!(fits(fitting, &start), "{fitting:?}");
        }
        for other in [
            &["type=image"][..],
            &["event=stop"],
            &["container=db"],
            &["image=app"],
            &["label=tier=back"],
            &["label=tier", "label=other"],
            &["network=abc1"],
            &["daemon=here"],
        ] {
            assert!(!fits(other, &start), "{other:?}");
        }
        assert!(fits(&["event=health_status"], &event("container", "health_status: healthy", "x", &[])));
        assert!(fits(&["image=busybox"], &event("image", "pull", "busybox:latest", &[("name", "busybox")])));
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for bad in ["colour=red", "type", "", "=x"] {
            assert!(EventFilters::parse(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
