//! What each layer of an image adds, overwrites and deletes, and which bytes nobody sees in the end. Reads nothing.
//!
//! Every byte of every layer is either visible in the merged tree or wasted; so the bytes of the layers less what is wasted
//! are those of the tree.

use std::collections::BTreeMap;

/// What kind of file something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Link,
    /// A device, a pipe or a socket.
    Special,
}

/// A file as a layer has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerFile {
    /// Its kind.
    pub kind: FileKind,
    /// Bytes of its content; 0 for all but regular files, and for a further name of one.
    pub bytes: u64,
    /// Permission bits.
    pub mode: u32,
    /// Whether what it holds is what was there before.
    pub same_content: bool,
}

/// What a layer does with one path, relative to the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerChange {
    /// It is there, new or changed.
    Put(String, LayerFile),
    /// It is gone, with everything below it.
    Delete(String),
}

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It is new.
    Added,
    /// There was something else.
    Overwritten,
    /// Only its mode, owner or another attribute is another.
    Attributes,
    /// It is gone.
    Deleted,
}

/// A layer to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerInput {
    /// The instruction that made it.
    pub created_by: String,
    /// The digest of the layer, uncompressed.
    pub diff_id: String,
    /// What it does, in order.
    pub changes: Vec<LayerChange>,
}

/// One path of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExploredFile {
    /// Relative to the root.
    pub path: String,
    /// What became of it.
    pub effect: Effect,
    /// Its kind; of what is gone, the kind that it had.
    pub kind: FileKind,
    /// Bytes that the layer has for it; of what is gone, those that it had.
    pub bytes: u64,
    /// Permission bits; of what is gone, those that it had.
    pub mode: u32,
}

/// A layer that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExploredLayer {
    /// The instruction that made it.
    pub created_by: String,
    /// The digest of the layer, uncompressed.
    pub diff_id: String,
    /// Bytes of files that it has.
    pub bytes: u64,
    /// Bytes of these that a later layer hides.
    pub wasted: u64,
    /// All that it changes.
    pub files: Vec<ExploredFile>,
}

/// Bytes that a layer has and that a later one hides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waste {
    /// The file, relative to the root.
    pub path: String,
    /// How many.
    pub bytes: u64,
    /// The layer that has them, counted from 0.
    pub layer: usize,
    /// The layer that hides them.
    pub hidden_by: usize,
    /// How it does that.
    pub effect: Effect,
}

/// All layers of an image, looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exploration {
    /// The lowest first.
    pub layers: Vec<ExploredLayer>,
    /// What is wasted, most bytes first.
    pub wasted: Vec<Waste>,
    /// Bytes of all layers.
    pub bytes: u64,
    /// Bytes of the merged tree.
    pub visible: u64,
}

impl Exploration {
    /// Bytes that nobody sees.
    pub fn wasted_bytes(&self) -> u64 {
        self.wasted.iter().map(|waste| waste.bytes).sum()
    }
}

/// Looks at the layers of an image, the lowest first.
pub fn analyse(layers: Vec<LayerInput>) -> Exploration {
    let mut merged = Merged::default();
    let mut explored = Vec::new();
    for (index, LayerInput { created_by, diff_id, changes }) in layers.into_iter().enumerate() {
        let files: Vec<ExploredFile> =
            changes.into_iter().filter_map(|change| merged.apply(index, change)).collect();
        let bytes = files.iter().filter(|file| file.effect != Effect::Deleted).map(|file| file.bytes).sum();
        explored.push(ExploredLayer { created_by, diff_id, bytes, wasted: 0, files });
    }
    for waste in &merged.wasted {
        explored[waste.layer].wasted += waste.bytes;
    }
    let mut wasted = merged.wasted;
    wasted.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
    Exploration {
        bytes: explored.iter().map(|layer| layer.bytes).sum(),
        visible: merged.files.values().map(|(file, _)| file.bytes).sum(),
        layers: explored,
        wasted,
    }
}

/// The tree so far: each path with the layer that it comes from.
#[derive(Default)]
struct Merged {
    files: BTreeMap<String, (LayerFile, usize)>,
    wasted: Vec<Waste>,
}

impl Merged {
    /// Does what a layer does. `None` if that is nothing.
    fn apply(&mut self, layer: usize, change: LayerChange) -> Option<ExploredFile> {
        match change {
            LayerChange::Delete(path) => {
                let known = self.files.get(&path).map(|(file, _)| (file.kind, file.mode));
                let bytes = self.hide(&path, layer, Effect::Deleted, true);
                let (kind, mode) = known?;
                Some(ExploredFile { path, effect: Effect::Deleted, kind, bytes, mode })
            }
            LayerChange::Put(path, file) => {
                let effect = match self.files.get(&path) {
                    None => Effect::Added,
                    Some((old, _)) if old.kind == file.kind && file.same_content => Effect::Attributes,
                    Some((old, _)) if (old.kind, file.kind) == (FileKind::Directory, FileKind::Directory) => {
                        Effect::Attributes
                    }
                    Some(_) => Effect::Overwritten,
                };
                self.hide(&path, layer, effect, file.kind != FileKind::Directory);
                let LayerFile { kind, bytes, mode, .. } = file;
                self.files.insert(path.clone(), (file, layer));
                Some(ExploredFile { path, effect, kind, bytes, mode })
            }
        }
    }

    /// Takes away what is at a path, and perhaps below it. Tells how many bytes that was.
    fn hide(&mut self, path: &str, hidden_by: usize, effect: Effect, below: bool) -> u64 {
        let mut paths: Vec<String> =
            self.files.contains_key(path).then(|| path.to_owned()).into_iter().collect();
        if below {
            let start = format!("{path}/");
            let inside = self.files.range(start.clone()..).take_while(|(path, _)| path.starts_with(&start));
            paths.extend(inside.map(|(path, _)| path.clone()));
        }
        let mut sum = 0;
        for path in paths {
            let Some((LayerFile { bytes, .. }, layer)) = self.files.remove(&path) else { continue };
            sum += bytes;
            if bytes > 0 {
                self.wasted.push(Waste { path, bytes, layer, hidden_by, effect });
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests;
