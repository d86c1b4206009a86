//! Composition root: build, run, images, export.
