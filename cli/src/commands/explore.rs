//! `lap image explore`: what the layers of an image do, as JSON, as text, or to walk through on a terminal.

mod browser;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use engine::explore::{Effect, Exploration, ExploredFile, ExploredImage, ExploredLayer, FileKind, Waste};
use serde_json::{Value, json};

use super::{StoreChoice, open};
use crate::error::CliError;
use crate::image_args::ExploreArgs;
use crate::terminal::{print, print_line};
use crate::{signals, table, units};

/// How many files are named in the text.
const WORST: usize = 20;

/// Shows what the layers of an image do.
pub(crate) fn explore(store: &StoreChoice, args: &ExploreArgs) -> Result<ExitCode, CliError> {
    let image = open(store)?.explore(&args.image, &signals::cancel_token())?;
    if args.json {
        print_line(&format!("{:#}", document(&args.image, &image)));
    } else if std::io::stdout().is_terminal() && std::io::stdin().is_terminal() {
        browser::run(&image.exploration)?;
    } else {
        print(&text(&image.exploration));
    }
    Ok(ExitCode::SUCCESS)
}

fn document(name: &str, image: &ExploredImage) -> Value {
    let Exploration { layers, wasted, bytes, visible } = &image.exploration;
    json!({
        "Image": name,
        "Id": image.id.to_string(),
        "Size": bytes,
        "VisibleSize": visible,
        "WastedSize": image.exploration.wasted_bytes(),
        "Layers": layers.iter().enumerate().map(layer_json).collect::<Vec<_>>(),
        "Wasted": wasted.iter().map(waste_json).collect::<Vec<_>>(),
    })
}

fn layer_json((index, layer): (usize, &ExploredLayer)) -> Value {
    let file = |file: &ExploredFile| {
        json!({
            "Path": format!("/{}", file.path),
            "Change": effect(file.effect),
            "Type": kind(file.kind),
            "Size": file.bytes,
            "Mode": format!("{:04o}", file.mode),
        })
    };
    json!({
        "Index": index,
        "DiffId": layer.diff_id,
        "CreatedBy": layer.created_by,
        "Size": layer.bytes,
        "WastedSize": layer.wasted,
        "Files": layer.files.iter().map(file).collect::<Vec<_>>(),
    })
}

fn waste_json(waste: &Waste) -> Value {
    json!({
        "Path": format!("/{}", waste.path),
        "Size": waste.bytes,
        "Layer": waste.layer,
        "HiddenBy": waste.hidden_by,
        "Change": effect(waste.effect),
    })
}

fn effect(effect: Effect) -> &'static str {
    match effect {
        Effect::Added => "added",
        Effect::Overwritten => "overwritten",
        Effect::Attributes => "attributes",
        Effect::Deleted => "deleted",
    }
}

fn kind(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Directory => "directory",
        FileKind::File => "file",
        FileKind::Link => "link",
        FileKind::Special => "special",
    }
}

/// Layers and the largest waste, for where there is no terminal.
fn text(exploration: &Exploration) -> String {
    let count = |layer: &ExploredLayer, wanted: Effect| {
        layer.files.iter().filter(|file| file.effect == wanted).count().to_string()
    };
    let layer = |(index, layer): (usize, &ExploredLayer)| {
        vec![
            index.to_string(),
            units::bytes(layer.bytes),
            units::bytes(layer.wasted),
            count(layer, Effect::Added),
            count(layer, Effect::Overwritten),
            count(layer, Effect::Attributes),
            count(layer, Effect::Deleted),
            layer.created_by.replace(['\t', '\n'], " "),
        ]
    };
    let layers: Vec<Vec<String>> = exploration.layers.iter().enumerate().map(layer).collect();
    let header = ["LAYER", "SIZE", "WASTED", "ADDED", "OVERWRITTEN", "ATTRIBUTES", "DELETED", "CREATED BY"];
    let waste = |waste: &Waste| {
        let (from, by) = (waste.layer.to_string(), waste.hidden_by.to_string());
        vec![units::bytes(waste.bytes), from, by, effect(waste.effect).to_owned(), format!("/{}", waste.path)]
    };
    let worst: Vec<Vec<String>> = exploration.wasted.iter().take(WORST).map(waste).collect();
    let mut text = table::render(&header, &layers);
    if !worst.is_empty() {
        text.push('\n');
        text.push_str(&table::render(&["WASTED", "LAYER", "HIDDEN BY", "CHANGE", "PATH"], &worst));
    }
    let wasted = exploration.wasted_bytes();
    let share = (wasted * 100).checked_div(exploration.bytes).unwrap_or(0);
    let (size, seen) = (units::bytes(exploration.bytes), units::bytes(exploration.visible));
    text.push_str(&format!(
        "\nLayers: {size}\nVisible: {seen}\nWasted: {} ({share}%)\n",
        units::bytes(wasted)
    ));
    crate::terminal::printable(&text)
}
