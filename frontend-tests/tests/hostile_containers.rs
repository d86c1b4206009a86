//! Images and containers made to break out, or to take the machine with them: what `lap` does about them, seen
//! from inside and from outside.

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use common::{build, build_fails, env};
use testkit::oci::Layer;
use testkit::{Image, LayerTar, TestEnv};

/// Loads busybox with a layer on top, changed by `configure`.
fn load(env: &TestEnv, name: &str, layer: LayerTar, configure: impl FnOnce(Image) -> Image) {
    let image = testkit::images::busybox_as(name).layer(Layer::tar(layer.finish()));
    env.load(&configure(image));
}

/// How long a container that was made to hang may take to be refused.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a program is: its content and when it was changed.
fn identity(program: &Path) -> (Vec<u8>, std::time::SystemTime) {
    (fs::read(program).unwrap(), program.metadata().unwrap().modified().unwrap())
}

#[test]
fn cve_2019_5736_lap_is_neither_run_nor_overwritten_by_an_image() {
    let env = env();
    let lap = testkit::binary::lap();
    let before = identity(lap);
    let layer = LayerTar::new()
        .symlink("link", "/proc/self/exe")
        .file("script", 0o755, "#!/proc/self/exe --version\n")
        .file(
            "attack",
            0o755,
            "#!/bin/sh\nfor p in /proc/[0-9]*/exe /proc/self/exe; do echo x > $p; done; true\n",
        );
    load(&env, "hostile", layer, |image| {
        image.configure(|config| config.config.entrypoint = Some(vec!["/proc/self/exe".to_owned()]))
    });
    env.lap(["run", "--rm", "hostile"]).fails(126).stderr_has(&["/proc/self/exe"]);
    for program in ["/link", "/script", "/proc/1/exe", "/proc/self/exe"] {
        let refused = env.lap(["run", "--rm", "--entrypoint", program, "hostile"]).fails(126);
        refused.stderr_has(&[program]);
        assert_eq!(refused.stdout_text(), "", "lap has run inside");
    }
    env.lap(["run", "--rm", "--entrypoint", "/attack", "hostile"]).ok();
    env.lap(["run", "--rm", "--privileged", "--entrypoint", "/attack", "hostile"]).ok();
    let context = env.context();
    context.dockerfile("FROM hostile\nRUN [\"/link\"]\n");
    build_fails(&env, &context, &[]).stderr_has(&["/link", "Dockerfile:2"]);
    assert!(identity(lap) == before, "lap has changed");
}

#[test]
fn cve_2024_21626_a_working_directory_of_ours_is_not_entered() {
    let env = env();
    for descriptor in [3, 5, 7, 8, 9, 12] {
        let directory = format!("/proc/self/fd/{descriptor}");
        let context = env.context();
        context.dockerfile(&format!("FROM busybox\nWORKDIR {directory}\nRUN cat ../../../../etc/shadow\n"));
        let refused = build_fails(&env, &context, &[]);
        assert!(!refused.stderr_text().contains("root:"), "{refused}");
        load(&env, "hostile", LayerTar::new(), |image| {
            image.configure(|config| config.config.working_dir.clone_from(&directory))
        });
        let run = env.lap(["run", "--rm", "hostile", "ls"]).run();
        assert_eq!(run.code(), Some(125), "{run}");
        run.stderr_has(&[&directory]);
    }
    // By a link of the image.
    let layer = LayerTar::new().symlink("work", "/proc/self/fd/7/../..");
    load(&env, "hostile", layer, |image| {
        image.configure(|config| config.config.working_dir = "/work".to_owned())
    });
    let run = env.lap(["run", "--rm", "hostile", "pwd"]).run();
    assert_eq!(run.code(), Some(125), "{run}");
}

#[test]
fn files_that_are_no_files_do_not_block() {
    let env = env();
    let layers = [
        ("pipes", LayerTar::new().fifo("etc/passwd", 0o644).fifo("etc/group", 0o644)),
        (
            "devices",
            LayerTar::new().char_device("etc/passwd", 0o666, 1, 5).char_device("etc/group", 0o666, 1, 5),
        ),
    ];
    for (name, layer) in layers {
        load(&env, name, layer, |image| image);
        // Root and numbers need no file; a name does.
        for user in ["0", "1000:1000"] {
            let run = env.lap(["run", "--rm", "-u", user, name, "true"]).deadline(DEADLINE).run();
            assert!(matches!(run.code(), Some(0 | 125)), "{run}");
        }
        let named = env.lap(["run", "--rm", "-u", "nobody", name, "true"]).deadline(DEADLINE).run();
        assert_eq!(named.code(), Some(125), "{named}");
        let context = env.context();
        context.file("f", "x").dockerfile(&format!("FROM {name}\nCOPY --chown=nobody f /f\n"));
        build_fails(&env, &context, &[]);
    }
    let layer = LayerTar::new()
        .fifo("etc/hosts", 0o644)
        .char_device("etc/resolv.conf", 0o666, 1, 5)
        .fifo("program", 0o755)
        .fifo("work", 0o755);
    load(&env, "odd", layer, |image| image);
    let run = |args: &[&str]| env.lap(["run", "--rm"]).args(args).deadline(DEADLINE).run();
    assert_eq!(run(&["odd", "grep", "-q", "localhost", "/etc/hosts"]).code(), Some(0));
    assert_eq!(run(&["odd", "head", "-c", "1", "/etc/resolv.conf"]).code(), Some(0));
    assert_eq!(run(&["odd", "/program"]).code(), Some(126));
    assert_eq!(run(&["-w", "/work", "odd", "true"]).code(), Some(125));
}

#[test]
fn bad_users_directories_and_environments_are_errors_with_docker_s_codes() {
    let env = env();
    let cases: [(&[&str], i32, &str); 6] = [
        (&["-u", "ghost", "busybox", "true"], 125, "ghost"),
        (&["-u", "0:ghosts", "busybox", "true"], 125, "ghosts"),
        (&["-u", "99999999999", "busybox", "true"], 125, "99999999999"),
        (&["-w", "relative", "busybox", "true"], 125, "relative"),
        (&["-w", "/bin/true", "busybox", "true"], 125, "/bin/true"),
        (&["busybox", "/bin"], 126, "/bin"),
    ];
    for (args, code, said) in cases {
        env.lap(["run", "--rm"]).args(args).fails(code).stderr_has(&[said]);
    }
    // More than one variable may have, and more than all may have together.
    let file = env.work().join("variables");
    fs::write(&file, format!("HUGE={}\n", "x".repeat(200 << 10))).unwrap();
    let run = |file: &Path| env.lap(["run", "--rm", "--env-file"]).arg(file).args(["busybox", "true"]);
    run(&file).fails(126).stderr_has(&["Argument list too long"]);
    let many: String = (0..50_000).map(|number| format!("V{number}={}\n", "x".repeat(100))).collect();
    fs::write(&file, many).unwrap();
    run(&file).fails(126).stderr_has(&["Argument list too long"]);
}

#[test]
fn a_fork_bomb_ends_with_its_container() {
    if !testkit::privilege::can_limit(&["pids"]) {
        return;
    }
    let env = env();
    let mark = format!("bomb-{}", std::process::id());
    let bomb = "b() { b | b & }; b 2> /dev/null; i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done; echo over";
    let run = env
        .lap([
            "run",
            "--rm",
            "--pids-limit",
            "40",
            "-e",
            &format!("MARK={mark}"),
            "busybox",
            "sh",
            "-c",
            bomb,
        ])
        .deadline(DEADLINE)
        .run();
    // The shell itself may be the one that could not fork.
    assert!(run.stdout_text().contains("over") || run.code() == Some(2), "{run}");
    assert!(!processes_have(&mark), "processes of the bomb are left");
}

/// Whether the environment of any process has this text.
fn processes_have(mark: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let command = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        // `lap` itself has the mark in its arguments only.
        command.trim() == "sh" && environment.windows(mark.len()).any(|part| part == mark.as_bytes())
    })
}

#[test]
fn a_volume_that_leads_out_of_the_root_stays_inside() {
    let env = env();
    let outside = env.work().join("outside");
    fs::create_dir(&outside).unwrap();
    let target = outside.to_str().unwrap();
    let layer = LayerTar::new().symlink("v", target).symlink("up", &format!("../../../../..{target}"));
    load(&env, "hostile", layer, |image| image);
    let shared = env.work().join("shared");
    fs::create_dir(&shared).unwrap();
    for place in ["/v", "/v/inner", "/up/inner"] {
        let volume = format!("{}:{place}", shared.display());
        let script = format!("echo x > {place}/written && ls {target}");
        env.lap(["run", "--rm", "-v", &volume, "hostile", "sh", "-c", &script]).ok();
        assert!(shared.join("written").exists(), "{place}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{place}");
        fs::remove_file(shared.join("written")).unwrap();
        // A build's mounts as well.
        let context = env.context();
        context
            .dockerfile(&format!("FROM hostile\nRUN --mount=type=tmpfs,target={place} touch {place}/file\n"));
        build(&env, &context, &[]);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{place}");
    }
}

#[test]
fn cve_2025_52881_volumes_do_not_cover_the_kernel_s_files() {
    let env = env();
    let shared = env.work().join("shared");
    fs::create_dir(&shared).unwrap();
    for place in ["/proc", "/proc/sys", "/proc/self/attr", "/proc/sysrq-trigger"] {
        let volume = format!("{}:{place}", shared.display());
        env.lap(["run", "--rm", "-v", &volume, "busybox", "true"])
            .fails(125)
            .stderr_has(&["inside of /proc"]);
        env.lap(["run", "--rm", "--tmpfs", place, "busybox", "true"])
            .fails(125)
            .stderr_has(&["inside of /proc"]);
    }
    assert_eq!(fs::read_dir(&shared).unwrap().count(), 0);
}
