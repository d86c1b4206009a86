//! Mounts that stay connected with those of the host: `-v …:rshared`, `:rslave`, and `--mount bind-propagation`.

mod common;

use common::containers::Containers;
use testkit::Lap;

/// Runs a script where the directory `shared` is a shared mount, seen by nobody else. `$LAP` is our command.
fn where_shared(env: &Containers, script: &str) -> Option<Lap> {
    let unshare = testkit::judges::program("unshare")?;
    let shared = env.work().join("shared");
    std::fs::create_dir_all(&shared).unwrap();
    let begin = "set -e; mount -t tmpfs none shared; mount --make-shared shared; mkdir shared/a shared/b; ";
    let lap = format!("{} --root {}", testkit::binary::lap().display(), env.root().display());
    let command = Lap::new(unshare.path())
        .args(["--mount", "--propagation", "private", "sh", "-c", &format!("{begin}{script}")])
        .current_dir(&env.work());
    Some(command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LAP", lap).env("LAPSTRAKE_GC", "off"))
}

#[test]
fn what_is_mounted_in_the_container_appears_on_the_host_if_shared() {
    let env = Containers::new();
    let inside = "mount -t tmpfs none /x/a && touch /x/a/from-inside";
    for (mount, seen) in [
        ("-v $PWD/shared:/x:rshared", "from-inside\n"),
        ("--mount type=bind,source=$PWD/shared,target=/x,bind-propagation=shared", "from-inside\n"),
        ("-v $PWD/shared:/x:rslave", ""),
        ("-v $PWD/shared:/x", ""),
    ] {
        let script = format!("$LAP run --rm --privileged {mount} busybox sh -c '{inside}'; ls shared/a");
        let Some(command) = where_shared(&env, &script) else { return };
        assert_eq!(command.ok().stdout_text(), seen, "{mount}");
    }
}

#[test]
fn what_is_mounted_on_the_host_appears_in_the_container_if_received() {
    let env = Containers::new();
    for (option, seen) in [(":rslave", "from-outside\n"), (":rshared", "from-outside\n"), (":rprivate", "")] {
        let script = format!(
            "$LAP run -d --name c -v $PWD/shared:/x{option} busybox sleep 1000 >id; \
             mount -t tmpfs none shared/b; touch shared/b/from-outside; $LAP exec c ls /x/b; \
             $LAP inspect c | grep Propagation >&2; \
             $LAP rm -f c >removed"
        );
        let Some(command) = where_shared(&env, &script) else { return };
        let output = command.ok();
        assert_eq!(output.stdout_text(), seen, "{option}");
        output.stderr_has(&[&option[1..]]);
    }
}

#[test]
fn a_connection_that_is_not_there_is_refused() {
    let env = Containers::new();
    let script = "mount --make-private shared; \
                  $LAP run --rm -v $PWD/shared:/x:rshared busybox true || echo $?; \
                  $LAP run --rm -v $PWD/shared:/x:rslave busybox true || echo $?";
    let Some(command) = where_shared(&env, script) else { return };
    let output = command.ok();
    assert_eq!(output.stdout_text(), "125\n125\n");
    output.stderr_has(&["it is not a shared mount", "it is not a shared or slave mount"]);
    env.lap(["run", "--rm", "-v", "/tmp:/x:sideways", "busybox", "true"])
        .fails(125)
        .stderr_has(&["sideways"]);
}
