//! What becomes of mounts that are made on either side of a container's mounts.

use serde_json::json;
use testkit::Lap;

use crate::bundle::Bundle;

/// A bundle with a mount of `shared`, a directory beside it, at `/x`.
fn bundle(propagation: &str, script: &str) -> Option<Bundle> {
    let mut bundle = Bundle::new(script)?;
    let source = bundle.path("shared");
    std::fs::create_dir(&source).unwrap();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    let options = ["rbind", propagation];
    mounts.push(json!({ "destination": "/x", "type": "bind", "source": source, "options": options }));
    let capabilities = &mut bundle.config["process"]["capabilities"];
    for set in ["bounding", "effective", "permitted"] {
        capabilities[set].as_array_mut().unwrap().push(json!("CAP_SYS_ADMIN"));
    }
    bundle.config["linux"]["seccomp"] = json!(null);
    Some(bundle)
}

/// Runs a script where `shared` is a shared mount, seen by nobody else. `$RUNTIME` is the runtime.
fn where_shared(bundle: &Bundle, script: &str) -> Option<Lap> {
    bundle.write();
    let unshare = testkit::judges::program("unshare")?;
    let begin = "set -e; mount -t tmpfs none shared; mount --make-shared shared; mkdir shared/a shared/b; ";
    let runtime =
        format!("{} oci-runtime --root {}", testkit::binary::lap().display(), bundle.path("run").display());
    let command = Lap::new(unshare.path())
        .args(["--mount", "--propagation", "private", "sh", "-c", &format!("{begin}{script}")])
        .current_dir(bundle.directory().parent().unwrap());
    Some(command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("RUNTIME", runtime))
}

const RUN: &str = "$RUNTIME run --bundle bundle c-$$; ls shared/a";

#[test]
fn mounts_below_a_shared_mount_appear_on_the_host() {
    let script = "mount -t tmpfs none /x/a && touch /x/a/from-inside";
    let Some(bundle) = bundle("rshared", script) else { return };
    let Some(command) = where_shared(&bundle, RUN) else { return };
    assert_eq!(command.ok().stdout_text(), "from-inside\n");
}

#[test]
fn mounts_below_others_stay_inside() {
    let script = "mount -t tmpfs none /x/a && touch /x/a/from-inside";
    for propagation in ["rprivate", "rslave", "private"] {
        let Some(bundle) = bundle(propagation, script) else { return };
        let Some(command) = where_shared(&bundle, RUN) else { return };
        assert_eq!(command.ok().stdout_text(), "", "{propagation}");
    }
    // With a user namespace of its own a container changes nothing outside.
    let Some(mut bundle) = bundle("rshared", script) else { return };
    let map = json!([{ "containerID": 0, "hostID": 0, "size": 65_536 }]);
    let linux = &mut bundle.config["linux"];
    linux["uidMappings"] = map.clone();
    linux["gidMappings"] = map;
    linux["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    let Some(command) = where_shared(&bundle, RUN) else { return };
    assert_eq!(command.ok().stdout_text(), "");
}

#[test]
fn mounts_of_the_host_appear_where_they_are_received() {
    let script = "echo >/fifo; read line </fifo; ls /x/b >/fifo";
    let host = "$RUNTIME create --bundle bundle c-$$ >output 2>&1 </dev/null; $RUNTIME start c-$$; cat fifo; \
                mount -t tmpfs none shared/b; touch shared/b/from-outside; echo >fifo; cat fifo; \
                $RUNTIME delete --force c-$$";
    for (propagation, seen) in
        [("rshared", "\nfrom-outside\n"), ("rslave", "\nfrom-outside\n"), ("rprivate", "\n")]
    {
        let Some(mut bundle) = bundle(propagation, script) else { return };
        bundle.fifo();
        let Some(command) = where_shared(&bundle, host) else { return };
        assert_eq!(command.ok().stdout_text(), seen, "{propagation}");
    }
}

#[test]
fn the_roots_propagation_is_as_asked_for() {
    let tags = "awk '$5 == \"/\" { for (i = 7; $i != \"-\"; i++) print $i }' /proc/self/mountinfo";
    for (propagation, tag) in [("shared", "shared:"), ("rshared", "shared:"), ("private", "")] {
        let Some(mut bundle) = Bundle::new(tags) else { return };
        bundle.config["linux"]["rootfsPropagation"] = json!(propagation);
        bundle.write();
        let directory = bundle.directory();
        let output = bundle
            .runtime(&[
                "run",
                "--bundle",
                directory.to_str().unwrap(),
                &format!("root-{}", std::process::id()),
            ])
            .ok();
        let said = output.stdout_text();
        assert_eq!(said.is_empty(), tag.is_empty(), "{propagation}: {said}");
        assert!(said.starts_with(tag), "{propagation}: {said}");
    }
}
