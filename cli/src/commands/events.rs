//! `lap events`

use std::process::ExitCode;

use base::Timestamp;
use engine::events_log::{Event, EventsRequest};
use engine::following::Follow as _;

use super::{StoreChoice, now, open};
use crate::error::CliError;
use crate::live_args::EventsArgs;
use crate::template::{Missing, Template};
use crate::terminal::print_bytes;
use docker::documents;
use docker::filters::events::EventFilters;
use docker::filters::moment;

/// Shows what happens, as it happens.
pub(crate) fn show(store: &StoreChoice, args: &EventsArgs) -> Result<ExitCode, CliError> {
    show_if(store, args, |_| true)
}

/// The same, of what somebody wants besides.
pub(super) fn show_if(
    store: &StoreChoice,
    args: &EventsArgs,
    is_wanted: impl Fn(&Event) -> bool,
) -> Result<ExitCode, CliError> {
    let time = |flag: &str, text: &Option<String>| -> Result<Option<Timestamp>, CliError> {
        text.as_deref().map(|text| Ok(moment(&format!("{flag}={text}"), text, now())?)).transpose()
    };
    let request = EventsRequest { since: time("since", &args.since)?, until: time("until", &args.until)? };
    let filters = EventFilters::parse(&args.filters)?;
    let template = args.format.as_deref().map(Template::parse).transpose()?;
    let engine = open(store)?;
    let mut events = engine.events(&request)?;
    while let Some(event) = events.next()? {
        if !filters.fit(&event) || !is_wanted(&event) {
            continue;
        }
        let line = match &template {
            None => text(&event),
            Some(template) => template.fill(&documents::events::document(&event), Missing::Field)?,
        };
        if !print_bytes(format!("{line}\n").as_bytes()) {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// An event in one line, as Docker writes it. What a terminal would obey is left out: labels are anybody's.
fn text(event: &Event) -> String {
    let Event { kind, action, id, attributes, time } = event;
    let attributes: Vec<String> = attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let line = format!("{time:.9} {kind} {action} {id} ({})", attributes.join(", "));
    line.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn event() -> Event {
        Event {
            kind: "container".to_owned(),
            action: "start".to_owned(),
            id: "0123".to_owned(),
            attributes: [("name", "web"), ("image", "busybox"), ("label", "\u{1b}[2J\n")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            time: "2026-01-02T03:04:05.6Z".parse().unwrap(),
        }
    }

    #[test]
    fn a_line_is_dockers_and_harmless() {
        let expected = "2026-01-02T03:04:05.600000000Z container start 0123 (image=busybox, label=\u{fffd}[2J\u{fffd}, name=web)";
        assert_eq!(text(&event()), expected);
    }

    #[test]
    fn templates_know_the_fields_by_both_of_their_names() {
        let fill = |text: &str| {
            Template::parse(text)
                .unwrap()
                .fill(&documents::events::document(&event()), Missing::Field)
                .unwrap()
        };
        assert_eq!(
            fill(
                "{{.Type}} {{.Action}} {{.Status}} {{.ID}} {{.Actor.ID}} {{.From}} {{.Actor.Attributes.name}}"
            ),
            "container start start 0123 0123 busybox web"
        );
        assert_eq!(fill("{{.Time}} {{.TimeNano}} {{.Scope}}"), "1767323045 1767323045600000000 local");
        let json: Value = serde_json::from_str(&fill("json")).unwrap();
        assert_eq!(json, documents::events::document(&event()));
        assert!(
            Template::parse("{{.Nothing}}")
                .unwrap()
                .fill(&documents::events::document(&event()), Missing::Field)
                .is_err()
        );
    }
}
