//! Mounts that show a part of another filesystem of layers.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use base::Mount;
use base::mount::OverlayUpper;
use runner::{ExtraMount, MountKind};

use crate::support::{Image, explain, image, run, try_run};

/// Two layers beside the image: `a/low` below, `a/high` and a link that leads out above.
fn layers(image: &Image) -> Vec<PathBuf> {
    let (low, high) = (image.path("other/low"), image.path("other/high"));
    for layer in [&low, &high] {
        fs::create_dir_all(layer.join("a")).unwrap();
    }
    fs::write(low.join("a/low"), "low\n").unwrap();
    fs::write(high.join("a/high"), "high\n").unwrap();
    symlink("/../../../../a", high.join("out")).unwrap();
    vec![high, low]
}

fn part(lower: Vec<PathBuf>, path: &str, destination: &str) -> ExtraMount {
    let source = Mount::Overlay { lower, upper: None, userxattr: false };
    let kind = MountKind::Part { source, path: path.to_owned(), read_only: true };
    ExtraMount { destination: destination.to_owned(), kind }
}

#[test]
fn a_directory_of_several_layers_is_seen_and_cannot_be_changed() {
    let Some(image) = image() else { return };
    let mut request = image.script("cat /m/a/low /m/a/high; touch /m/a/new 2>&1");
    request.mounts = vec![part(layers(&image), "/", "/m")];
    let output = run(&request);
    assert!(output.stdout.starts_with("low\nhigh\n"), "{output:?}");
    assert!(output.stdout.contains("Read-only file system"), "{output:?}");
    assert_eq!(image.changes(), [""; 0]);
}

#[test]
fn two_parts_of_the_same_layers_do_not_meet() {
    let Some(image) = image() else { return };
    let layers = layers(&image);
    let mut request = image.script("ls /one; cat /two; cat /etc/inner/three");
    request.mounts = vec![
        part(layers.clone(), "/a", "/one"),
        part(layers.clone(), "a/low", "/two"),
        part(layers, "a/high", "/etc/inner/three"),
    ];
    let output = run(&request);
    assert_eq!(output.stdout, "high\nlow\nlow\nhigh\n", "{output:?}");
    assert_eq!(image.changes(), [""; 0]);
}

#[test]
fn a_link_in_a_part_stays_inside_of_it() {
    let Some(image) = image() else { return };
    let mut request = image.script("cat /m/low");
    request.mounts = vec![part(layers(&image), "/out", "/m")];
    assert_eq!(run(&request).stdout, "low\n");
}

#[test]
fn a_part_of_one_layer_needs_no_overlay() {
    let Some(image) = image() else { return };
    let low = layers(&image).pop().unwrap();
    let mut request = image.script("cat /m/low; touch /m/x || echo refused");
    request.mounts = vec![part(vec![low.clone()], "/a", "/m")];
    assert_eq!(run(&request).stdout, "low\nrefused\n");
    assert!(!low.join("a/x").exists());
}

#[test]
fn what_is_written_goes_to_the_upper_directory_alone() {
    let Some(image) = image() else { return };
    let lower = layers(&image);
    let (upper, work) = (image.path("other/upper"), image.path("other/work"));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&work).unwrap();
    let source = Mount::Overlay {
        lower: lower.clone(),
        upper: Some(OverlayUpper { upper: upper.clone(), work }),
        userxattr: false,
    };
    let kind = MountKind::Part { source, path: "/a".to_owned(), read_only: false };
    let mut request = image.script("echo new > /m/new; rm /m/low");
    request.mounts = vec![ExtraMount { destination: "/m".to_owned(), kind }];
    run(&request);
    assert_eq!(fs::read_to_string(upper.join("a/new")).unwrap(), "new\n");
    assert!(lower[1].join("a/low").exists());
    assert_eq!(image.changes(), [""; 0]);
}

#[test]
fn a_part_that_is_not_there_is_an_error() {
    let Some(image) = image() else { return };
    let mut request = image.command(&["/bin/true"]);
    request.mounts = vec![part(layers(&image), "/missing", "/m")];
    let error = explain(&try_run(&request).unwrap_err());
    assert!(error.contains("missing"), "{error}");
    assert!(error.contains("No such file"), "{error}");
}
