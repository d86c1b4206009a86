//! Files of containers by Docker's API: looked at, taken out, put in, exported; by Docker's command and by Python's library.

mod common;

use common::containers::Containers;
use common::docker::Docker;

/// A tar archive of these entries: a name, a kind (`f`, `d` or `l`), and what is in it.
fn archive(entries: &[(&str, char, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_uid(7);
        header.set_gid(8);
        header.set_entry_type(match kind {
            'd' => tar::EntryType::Directory,
            'l' => tar::EntryType::Symlink,
            _ => tar::EntryType::Regular,
        });
        let content = if *kind == 'f' { content.as_bytes() } else { b"" };
        if *kind == 'l' {
            header.set_link_name("/etc").unwrap();
        }
        header.set_size(content.len() as u64);
        // As it is, also where no honest program would write it.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn put(docker: &Docker<'_>, query: &str, body: &[u8]) -> (u16, String) {
    let headers = [("Content-Type", "application/x-tar")];
    docker.call_with("PUT", &format!("/containers/box/archive?{query}"), &headers, body)
}

#[test]
fn files_go_in_and_come_out() {
    let env = Containers::new();
    let Some(docker) = Docker::new(&env) else { return };
    docker.text(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"]);
    let host = env.work().join("file");
    std::fs::write(&host, "from the host").unwrap();
    docker.text(&["cp", host.to_str().unwrap(), "box:/in"]);
    assert_eq!(env.inside("box", "cat /in"), "from the host");
    docker.text(&["exec", "box", "sh", "-c", "mkdir -p /d/e; echo x > /d/e/f; ln -s d /l"]);
    let out = env.work().join("out");
    docker.text(&["cp", "box:/d", out.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(out.join("e/f")).unwrap(), "x\n");
    docker.text(&["cp", "-L", "box:/l", env.work().join("followed").to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(env.work().join("followed/e/f")).unwrap(), "x\n");
    docker.text(&["cp", &format!("{}/.", out.display()), "box:/copy"]);
    assert_eq!(env.inside("box", "cat /copy/e/f"), "x\n");
    assert!(
        docker
            .refused(&["cp", "box:/missing", "."])
            .contains("Could not find the file /missing in container")
    );
    // The same of one that does not run.
    docker.text(&["kill", "box"]);
    docker.text(&["cp", host.to_str().unwrap(), "box:/later"]);
    let Some(said) = docker.python(
        "import io, tarfile\nc = client.containers.get('box')\nbits, stat = c.get_archive('/l')\nb''.join(bits)\nprint(stat['name'], stat['linkTarget'], stat['mode'] >> 27)\nbits, stat = c.get_archive('/later')\nt = tarfile.open(fileobj=io.BytesIO(b''.join(bits)))\nprint(stat['size'], t.extractfile('later').read().decode())\nt = tarfile.open(fileobj=io.BytesIO(b''.join(c.export())))\nprint('bin/sh' in t.getnames(), 'later' in t.getnames())",
    ) else {
        return;
    };
    assert_eq!(said, "l /d 1\n13 from the host\nTrue True");
    let exported = docker.run(["export", "box"]).ok();
    assert!(exported.stdout_text().contains("from the host"));
}

#[test]
fn archives_are_unpacked_where_they_may() {
    let env = Containers::new();
    let Some(docker) = Docker::new(&env) else { return };
    docker.text(&[
        "run",
        "-d",
        "--name",
        "box",
        "-u",
        "5:6",
        "--tmpfs",
        "/t",
        "-v",
        "kept:/ro:ro",
        "busybox",
        "sleep",
        "1000",
    ]);
    assert_eq!(put(&docker, "path=/tmp", &archive(&[("a", 'f', "1"), ("b/", 'd', "")])).0, 200);
    assert_eq!(env.inside("box", "cat /tmp/a; stat -c %u:%g /tmp/a"), "17:8\n");
    assert_eq!(put(&docker, "path=/tmp&copyUIDGID=1", &archive(&[("a", 'f', "2")])).0, 200);
    assert_eq!(env.inside("box", "cat /tmp/a; stat -c %u:%g /tmp/a"), "25:6\n");
    // A directory is replaced by a file unless that is forbidden.
    assert_eq!(put(&docker, "path=/tmp&noOverwriteDirNonDir=true", &archive(&[("b", 'f', "3")])).0, 400);
    assert_eq!(put(&docker, "path=/tmp", &archive(&[("b", 'f', "3")])).0, 200);
    assert_eq!(env.inside("box", "cat /tmp/b"), "3");
    let mut packed = Vec::new();
    let mut encoder = flate2::write::GzEncoder::new(&mut packed, flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, &archive(&[("z", 'f', "packed")])).unwrap();
    encoder.finish().unwrap();
    assert_eq!(put(&docker, "path=/tmp", &packed).0, 200);
    assert_eq!(env.inside("box", "cat /tmp/z"), "packed");
    for (query, expected) in
        [("path=/nowhere", 400), ("path=/tmp/a", 400), ("", 400), ("path=%00", 400), ("path=/ro", 403)]
    {
        let answer = put(&docker, query, &archive(&[("x", 'f', "x")]));
        assert_eq!(answer.0, expected, "{query}: {answer:?}");
        assert!(answer.1.starts_with("{\"message\":"), "{answer:?}");
    }
    assert_eq!(docker.call("PUT", "/containers/nobody/archive?path=/", "x").0, 404);
    assert_eq!(docker.call("GET", "/containers/box/archive?path=/none", "").0, 404);
    assert_eq!(docker.call("HEAD", "/containers/box/archive?path=/none", "").0, 404);
    assert_eq!(docker.call("GET", "/containers/box/archive", "").0, 400);
}

#[test]
fn no_archive_leaves_its_container() {
    let env = Containers::new();
    let Some(docker) = Docker::new(&env) else { return };
    docker.text(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"]);
    let secret = env.work().join("secret");
    std::fs::write(&secret, "of the host").unwrap();
    for path in [
        format!("/../../../../..{}", secret.display()),
        "/proc/1/root/etc/shadow".to_owned(),
        "/sys/kernel".to_owned(),
    ] {
        let (status, body) = docker.call("GET", &format!("/containers/box/archive?path={path}"), "");
        assert_eq!((status, body.contains("of the host")), (404, false), "{path}: {body}");
    }
    let outside = format!("../../../../../../..{}/evil", env.work().display());
    let nested = format!("link{}/evil", env.work().display());
    for entries in [vec![(outside.as_str(), 'f', "x")], vec![("link", 'l', ""), (nested.as_str(), 'f', "x")]]
    {
        let (status, answer) = put(&docker, "path=/tmp", &archive(&entries));
        assert!(status == 200 || status == 400, "{answer}");
        assert!(!env.work().join("evil").exists(), "{entries:?}");
    }
    for body in
        [&b"no archive at all, and longer than one block would be"[..], &archive(&[("cut", 'f', "x")])[..700]]
    {
        let (status, answer) = put(&docker, "path=/tmp", body);
        assert_eq!(status, 400, "{answer}");
    }
    for id in ["..%2f..%2fetc", "%2e%2e", "a%00b", "box%2f..%2fbox"] {
        let (status, answer) = docker.call("GET", &format!("/containers/{id}/json"), "");
        assert!(status == 404 || status == 400, "{id}: {status} {answer}");
    }
    assert_eq!(env.inside("box", "echo well"), "well\n");
}

#[test]
fn large_archives_pass_without_being_held() {
    let env = Containers::new();
    let Some(docker) = Docker::new(&env) else { return };
    docker.text(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"]);
    let (large, back) = (env.work().join("large"), env.work().join("back"));
    let size = 300_u64 << 20;
    std::fs::File::create(&large).unwrap().set_len(size).unwrap();
    docker.text(&["cp", large.to_str().unwrap(), "box:/large"]);
    docker.text(&["cp", "box:/large", back.to_str().unwrap()]);
    assert_eq!(std::fs::metadata(&back).unwrap().len(), size);
    let peak = docker.daemon.peak_memory();
    assert!(peak < 200 << 20, "the daemon took {peak} bytes");
}
