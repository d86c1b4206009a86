//! Log drivers: what containers write comes to servers of every kind as Docker sends it, a copy stays readable here, and
//! servers that are away, slow or hostile hold up no more than they should.

mod common;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::time::Duration;

use common::containers::Containers;
use common::visitor;
use testkit::Output;

/// How long to wait for what has to come.
const DEADLINE: Duration = Duration::from_secs(60);

/// Three lines, of which one is an error.
const SCRIPT: &str = "echo one; echo two; echo three >&2";

/// Runs a container to its end, with a log driver and its options.
fn logged(env: &Containers, driver: &str, options: &[&str], script: &str) -> Output {
    let mut flags = vec!["run", "--name", "c", "--network", "none", "--log-driver", driver];
    options.iter().for_each(|option| flags.extend(["--log-opt", option]));
    env.lap(flags).args(["busybox", "sh", "-c", script]).ok()
}

fn udp() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let address = format!("udp://{}", socket.local_addr().unwrap());
    (socket, address)
}

fn datagram(receive: impl Fn(&mut [u8]) -> std::io::Result<usize>) -> Vec<u8> {
    let mut buffer = vec![0; 100_000];
    let length = receive(&mut buffer).expect("a datagram in time");
    buffer.truncate(length);
    buffer
}

fn text(datagram: Vec<u8>) -> String {
    String::from_utf8(datagram).unwrap()
}

/// All that the one who connects says until it goes.
fn said(listener: &TcpListener) -> Vec<u8> {
    let mut stream = visitor(listener);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    all
}

#[test]
fn syslog_gets_lines_by_datagrams() {
    let env = Containers::new();
    let (socket, address) = udp();
    let address = format!("syslog-address={address}");
    let tag = "tag={{.ImageName}}/{{.Name}}/{{.ID}}";
    logged(&env, "syslog", &[&address, tag, "syslog-facility=local1", "syslog-format=rfc3164"], SCRIPT);
    let id = env.inspect("c", ".Id");
    let mut lines: Vec<String> = (0..3).map(|_| text(datagram(|buffer| socket.recv(buffer)))).collect();
    lines.sort();
    for (line, (priority, said)) in lines.iter().zip([("139", "three"), ("142", "one"), ("142", "two")]) {
        assert!(line.starts_with(&format!("<{priority}>")), "{line}");
        let end = format!("]: {said}\n");
        assert!(line.ends_with(&end), "{line}");
        assert!(line.contains(&format!(" busybox/c/{}[", &id[..12])), "{line}");
    }
    // A copy is here.
    let logs = env.lap(["logs", "c"]).ok();
    assert_eq!((logs.stdout_text(), logs.stderr_text()), ("one\ntwo\n".to_owned(), "three\n".to_owned()));
    assert_eq!(env.inspect("c", ".HostConfig.LogConfig.Type"), "syslog");
    assert_eq!(env.inspect("c", "index .HostConfig.LogConfig.Config \"syslog-facility\""), "local1");
    assert_eq!(env.inspect("c", ".LogPath"), "");
}

#[test]
fn syslog_gets_lines_by_streams_and_sockets() {
    let env = Containers::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("syslog-address=tcp://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || said(&listener));
    logged(&env, "syslog", &[&address, "syslog-format=rfc5424micro", "tag=t"], "echo one; echo two");
    let all = text(server.join().unwrap());
    let lines: Vec<&str> = all.lines().collect();
    assert_eq!(lines.len(), 2, "{all}");
    assert!(lines[0].starts_with("<30>1 20") && lines[0].ends_with(" - one"), "{all}");
    assert!(lines[1].contains(" t ") && lines[1].ends_with(" t - two"), "{all}");
    env.lap(["rm", "c"]).ok();

    let path = env.work().join("log.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let address = format!("syslog-address=unixgram://{}", path.display());
    logged(&env, "syslog", &[&address], "echo by a socket");
    assert!(text(datagram(|buffer| socket.recv(buffer))).ends_with("]: by a socket\n"));
    env.lap(["rm", "c"]).ok();
    std::fs::remove_file(&path).unwrap();

    let listener = UnixListener::bind(&path).unwrap();
    let address = format!("syslog-address=unix://{}", path.display());
    logged(&env, "syslog", &[&address, "cache-disabled=true"], "echo by a stream");
    let mut all = String::new();
    listener.accept().unwrap().0.read_to_string(&mut all).unwrap();
    assert!(all.ends_with("]: by a stream\n"), "{all}");
    let refused = env.lap(["logs", "c"]).fails(1);
    refused.stderr_has(&["configured logging driver of container c does not support reading"]);
}

#[test]
fn syslog_is_encrypted_where_that_is_asked_for() {
    let env = Containers::new();
    let Some(certificate) = testkit::certificates::self_signed(&env.work(), "log-server") else { return };
    let Some(openssl) = testkit::judges::program("openssl") else { return };
    // Its input never ends, and nobody types.
    let script = "mkfifo \"$0\" && exec 3<>\"$0\" && exec \"$@\" <&3";
    let mut server = testkit::Lap::new(Path::new("/bin/sh"))
        .args(["-c", script])
        .arg(env.work().join("input"))
        .arg(openssl.path())
        .args(["s_server", "-naccept", "2", "-accept", "127.0.0.1:0"])
        .arg("-cert")
        .arg(&certificate.file)
        .arg("-key")
        .arg(&certificate.key)
        .spawn();
    let address = server.wait_for_line("ACCEPT ");
    let address = address.trim().trim_start_matches("ACCEPT ").to_owned();
    let to = format!("syslog-address=tcp+tls://{address}");
    let authority = format!("syslog-tls-ca-cert={}", certificate.file.display());
    logged(&env, "syslog", &[&to, &authority, "syslog-format=rfc5424"], "echo secretly");
    env.lap(["rm", "c"]).ok();
    // Who is not trusted gets nothing.
    let flags = ["run", "--name", "c", "--log-driver", "syslog", "--log-opt", &to];
    let refused = env.lap(flags).args(["busybox", "echo", "openly"]).fails(125);
    refused.stderr_has(&["failed to initialize logging driver", "certificate"]);
    let said = server.finish().stdout_text();
    let line = said.lines().find(|line| line.ends_with(" - secretly")).expect("the line");
    let (count, rest) = line.split_once(' ').unwrap();
    assert_eq!(count.parse::<usize>().unwrap(), rest.len() + 1, "{said}");
    assert!(!said.contains("openly"));
}

#[test]
fn the_journal_gets_dockers_fields() {
    let env = Containers::new();
    let run = env.work().join("run");
    std::fs::create_dir_all(run.join("systemd/journal")).unwrap();
    let socket = UnixDatagram::bind(run.join("systemd/journal/socket")).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    // Only what is started here sees the socket at its usual place.
    testkit::mounted::alone(|| {
        rustix::mount::mount_bind(&run, "/run").unwrap();
        let script = "echo one; head -c 20000 /dev/zero | tr '\\0' x; echo";
        let labels = ["run", "--name", "c", "--network", "none", "-l", "com.example=1", "-e", "A=2"];
        let options = ["--log-driver", "journald", "--log-opt", "labels=com.example", "--log-opt", "env=A"];
        env.lap(labels).args(options).args(["busybox", "sh", "-c", script]).ok();
    });
    let id = env.inspect("c", ".Id");
    let first = text(datagram(|buffer| socket.recv(buffer)));
    let fields: BTreeMap<&str, &str> = first.lines().filter_map(|line| line.split_once('=')).collect();
    for (name, value) in [
        ("MESSAGE", "one"),
        ("PRIORITY", "6"),
        ("CONTAINER_ID", &id[..12]),
        ("CONTAINER_ID_FULL", &id),
        ("CONTAINER_NAME", "c"),
        ("CONTAINER_TAG", &id[..12]),
        ("SYSLOG_IDENTIFIER", &id[..12]),
        ("IMAGE_NAME", "busybox"),
        ("COM_EXAMPLE", "1"),
        ("A", "2"),
    ] {
        assert_eq!(fields.get(name), Some(&value), "{name} in {first}");
    }
    assert!(!first.contains("PARTIAL"));
    let piece = text(datagram(|buffer| socket.recv(buffer)));
    assert!(piece.contains("CONTAINER_PARTIAL_MESSAGE=true\n"), "{piece}");
    let last = text(datagram(|buffer| socket.recv(buffer)));
    assert!(last.contains("CONTAINER_PARTIAL_LAST=true\n") && !last.contains("PARTIAL_MESSAGE"), "{last}");
    assert!(env.lap(["logs", "c"]).ok().stdout_text().starts_with("one\nxxx"));
}

#[test]
fn gelf_gets_documents_in_datagrams_and_streams() {
    let env = Containers::new();
    let (socket, address) = udp();
    let address = format!("gelf-address={address}");
    logged(&env, "gelf", &[&address], "echo hello");
    let packed = datagram(|buffer| socket.recv(buffer));
    let document: serde_json::Value =
        serde_json::from_reader(flate2::read::GzDecoder::new(&packed[..])).unwrap();
    assert_eq!((&document["version"], &document["short_message"]), (&"1.1".into(), &"hello".into()));
    assert_eq!((&document["_container_name"], &document["level"]), (&"c".into(), &6.into()));
    assert_eq!(
        (&document["_image_name"], &document["_command"]),
        (&"busybox".into(), &"sh -c echo hello".into())
    );
    env.lap(["rm", "c"]).ok();

    // What is large comes in chunks.
    let script = "head -c 5000 /dev/zero | tr '\\0' x; echo";
    logged(&env, "gelf", &[&address, "gelf-compression-type=none"], script);
    let mut chunks: Vec<Vec<u8>> = Vec::new();
    while chunks.is_empty() || chunks.len() < usize::from(chunks[0][11]) {
        let chunk = datagram(|buffer| socket.recv(buffer));
        assert!(chunk.len() <= 1420 && chunk.starts_with(&[0x1e, 0x0f]));
        chunks.push(chunk);
    }
    chunks.sort_by_key(|chunk| chunk[10]);
    let whole: Vec<u8> = chunks.iter().flat_map(|chunk| chunk[12..].to_vec()).collect();
    let document: serde_json::Value = serde_json::from_slice(&whole).unwrap();
    assert_eq!(document["short_message"].as_str().unwrap().len(), 5000);
    env.lap(["rm", "c"]).ok();

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("gelf-address=tcp://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || said(&listener));
    logged(&env, "gelf", &[&address], "echo one; echo; echo two");
    let all = text(server.join().unwrap());
    let messages: Vec<serde_json::Value> = all
        .split_terminator('\0')
        .map(|document| serde_json::from_str::<serde_json::Value>(document).unwrap()["short_message"].clone())
        .collect();
    assert_eq!(messages, ["one", "two"]);
}

/// Reads one value of MessagePack; texts, numbers, arrays and maps only.
fn unpack(bytes: &mut &[u8]) -> Option<serde_json::Value> {
    fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        Some(taken)
    }
    fn number(bytes: &mut &[u8], length: usize) -> Option<u64> {
        Some(take(bytes, length)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
    let head = take(bytes, 1)?[0];
    let length = match head {
        0x80..=0x9f => u64::from(head & 0x0f),
        0xa0..=0xbf => u64::from(head & 0x1f),
        0xd9 => number(bytes, 1)?,
        0xda | 0xde => number(bytes, 2)?,
        0xdb => number(bytes, 4)?,
        0xcf => return number(bytes, 8).map(Into::into),
        // A time with nanoseconds.
        0xd7 => return take(bytes, 9).map(|time| format!("{time:?}").into()),
        other => panic!("{other:#x} is not expected"),
    };
    let length = usize::try_from(length).unwrap();
    match head {
        0x80..=0x8f | 0xde => {
            let mut map = serde_json::Map::new();
            for _ in 0..length {
                let name = unpack(bytes)?.as_str()?.to_owned();
                map.insert(name, unpack(bytes)?);
            }
            Some(map.into())
        }
        0x90..=0x9f => (0..length).map(|_| unpack(bytes)).collect::<Option<Vec<_>>>().map(Into::into),
        _ => Some(String::from_utf8_lossy(take(bytes, length)?).into()),
    }
}

fn unpack_all(mut bytes: &[u8]) -> Vec<serde_json::Value> {
    std::iter::from_fn(|| unpack(&mut bytes)).collect()
}

#[test]
fn fluentd_gets_records() {
    let env = Containers::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("fluentd-address={}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || said(&listener));
    logged(&env, "fluentd", &[&address, "tag=app.{{.Name}}"], "echo one; echo two >&2");
    let records = unpack_all(&server.join().unwrap());
    let id = env.inspect("c", ".Id");
    let mut found: Vec<(&str, &str)> = Vec::new();
    for record in &records {
        assert_eq!(record[0], "app.c");
        assert!(record[1].as_u64().unwrap() > 1_700_000_000);
        assert_eq!(
            (&record[2]["container_id"], &record[2]["container_name"]),
            (&id.as_str().into(), &"/c".into())
        );
        found.push((record[2]["source"].as_str().unwrap(), record[2]["log"].as_str().unwrap()));
    }
    found.sort_unstable();
    assert_eq!(found, [("stderr", "two"), ("stdout", "one")]);
    env.lap(["rm", "c"]).ok();

    // By a socket, with answers.
    let path = env.work().join("fluent.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let address = format!("fluentd-address=unix://{}", path.display());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut got, mut chunk) = (Vec::new(), [0; 4096]);
        let mut records = Vec::new();
        loop {
            let length = stream.read(&mut chunk).unwrap();
            if length == 0 {
                return records;
            }
            got.extend_from_slice(&chunk[..length]);
            let mut rest = &got[..];
            let Some(record) = unpack(&mut rest) else { continue };
            let id = record[3]["chunk"].as_str().unwrap().to_owned();
            let mut answer = b"\x81\xa3ack\xd9".to_vec();
            answer.push(u8::try_from(id.len()).unwrap());
            answer.extend_from_slice(id.as_bytes());
            stream.write_all(&answer).unwrap();
            records.push(record[2]["log"].clone());
            got.clear();
        }
    });
    logged(
        &env,
        "fluentd",
        &[&address, "fluentd-request-ack=true", "fluentd-sub-second-precision=true"],
        "echo a; sleep 0.01; echo b",
    );
    assert_eq!(server.join().unwrap(), ["a", "b"]);
}

#[test]
fn a_server_that_is_away_stops_the_start_and_nothing_else() {
    let env = Containers::new();
    let away = testkit::FaultyRegistry::refused_address();
    for (driver, option) in [
        ("syslog", format!("syslog-address=tcp://{away}")),
        ("syslog", format!("syslog-address=unix://{}/none", env.work().display())),
        ("gelf", format!("gelf-address=tcp://{away}")),
        ("fluentd", format!("fluentd-address={away}")),
    ] {
        for mode in [&["run", "--name", "c"][..], &["run", "-d", "--name", "c"]] {
            let flags = ["--log-driver", driver, "--log-opt", &option, "busybox", "echo", "x"];
            let refused = env.lap(mode).args(flags).fails(125);
            refused.stderr_has(&["failed to initialize logging driver"]);
            assert_eq!(refused.stdout_text().trim().len() % 64, 0);
            env.lap(["rm", "-f", "c"]).ok();
        }
    }
    // Without waiting for it, the container runs, and its log is here.
    let option = format!("fluentd-address={away}");
    let options = [option.as_str(), "fluentd-async=true", "fluentd-max-retries=2", "fluentd-retry-wait=1ms"];
    logged(&env, "fluentd", &options, "seq 1000");
    assert!(env.lap(["logs", "c"]).ok().stdout_text().ends_with("\n1000\n"));
    assert!(env.inspect("c", ".State.Error").contains("log records were lost"));
    env.lap(["store", "check"]).ok();
}

#[test]
fn a_server_that_goes_away_is_found_again() {
    let env = Containers::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("syslog-address=tcp://{}", listener.local_addr().unwrap());
    let (goes, has_gone) = std::sync::mpsc::channel();
    let server = std::thread::spawn(move || {
        let mut first = visitor(&listener);
        let mut byte = [0; 1];
        while byte != *b"\n" {
            first.read_exact(&mut byte).unwrap();
        }
        drop(first);
        goes.send(()).unwrap();
        said(&listener)
    });
    let script = "echo one; read line; echo \"$line\"; read line";
    let flags = ["-i", "--name", "c", "--network", "none", "--log-driver", "syslog", "--log-opt", &address];
    env.detached(&[&flags[..], &["busybox", "sh", "-c", script]].concat());
    has_gone.recv().unwrap();
    env.lap(["attach", "--sig-proxy=false", "c"]).stdin("again\nend\n").ok();
    env.lap(["wait", "c"]).ok();
    assert!(text(server.join().unwrap()).ends_with("]: again\n"));
}

/// A server that takes connections and never reads.
fn deaf() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// The most memory that a process had, in KiB, without what it sees of its program's file, which others have in memory anyway.
fn peak_memory(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let figure = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    figure("VmHWM:") - figure("RssFile:")
}

#[test]
fn a_server_that_does_not_read_holds_up_only_who_wants_to_wait() {
    let env = Containers::new();
    let (_listener, address) = deaf();
    let address = format!("syslog-address=tcp://{address}");
    // 40 MB: far more than any buffer holds.
    let script = "head -c 40000000 /dev/zero | tr '\\0' x | fold -w 1000; touch /done; exec sleep 1000";
    let flags = [
        "--network",
        "none",
        "--log-driver",
        "syslog",
        "--log-opt",
        &address,
        "--log-opt",
        "cache-max-size=1m",
    ];
    let quick =
        [&flags[..], &["--name", "quick", "--log-opt", "mode=non-blocking", "busybox", "sh", "-c", script]];
    let id = env.detached(&quick.concat());
    env.wait_for_exec("quick", "test -e /done");
    let memory = peak_memory(env.shim_of(&id));
    assert!(memory < 16 << 10, "the shim took {memory} KiB");
    // The other one waits for its server, and is still there for everybody else.
    let slow = [&flags[..], &["--name", "slow", "busybox", "sh", "-c", script]].concat();
    let id = env.detached(&slow);
    assert_eq!(env.lap(["exec", "slow", "echo", "here"]).ok().stdout_text(), "here\n");
    env.lap(["exec", "slow", "test", "-e", "/done"]).fails(1);
    env.wait_for("slow", "xxx");
    assert!(peak_memory(env.shim_of(&id)) < 16 << 10);
    env.lap(["rm", "-f", "slow", "quick"]).ok();
    env.lap(["store", "check"]).ok();
}

#[test]
fn local_logs_are_compressed_and_read_as_one() {
    let env = Containers::new();
    let options = ["max-size=100k", "max-file=4"];
    let script =
        "awk 'BEGIN { for (i = 1; i <= 6000; i++) print \"line number\", i, \"of a log\" }'; echo end >&2";
    logged(&env, "local", &options, script);
    let id = env.inspect("c", ".Id");
    let directory = env.root().join("containers-v1").join(&id);
    let packed = |number: u32| directory.join(format!("json.log.{number}.gz"));
    assert!(packed(1).exists() && packed(3).exists() && !packed(4).exists());
    assert!(!directory.join("json.log.1").exists());
    let lines = |args: &[&str]| env.lap(["logs"]).args(args).arg("c").ok().stdout_text();
    let all = lines(&[]);
    let numbers: Vec<u32> =
        all.lines().map(|line| line.split(' ').nth(2).unwrap().parse().unwrap()).collect();
    assert!(numbers.len() > 2000 && numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    assert_eq!(*numbers.last().unwrap(), 6000);
    let tail = lines(&["-n", "2000"]);
    assert_eq!(tail.lines().count(), 1999, "the last one is of stderr");
    assert!(all.ends_with(&tail));
    assert_eq!(env.inspect("c", ".HostConfig.LogConfig.Type"), "local");
    env.lap(["rm", "c"]).ok();
    // Nobody is held up by a disk.
    logged(&env, "json-file", &["mode=non-blocking", "tag={{.Name}}"], SCRIPT);
    let logs = env.lap(["logs", "--details", "c"]).ok();
    assert_eq!(logs.stdout_text(), "tag=c one\ntag=c two\n");
    assert_eq!(logs.stderr_text(), "tag=c three\n");
}

#[test]
fn what_is_unknown_is_refused_by_name() {
    let env = Containers::new();
    let refused = |driver: &str, option: &str, said: &[&str]| {
        let mut flags = vec!["run", "--rm", "--log-driver", driver];
        if !option.is_empty() {
            flags.extend(["--log-opt", option]);
        }
        env.lap(flags).args(["busybox", "true"]).fails(125).stderr_has(said);
    };
    refused("awslogs", "", &["awslogs", "CloudWatch", "Fluent Bit"]);
    refused("splunk", "", &["splunk"]);
    refused("gcplogs", "", &["gcplogs"]);
    refused("other", "", &["no log driver named 'other' is registered", "json-file, local, syslog"]);
    refused("gelf", "", &["gelf-address"]);
    refused("json-file", "colour=red", &["unknown log opt 'colour' for json-file log driver"]);
    refused("local", "tag=x", &["unknown log opt 'tag' for local log driver"]);
    refused("syslog", "tag={{.Nothing}}", &["tag", "{{.ImageName}}"]);
    refused("syslog", "syslog-address=ftp://h", &["unsupported scheme: 'ftp'"]);
    refused("json-file", "max-buffer-size=1m", &["only supported with 'mode=non-blocking'"]);
    assert!(
        !Path::new(&env.root().join("containers-v1")).read_dir().is_ok_and(|mut dir| dir.next().is_some())
    );
}

#[test]
fn services_of_compose_choose_their_drivers() {
    let env = Containers::new();
    let (socket, address) = udp();
    let project = env.context();
    project.file(
        "compose.yaml",
        format!(
            "services:\n  a:\n    image: busybox\n    network_mode: none\n    command: echo from compose\n    \
             logging: {{driver: syslog, options: {{syslog-address: '{address}', tag: it}}}}\n"
        ),
    );
    let file = project.path().join("compose.yaml");
    env.lap(["compose", "-f"]).arg(&file).args(["up", "-d"]).ok();
    assert!(text(datagram(|buffer| socket.recv(buffer))).contains(" it["));
    env.lap(["compose", "-f"]).arg(&file).arg("down").ok();
}
