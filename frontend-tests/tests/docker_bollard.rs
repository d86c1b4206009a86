//! Docker's API by the crate `bollard`: every family of calls.

mod common;

use std::collections::HashMap;

use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::models::{
    ContainerCreateBody, EndpointSettings, HostConfig, Mount, MountType, NetworkConnectRequest,
    NetworkCreateRequest, NetworkDisconnectRequest, PortBinding, VolumeCreateRequest,
};
use bollard::query_parameters as ask;
use bollard::{ClientVersion, Docker};
use common::containers::Containers;
use common::daemon::Daemon;
use tokio_stream::{Stream, StreamExt as _};

/// The newest version of Docker 28.
const VERSION: ClientVersion = ClientVersion { major_version: 1, minor_version: 51 };

/// Runs what a client does.
fn run<T>(daemon: &Daemon<'_>, work: impl AsyncFnOnce(Docker) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let docker = Docker::connect_with_unix(&daemon.address(), 120, &VERSION).unwrap();
        work(docker.negotiate_version().await.unwrap()).await
    })
}

/// All of a stream.
async fn all<T>(stream: impl Stream<Item = Result<T, bollard::errors::Error>>) -> Vec<T> {
    let mut stream = std::pin::pin!(stream);
    let mut items = Vec::new();
    while let Some(item) = stream.next().await {
        items.push(item.unwrap());
    }
    items
}

/// What a container says, as one text for each of its streams.
fn said(output: &[LogOutput]) -> (String, String) {
    let mut texts = (String::new(), String::new());
    for piece in output {
        match piece {
            LogOutput::StdErr { message } => texts.1.push_str(std::str::from_utf8(message).unwrap()),
            other => texts.0.push_str(&other.to_string()),
        }
    }
    texts
}

fn status(error: bollard::errors::Error) -> u16 {
    match error {
        bollard::errors::Error::DockerResponseServerError { status_code, .. } => status_code,
        other => panic!("{other}"),
    }
}

fn words(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(|word| (*word).to_owned()).collect())
}

/// A container that says something and then waits.
fn sleeper(host: HostConfig) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some("busybox".to_owned()),
        cmd: words(&["sh", "-c", "echo out; echo err >&2; exec sleep 1000"]),
        env: words(&["A=1"]),
        labels: Some(HashMap::from([("kind".to_owned(), "sleeper".to_owned())])),
        exposed_ports: words(&["80/tcp"]),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    }
}

fn named(name: &str) -> Option<ask::CreateContainerOptions> {
    Some(ask::CreateContainerOptionsBuilder::default().name(name).build())
}

fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap()
}

#[test]
fn bollard_looks_at_the_system() {
    let env = Containers::new();
    let daemon = Daemon::start(&env);
    run(&daemon, async |docker| {
        assert_eq!(docker.ping().await.unwrap(), "OK");
        assert_eq!(docker.version().await.unwrap().api_version.as_deref(), Some("1.51"));
        let info = docker.info().await.unwrap();
        assert_eq!((info.containers, info.os_type.as_deref()), (Some(0), Some("linux")));
        let events = ask::EventsOptionsBuilder::default().since("0").until("4000000000").build();
        let mut events = std::pin::pin!(docker.events(Some(events)));
        docker
            .tag_image("busybox", Some(ask::TagImageOptionsBuilder::default().repo("other").tag("1").build()))
            .await
            .unwrap();
        loop {
            let event = events.next().await.unwrap().unwrap();
            if event.action.as_deref() == Some("tag")
                && event.actor.unwrap().attributes.unwrap()["name"].contains("other")
            {
                break;
            }
        }
        let used = docker.df(None::<ask::DataUsageOptions>).await;
        assert!(used.is_ok(), "{used:?}");
    });
}

#[test]
fn bollard_drives_containers() {
    let env = Containers::new();
    let daemon = Daemon::start(&env);
    run(&daemon, async |docker| {
        let host = HostConfig {
            memory: Some(64 << 20),
            init: Some(true),
            mounts: Some(vec![Mount {
                target: Some("/data".to_owned()),
                source: Some("kept".to_owned()),
                typ: Some(MountType::VOLUME),
                ..Mount::default()
            }]),
            port_bindings: Some(HashMap::from([(
                "80/tcp".to_owned(),
                Some(vec![PortBinding {
                    host_ip: Some("127.0.0.1".to_owned()),
                    host_port: Some(String::new()),
                }]),
            )])),
            ..HostConfig::default()
        };
        let id = docker.create_container(named("one"), sleeper(host)).await.unwrap().id;
        assert_eq!(
            status(docker.create_container(named("one"), sleeper(HostConfig::default())).await.unwrap_err()),
            409
        );
        docker.start_container("one", None).await.unwrap();
        let found = docker.inspect_container("one", None).await.unwrap();
        assert_eq!(found.id.as_deref(), Some(id.as_str()));
        let host = found.host_config.unwrap();
        assert_eq!((host.memory, host.init), (Some(64 << 20), Some(true)));
        assert_eq!(found.state.unwrap().running, Some(true));
        let ports = found.network_settings.unwrap().ports.unwrap();
        assert!(ports["80/tcp"].as_ref().unwrap()[0].host_port.as_ref().unwrap().parse::<u16>().unwrap() > 0);

        let logs = ask::LogsOptionsBuilder::default().stdout(true).stderr(true).follow(true).build();
        let mut logs = std::pin::pin!(docker.logs("one", Some(logs)));
        let mut heard = Vec::new();
        while said(&heard) != ("out\n".to_owned(), "err\n".to_owned()) {
            heard.push(logs.next().await.unwrap().unwrap());
        }

        let listed = ask::ListContainersOptionsBuilder::default()
            .filters(&HashMap::from([("label", vec!["kind=sleeper"])]))
            .size(true)
            .build();
        let listed = docker.list_containers(Some(listed)).await.unwrap();
        assert_eq!(listed[0].names.as_ref().unwrap(), &["/one"]);
        let top = docker.top_processes("one", None::<ask::TopOptions>).await.unwrap();
        assert!(top.processes.unwrap().iter().flatten().any(|word| word.contains("sleep 1000")));
        let stats = ask::StatsOptionsBuilder::default().stream(false).one_shot(true).build();
        let stats = all(docker.stats("one", Some(stats))).await;
        assert!(stats[0].pids_stats.as_ref().unwrap().current.unwrap_or(0) > 0);

        let exec = CreateExecOptions {
            cmd: Some(vec!["sh", "-c", "read x; echo \"$x $B\" | tee /made; exit 3"]),
            env: Some(vec!["B=2"]),
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..CreateExecOptions::default()
        };
        let exec = docker.create_exec("one", exec).await.unwrap().id;
        let started = docker.start_exec(&exec, None::<StartExecOptions>).await.unwrap();
        let StartExecResults::Attached { output, mut input } = started else { panic!("it is attached") };
        tokio::io::AsyncWriteExt::write_all(&mut input, b"hello\n").await.unwrap();
        assert_eq!(said(&all(output).await).0, "hello 2\n");
        assert_eq!(docker.inspect_exec(&exec).await.unwrap().exit_code, Some(3));

        let into = ask::UploadToContainerOptionsBuilder::default().path("/data").build();
        docker
            .upload_to_container("one", Some(into), bollard::body_full(tar(&[("file", "kept\n")]).into()))
            .await
            .unwrap();
        let from = ask::DownloadFromContainerOptionsBuilder::default().path("/data/file").build();
        let archive = all(docker.download_from_container("one", Some(from))).await.concat();
        let mut archive = tar::Archive::new(archive.as_slice());
        let mut entries = archive.entries().unwrap();
        let text = std::io::read_to_string(entries.next().unwrap().unwrap()).unwrap();
        assert_eq!(text, "kept\n");
        assert!(all(docker.export_container("one")).await.concat().len() > 1 << 20);
        let changes = docker.container_changes("one").await.unwrap().unwrap_or_default();
        assert!(changes.iter().any(|change| change.path == "/made"), "{changes:?}");

        docker.pause_container("one").await.unwrap();
        docker.unpause_container("one").await.unwrap();
        let new_name = ask::RenameContainerOptionsBuilder::default().name("two").build();
        docker.rename_container("one", new_name).await.unwrap();
        let waiting = async {
            let mut waited = std::pin::pin!(docker.wait_container("two", None::<ask::WaitContainerOptions>));
            waited.next().await.unwrap()
        };
        let signal = ask::KillContainerOptionsBuilder::default().signal("SIGKILL").build();
        let (waited, killed) = tokio::join!(waiting, docker.kill_container("two", Some(signal)));
        killed.unwrap();
        // A program that does not end well is an error of this crate's.
        match waited {
            Err(bollard::errors::Error::DockerContainerWaitError { code, .. }) => assert_eq!(code, 137),
            other => panic!("{other:?}"),
        }
        docker.restart_container("two", None).await.unwrap();
        let at_once = ask::StopContainerOptionsBuilder::default().t(0).build();
        docker.stop_container("two", Some(at_once)).await.unwrap();
        docker.remove_container("two", None).await.unwrap();
        assert_eq!(status(docker.inspect_container("two", None).await.unwrap_err()), 404);
    });
}

#[test]
fn bollard_attaches_to_containers() {
    let env = Containers::new();
    let daemon = Daemon::start(&env);
    run(&daemon, async |docker| {
        let body = ContainerCreateBody {
            image: Some("busybox".to_owned()),
            cmd: words(&["cat"]),
            open_stdin: Some(true),
            stdin_once: Some(true),
            attach_stdin: Some(true),
            ..ContainerCreateBody::default()
        };
        docker.create_container(named("cat"), body).await.unwrap();
        let streams = ask::AttachContainerOptionsBuilder::default()
            .stdin(true)
            .stdout(true)
            .stderr(true)
            .stream(true)
            .build();
        let mut attached = docker.attach_container("cat", Some(streams)).await.unwrap();
        docker.start_container("cat", None).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut attached.input, b"one\ntwo\n").await.unwrap();
        tokio::io::AsyncWriteExt::shutdown(&mut attached.input).await.unwrap();
        assert_eq!(said(&all(attached.output).await).0, "one\ntwo\n");
        docker
            .remove_container("cat", Some(ask::RemoveContainerOptionsBuilder::default().force(true).build()))
            .await
            .unwrap();
    });
}

#[test]
fn bollard_handles_images() {
    let env = Containers::new();
    let daemon = Daemon::start(&env);
    let registry = testkit::DockerRegistry::start();
    run(&daemon, async |docker| {
        let context = tar(&[
            ("Dockerfile", "FROM busybox\nCOPY file /file\nLABEL a=b\nCMD cat /file\n"),
            ("file", "built\n"),
        ]);
        let options = ask::BuildImageOptionsBuilder::default().t("made:1").rm(true).build();
        let told = all(docker.build_image(options, None, Some(bollard::body_full(context.into())))).await;
        let told: String = told.into_iter().filter_map(|line| line.stream).collect();
        assert!(told.contains("Successfully tagged made:1"), "{told}");
        let found = docker.inspect_image("made:1").await.unwrap();
        assert_eq!(found.config.unwrap().labels.unwrap()["a"], "b");
        assert!(docker.image_history("made:1").await.unwrap().len() > 2);

        let archive = all(docker.export_image("made:1")).await.concat();
        docker.remove_image("made:1", None::<ask::RemoveImageOptions>, None).await.unwrap();
        assert_eq!(status(docker.inspect_image("made:1").await.unwrap_err()), 404);
        let options = ask::ImportImageOptionsBuilder::default().build();
        all(docker.import_image(options, bollard::body_full(archive.into()), None)).await;
        let filters = HashMap::from([("reference", vec!["made"])]);
        let options = ask::ListImagesOptionsBuilder::default().filters(&filters).build();
        let listed = docker.list_images(Some(options)).await.unwrap();
        assert_eq!(listed[0].repo_tags, ["made:1"]);

        if let Some(registry) = &registry {
            let repository = registry.reference("made");
            let options = ask::TagImageOptionsBuilder::default().repo(&repository).tag("2").build();
            docker.tag_image("made:1", Some(options)).await.unwrap();
            let options = ask::PushImageOptionsBuilder::default().tag("2").build();
            let told = all(docker.push_image(
                &repository,
                Some(options),
                Some(bollard::auth::DockerCredentials::default()),
            ))
            .await;
            assert!(
                told.iter()
                    .any(|line| line.status.as_ref().is_some_and(|status| status.starts_with("2: digest: ")))
            );
            let name = format!("{repository}:2");
            docker.inspect_registry_image(&name, None).await.unwrap();
            docker.remove_image(&name, None::<ask::RemoveImageOptions>, None).await.unwrap();
            let options = ask::CreateImageOptionsBuilder::default().from_image(&repository).tag("2").build();
            let told = all(docker.create_image(Some(options), None, None)).await;
            assert!(
                told.iter()
                    .any(|line| line.status.as_ref().is_some_and(|status| status.starts_with("Status: ")))
            );
        }

        docker.create_container(named("base"), sleeper(HostConfig::default())).await.unwrap();
        let options = ask::CommitContainerOptionsBuilder::default()
            .container("base")
            .repo("committed")
            .tag("1")
            .build();
        docker.commit_container(options, bollard::models::ContainerConfig::default()).await.unwrap();
        docker.inspect_image("committed:1").await.unwrap();
        docker.prune_images(None::<ask::PruneImagesOptions>).await.unwrap();
        docker.prune_build(None::<ask::PruneBuildOptions>).await.unwrap();
    });
}

#[test]
fn bollard_makes_networks_and_volumes() {
    let env = Containers::new();
    let daemon = Daemon::start(&env);
    run(&daemon, async |docker| {
        let volume = VolumeCreateRequest { name: Some("v".to_owned()), ..VolumeCreateRequest::default() };
        assert_eq!(docker.create_volume(volume).await.unwrap().name, "v");
        assert_eq!(docker.inspect_volume("v").await.unwrap().driver, "local");
        let listed = docker.list_volumes(None::<ask::ListVolumesOptions>).await.unwrap().volumes.unwrap();
        assert_eq!(listed.len(), 1);
        docker.remove_volume("v", None::<ask::RemoveVolumeOptions>).await.unwrap();
        docker.prune_volumes(None::<ask::PruneVolumesOptions>).await.unwrap();

        let network = NetworkCreateRequest { name: "n".to_owned(), ..NetworkCreateRequest::default() };
        let id = docker.create_network(network.clone()).await.unwrap().id;
        assert_eq!(status(docker.create_network(network).await.unwrap_err()), 409);
        docker.create_container(named("member"), sleeper(HostConfig::default())).await.unwrap();
        let connect = NetworkConnectRequest {
            container: "member".to_owned(),
            endpoint_config: Some(EndpointSettings {
                aliases: words(&["alias"]),
                ..EndpointSettings::default()
            }),
        };
        docker.connect_network("n", connect).await.unwrap();
        docker.start_container("member", None).await.unwrap();
        let found = docker.inspect_network("n", None).await.unwrap();
        assert_eq!(found.id.as_deref(), Some(id.as_str()));
        assert_eq!(found.containers.unwrap().len(), 1);
        let disconnect = NetworkDisconnectRequest { container: "member".to_owned(), force: Some(true) };
        docker.disconnect_network("n", disconnect).await.unwrap();
        docker.remove_network("n").await.unwrap();
        let left = docker.list_networks(None::<ask::ListNetworksOptions>).await.unwrap();
        let mut left: Vec<_> =
            left.into_iter().map(|network| (network.name.unwrap(), network.driver.unwrap())).collect();
        left.sort();
        let pair = |name: &str, driver: &str| (name.to_owned(), driver.to_owned());
        assert_eq!(left, [pair("bridge", "bridge"), pair("host", "host"), pair("none", "null")]);
        docker.prune_networks(None::<ask::PruneNetworksOptions>).await.unwrap();
        docker
            .remove_container(
                "member",
                Some(ask::RemoveContainerOptionsBuilder::default().force(true).v(true).build()),
            )
            .await
            .unwrap();
        docker.prune_containers(None::<ask::PruneContainersOptions>).await.unwrap();
    });
}
