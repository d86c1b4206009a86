//! Pulls that were interrupted: the next one goes on where they were.

use nix::sys::signal::Signal;
use testkit::registry::{Fault, FaultyRegistry};
use testkit::wait::until;
use testkit::{Image, Layer, LayerTar, TestEnv};

/// A layer that no compression makes small.
fn noisy_layer() -> Layer {
    let mut state = 1u32;
    let mut noise = Vec::with_capacity(4 << 20);
    while noise.len() < 4 << 20 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        noise.extend_from_slice(&state.to_le_bytes());
    }
    Layer::tar(LayerTar::new().file("noise", 0o644, noise).finish())
}

#[test]
fn an_interrupted_pull_goes_on_where_it_was() {
    let env = TestEnv::new();
    let registry = FaultyRegistry::start();
    let image = Image::new("app").layer(noisy_layer());
    registry.put_image("app", "1", &image);
    let name = registry.reference("app:1");
    let layer = image.layer_digest(0).to_string();
    let partial = env.root().join("partial-v1").join(&layer["sha256:".len()..]);
    let received = || std::fs::metadata(&partial).map_or(0, |metadata| metadata.len());

    // The connection breaks, and no other comes about.
    registry.inject(1, &layer, Fault::CloseAfter(1_000_000));
    registry.inject(20, &layer, Fault::CloseBefore);
    env.lap(["pull", &name]).fails(1).stderr_has(&["app"]);
    let first = received();
    assert!((1..=1_000_000).contains(&first), "{first} bytes were kept");
    let asked = registry.seen(&layer).len();

    // The process dies while more is on its way.
    registry.heal();
    registry.inject(1, &layer, Fault::StallAfter(1_000_000));
    let pull = env.lap(["pull", &name]).spawn();
    until("more is received", || received() > first);
    pull.signal(Signal::SIGKILL);
    pull.finish();
    let second = received();

    env.lap(["pull", &name]).ok();
    let ranges: Vec<Option<String>> =
        registry.seen(&layer)[asked..].iter().map(|request| request.range.clone()).collect();
    assert_eq!(ranges, [Some(format!("bytes={first}-")), Some(format!("bytes={second}-"))]);
    assert!(!partial.exists());
    env.lap(["save", "-o", "saved.tar", &name]).ok();
    env.lap(["store", "check"]).ok();
}

#[test]
fn what_was_kept_of_a_pull_may_be_wrong() {
    let env = TestEnv::new();
    let registry = FaultyRegistry::start();
    let image = Image::new("app").layer(noisy_layer());
    registry.put_image("app", "1", &image);
    let name = registry.reference("app:1");
    env.lap(["images"]).ok();
    let partials = env.root().join("partial-v1");
    std::fs::create_dir(&partials).unwrap();
    let layer = image.layer_digest(0).hex();
    std::fs::write(partials.join(&layer), vec![7; 1_000_000]).unwrap();
    env.lap(["pull", &name]).ok();
    let asked: Vec<Option<String>> =
        registry.seen(&layer).iter().map(|request| request.range.clone()).collect();
    assert_eq!(asked, [Some("bytes=1000000-".to_owned()), None]);
    env.lap(["store", "check"]).ok();
    assert_eq!(std::fs::read_dir(partials).unwrap().count(), 0);
}
