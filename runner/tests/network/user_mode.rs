//! The network of an ordinary user's containers.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use runner::network::Connect;

use crate::support::{Host, Internet, OUR_ADDRESS, Place as _, Runtime, THEIR_ADDRESS, in_own_network, run};

/// Says that this process is an ordinary user in a user namespace.
const USER: &str = "LAP_TEST_USER";
/// The id of a user that nobody is.
const NOBODY_IN_PARTICULAR: &str = "54321";

/// Runs the calling test as an ordinary user who is root of a user namespace.
fn as_user(test: &str) {
    as_user_with(test, "true");
}

/// The same after a command of the machine's root.
fn as_user_with(test: &str, command: &str) {
    // Such a user may read neither the directory of the program nor, on some machines, the device.
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = directory.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    run("mount", &["-t", "tmpfs", "none", "/dev/net"]);
    run("mknod", &["-m", "666", "/dev/net/tun", "c", "10", "200"]);
    run("sh", &["-c", command]);
    let output = Command::new("setpriv")
        .args(["--reuid", NOBODY_IN_PARTICULAR, "--regid", NOBODY_IN_PARTICULAR, "--clear-groups"])
        .args(["unshare", "--user", "--map-root-user"])
        .arg(&program)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(USER, "1")
        .env("TMPDIR", "/tmp")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{}{}", text[0], text[1]);
    assert!(text[0].contains("1 passed"), "no test is called {test}:\n{}", text[0]);
}

/// What every ordinary user's container can do.
fn assert_connected() {
    let runtime = Runtime::new();
    let container = runtime.publish(&["8080:80", "8080:53/udp", "127.0.0.1:8081-8082:80"]);
    container.serve(80);
    container.serve_messages(53);
    assert_eq!(container.ask(&format!("{THEIR_ADDRESS}:80")), format!("{OUR_ADDRESS} hi"));
    for address in ["127.0.0.1:8080", "[::1]:8080", "127.0.0.1:8081", &format!("{OUR_ADDRESS}:8080")] {
        assert!(Host.ask(address).ends_with(" hi"), "{address}");
    }
    assert!(Host.ask_by_message("127.0.0.1:8080").ends_with(" hi"));
    assert!(container.resolver().is_some());
    let second = Connect { address: Some("10.0.0.9".parse().unwrap()), ..Connect::new("second") };
    let error = runtime.connect(&second).unwrap_err().to_string();
    assert!(error.starts_with("--ip needs the machine's own bridge, which only root can make"), "{error}");
    container.disconnect().unwrap();
    assert!(Host.cannot_reach("127.0.0.1:8080"));
}

#[test]
fn pasta_connects_and_publishes() {
    let programs = ["pasta", "setpriv", "mount", "mknod"];
    let test = "user_mode::pasta_connects_and_publishes";
    if std::env::var_os(USER).is_none() {
        if !in_own_network(test, &programs) {
            return;
        }
        let internet = Internet::new();
        internet.serve(80);
        // Only this one is there.
        hide("slirp4netns");
        as_user(test);
        return;
    }
    assert_connected();
}

#[test]
fn slirp4netns_connects_and_publishes() {
    let programs = ["slirp4netns", "setpriv", "mount", "mknod"];
    let test = "user_mode::slirp4netns_connects_and_publishes";
    if std::env::var_os(USER).is_none() {
        if !in_own_network(test, &programs) {
            return;
        }
        let internet = Internet::new();
        internet.serve(80);
        hide("pasta");
        as_user(test);
        return;
    }
    assert_connected();
}

#[test]
fn what_an_ordinary_user_lacks_is_named() {
    let test = "user_mode::what_an_ordinary_user_lacks_is_named";
    if std::env::var_os(USER).is_some() {
        let missing = runner::network::missing().unwrap().unwrap().to_string();
        assert!(missing.contains("/dev/net/tun, which does not exist"), "{missing}");
        let error = Runtime::new().connect(&Connect::new("c0ffee")).unwrap_err();
        assert_eq!(error.to_string(), missing);
        return;
    }
    if in_own_network(test, &["pasta", "setpriv", "mount", "mknod"]) {
        as_user_with(test, "rm /dev/net/tun");
    }
}

/// Makes a program one that cannot be executed, for this test alone.
fn hide(program: &str) {
    if let Some(judge) = testkit::judges::program(program) {
        run("mount", &["--bind", "/dev/null", &judge.path().display().to_string()]);
    }
}
