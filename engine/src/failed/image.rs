//! A failed step as an image, for another machine: its files, its environment, user and directory. What its bind
//! mounts showed is one more layer on top.

use std::collections::BTreeMap;
use std::path::Path;

use base::image::{Descriptor, History, ImageConfig, Manifest, media_type};
use base::{CancelToken, Reference};
use llb::MountKind;
use registry::{ArchiveFormat, ExportedImage};
use snapshotter::copy::CopyOptions;
use snapshotter::select::{Selection, SourcePattern};
use snapshotter::writer::{LayerWriter, WriterOptions};
use snapshotter::{CommitInfo, Compression, LayerForm, Layering, SnapshotId, Tree};

use super::Opened;
use crate::Engine;
use crate::assemble::document;
use crate::error::EngineError;
use crate::export::archive;
use crate::ops::DockerPatterns;
use crate::request::Destination;

/// The name that the image gets; its tag is the build's id.
const REPOSITORY: &str = "failed-step";

/// The label that says which step it was.
const STEP_LABEL: &str = "lapstrake.failed-step";

/// The label with its command.
const COMMAND_LABEL: &str = "lapstrake.failed-command";

impl Engine {
    /// Writes the failed step of a build as an archive that `docker load` reads too, and gives the name of the image in it.
    ///
    /// # Errors
    /// There is no such build, nothing is kept of it, or the archive cannot be written.
    pub fn export_failed(
        &self,
        build: Option<&str>,
        destination: &Destination,
        cancel: &CancelToken,
    ) -> Result<Reference, EngineError> {
        let opened = self.open_failed(build)?;
        let root = self.with_mounts(&opened, cancel)?;
        let mut config = config(&opened);
        let mut layers = Vec::new();
        let form = LayerForm { compression: Compression::GZIP, clamp_mtime: None };
        for id in self.store.chain(root)? {
            let layer = self.store.converted_layer(&opened.lease, id, form, cancel)?;
            config.rootfs.diff_ids.push(layer.diff_id);
            config.history.push(History { created: config.created, ..History::default() });
            layers.push(layer.descriptor);
        }
        let manifest = Manifest {
            artifact_type: None,
            subject: None,
            schema_version: 2,
            media_type: media_type::OCI_MANIFEST.to_owned(),
            config: document(self, &opened.lease, media_type::OCI_CONFIG, &config)?,
            layers,
            annotations: BTreeMap::new(),
        };
        let target: Descriptor = document(self, &opened.lease, media_type::OCI_MANIFEST, &manifest)?;
        let name: Reference = format!("{REPOSITORY}:{}", opened.build).parse()?;
        let image = ExportedImage {
            names: vec![name.clone()],
            root: target.clone(),
            indexes: Vec::new(),
            manifests: vec![(target, manifest)],
        };
        archive::write(self, ArchiveFormat::Docker, &[image], None, destination)?;
        Ok(name)
    }

    /// The root filesystem with what bind mounts showed, where they showed it.
    fn with_mounts(&self, opened: &Opened, cancel: &CancelToken) -> Result<SnapshotId, EngineError> {
        let mounts = opened.document.op.mounts.iter().zip(opened.parts.iter().skip(1));
        let shown = mounts.filter_map(|(mount, part)| match (&mount.kind, part) {
            (MountKind::Bind(bind), Some(part)) => Some((mount.target.as_str(), bind.source.as_str(), *part)),
            _ => None,
        });
        let shown: Vec<(&str, &str, SnapshotId)> = shown.collect();
        if shown.is_empty() {
            return Ok(opened.root);
        }
        let active = self.store.prepare(&opened.lease, Some(opened.root))?;
        let below = self.tree_of(opened.root)?;
        let options = WriterOptions {
            full_copy: active.is_full_copy(),
            userxattr: matches!(active.layering(), Layering::Overlay { userxattr: true }),
            time: self.clock.now(),
        };
        let writer = LayerWriter::new(active.layer_dir(), Some(&below), options)?;
        for (target, source, part) in shown {
            copy_mount(&writer, &self.tree_of(part)?, source, target, cancel)?;
        }
        drop(writer);
        Ok(active.commit(CommitInfo::default())?)
    }
}

fn copy_mount(
    writer: &LayerWriter,
    tree: &Tree,
    source: &str,
    target: &str,
    cancel: &CancelToken,
) -> Result<(), EngineError> {
    let pattern = SourcePattern { allow_wildcard: false, ..SourcePattern::of_copy(source) };
    let selection = Selection::resolve(tree, &[pattern], None, &DockerPatterns)?;
    let destination = Path::new(target);
    let options = CopyOptions { destination, dest_is_dir: false, ..CopyOptions::as_it_is() };
    snapshotter::copy::copy(writer, tree, &selection, &options, cancel)?;
    Ok(())
}

/// What a container of the image has as the step had it.
fn config(opened: &Opened) -> ImageConfig {
    let super::FailedDocument { op, platform, step, .. } = &opened.document;
    let mut config = ImageConfig::scratch(platform);
    config.config.env.clone_from(&op.env);
    config.config.working_dir.clone_from(&op.cwd);
    config.config.user.clone_from(&op.user);
    config.config.cmd = Some(vec![super::shell::shell_of(op)]);
    config.config.labels = BTreeMap::from([
        (STEP_LABEL.to_owned(), step.clone()),
        (COMMAND_LABEL.to_owned(), op.args.join(" ")),
    ]);
    config
}
