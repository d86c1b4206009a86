//! What a container really is, seen from inside and from outside. Needs root and busybox-static; without
//! them each test says so and passes.

mod support;

#[test]
fn the_first_process_is_number_one() {
    let Some(image) = support::image() else { return };
    let output = support::run(&image.script("echo $$; exit 3"));
    assert_eq!((output.stdout.as_str(), output.status), ("1\n", runner::ExitStatus::Exited(3)), "{}", output.stderr);
}
