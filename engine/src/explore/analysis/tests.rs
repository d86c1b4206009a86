//! Every byte is seen or wasted, whatever the layers do.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn file(bytes: u64) -> LayerFile {
    LayerFile { kind: FileKind::File, bytes, mode: 0o644, same_content: false }
}

fn directory() -> LayerFile {
    LayerFile { kind: FileKind::Directory, bytes: 0, mode: 0o755, same_content: false }
}

fn put(path: &str, file: LayerFile) -> LayerChange {
    LayerChange::Put(path.to_owned(), file)
}

fn layer(changes: Vec<LayerChange>) -> LayerInput {
    LayerInput { created_by: String::new(), diff_id: String::new(), changes }
}

#[test]
fn files_that_are_deleted_overwritten_or_only_changed_in_mode_are_wasted() {
    let same = LayerFile { mode: 0o755, same_content: true, ..file(30) };
    let found = analyse(vec![
        layer(vec![
            put("d", directory()),
            put("d/gone", file(10)),
            put("new", file(20)),
            put("mode", file(30)),
        ]),
        layer(vec![LayerChange::Delete("d".to_owned()), put("new", file(5)), put("mode", same)]),
    ]);
    let effects: Vec<Effect> = found.layers[1].files.iter().map(|file| file.effect).collect();
    assert_eq!(effects, [Effect::Deleted, Effect::Overwritten, Effect::Attributes]);
    let wasted: Vec<(&str, u64, Effect)> =
        found.wasted.iter().map(|waste| (waste.path.as_str(), waste.bytes, waste.effect)).collect();
    assert_eq!(
        wasted,
        [("mode", 30, Effect::Attributes), ("new", 20, Effect::Overwritten), ("d/gone", 10, Effect::Deleted)]
    );
    assert_eq!((found.bytes, found.visible, found.layers[0].wasted), (95, 35, 60));
}

#[test]
fn names_that_only_begin_alike_stay() {
    let found = analyse(vec![
        layer(vec![put("a", directory()), put("a/x", file(1)), put("a-b", file(2)), put("ab", file(4))]),
        layer(vec![LayerChange::Delete("a".to_owned())]),
    ]);
    assert_eq!((found.visible, found.wasted_bytes()), (6, 1));
}

/// Paths of three levels, and what is done with them.
fn changes() -> impl Strategy<Value = Vec<LayerChange>> {
    let name = prop::sample::select(vec!["a", "b", "a-"]);
    let path = prop::collection::vec(name, 1..4).prop_map(|names| names.join("/"));
    let change =
        (path, 0u8..4, 0u64..100, any::<bool>()).prop_map(|(path, what, bytes, same_content)| match what {
            0 => LayerChange::Delete(path),
            1 => LayerChange::Put(path, directory()),
            _ => LayerChange::Put(path, LayerFile { same_content, ..file(bytes) }),
        });
    prop::collection::vec(change, 0..12)
}

proptest! {
    #[test]
    fn the_bytes_of_the_layers_less_what_is_wasted_are_the_tree(layers in prop::collection::vec(changes(), 0..6)) {
        // The same, done without any bookkeeping.
        let mut tree: HashMap<String, u64> = HashMap::new();
        let mut written = 0;
        for change in layers.iter().flatten() {
            let (path, kept) = match change {
                LayerChange::Delete(path) => (path, None),
                LayerChange::Put(path, file) => (path, Some(file)),
            };
            let below = format!("{path}/");
            tree.retain(|other, _| {
                let inside = other.starts_with(&below) && kept.is_none_or(|file| file.kind != FileKind::Directory);
                other != path && !inside
            });
            if let Some(file) = kept {
                tree.insert(path.clone(), file.bytes);
                written += file.bytes;
            }
        }
        let found = analyse(layers.into_iter().map(layer).collect());
        prop_assert_eq!(found.visible, tree.values().sum::<u64>());
        prop_assert_eq!(found.bytes, written);
        prop_assert_eq!(found.bytes - found.wasted_bytes(), found.visible);
        let by_layer: u64 = found.layers.iter().map(|layer| layer.wasted).sum();
        prop_assert_eq!(by_layer, found.wasted_bytes());
    }
}
