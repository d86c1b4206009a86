//! Containers that a client makes of results while it builds, and the processes in them.

mod common;
#[path = "common/grpc/mod.rs"]
mod grpc;

use std::collections::HashMap;

use common::daemon::{Buildx, Daemon};
use common::env;
use grpc::control::SolveRequest;
use grpc::frontend::exec_message::Input;
use grpc::frontend::{
    self, ExecMessage, FdMessage, InitMessage, NewContainerRequest, ReleaseContainerRequest, ReturnRequest,
    SignalMessage,
};
use grpc::llb::Llb;
use grpc::{Client, Gateway, Offer, OpenSession, Solving, details, pb, unique};
use testkit::TestEnv;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

/// A build that waits for its client, and a result of it.
struct Building<'a> {
    session: OpenSession,
    client: Client,
    gateway: Gateway,
    build: Option<Solving>,
    result: String,
    _daemon: Daemon<'a>,
}

impl<'a> Building<'a> {
    fn new(env: &'a TestEnv, offer: &Offer) -> Self {
        let daemon = Daemon::start(env);
        let client = Client::of(&daemon);
        let session = client.session(offer);
        let id = unique("exec");
        let request =
            SolveRequest { r#ref: id.clone(), session: session.id().to_owned(), ..SolveRequest::default() };
        let build = Some(client.begin(request));
        let mut gateway = client.gateway(&id);
        let mut llb = Llb::default();
        let base = llb.source("docker-image://docker.io/library/busybox:latest", &[]);
        let made = llb.run(&base, "echo built > /made");
        let definition = Some(llb.definition(&made));
        let solve = frontend::SolveRequest { definition, ..Default::default() };
        let result = client.wait(gateway.solve(solve)).unwrap().result.unwrap();
        let Some(frontend::result::Result::Ref(result)) = result.result else { panic!("{result:?}") };
        Self { session, client, gateway, build, result: result.id, _daemon: daemon }
    }

    /// A container over the result, with another mount of it.
    fn container(&mut self, id: &str) {
        let mount = |dest: &str, readonly: bool, result_id: &str| pb::Mount {
            dest: dest.to_owned(),
            readonly,
            result_id: result_id.to_owned(),
            ..Default::default()
        };
        let tmpfs = pb::Mount { mount_type: pb::MountType::Tmpfs.into(), ..mount("/memory", false, "") };
        let request = NewContainerRequest {
            container_id: id.to_owned(),
            mounts: vec![mount("/", false, &self.result), mount("/again", true, &self.result), tmpfs],
            hostname: "looking".to_owned(),
            ..Default::default()
        };
        self.client.wait(self.gateway.new_container(request)).unwrap();
    }

    /// A stream of processes.
    fn stream(&mut self) -> Talk<'_> {
        let (sender, outgoing) = mpsc::channel(16);
        let incoming = self.client.wait(self.gateway.exec_process(ReceiverStream::new(outgoing))).unwrap();
        Talk { client: &self.client, sender, incoming, heard: HashMap::new() }
    }
}

/// What has been heard of one process.
#[derive(Debug, Default)]
struct Heard {
    output: HashMap<u32, Vec<u8>>,
    code: Option<u32>,
    error: String,
    done: bool,
}

impl Heard {
    fn text(&self, fd: u32) -> String {
        String::from_utf8_lossy(self.output.get(&fd).map(Vec::as_slice).unwrap_or_default()).into_owned()
    }
}

struct Talk<'a> {
    client: &'a Client,
    sender: mpsc::Sender<ExecMessage>,
    incoming: Streaming<ExecMessage>,
    heard: HashMap<String, Heard>,
}

impl Talk<'_> {
    fn say(&self, process: &str, input: Input) {
        let message = ExecMessage { process_id: process.to_owned(), input: Some(input) };
        self.sender.blocking_send(message).unwrap();
    }

    fn start(&self, process: &str, container: &str, command: &str, fds: &[u32]) {
        self.start_as(process, InitMessage { fds: fds.to_vec(), ..init(container, command) });
    }

    fn start_as(&self, process: &str, init: InitMessage) {
        self.say(process, Input::Init(init));
    }

    fn input(&self, process: &str, data: &[u8], eof: bool) {
        self.say(process, Input::File(FdMessage { fd: 0, eof, data: data.to_vec() }));
    }

    /// Listens until `heard` is what was waited for.
    fn until(&mut self, process: &str, enough: impl Fn(&Heard) -> bool) -> &Heard {
        while !self.heard.get(process).is_some_and(&enough) {
            let message = self.client.next(&mut self.incoming).expect("it goes on");
            let heard = self.heard.entry(message.process_id).or_default();
            match message.input.unwrap() {
                Input::File(file) => heard.output.entry(file.fd).or_default().extend(file.data),
                Input::Exit(exit) => {
                    heard.code = Some(exit.code);
                    heard.error = exit.error.map(|error| error.message).unwrap_or_default();
                }
                Input::Done(_) => heard.done = true,
                _ => {}
            }
        }
        &self.heard[process]
    }

    fn done(&mut self, process: &str) -> &Heard {
        self.until(process, |heard| heard.done)
    }
}

fn init(container: &str, command: &str) -> InitMessage {
    let args = ["/bin/sh", "-c", command].map(str::to_owned).to_vec();
    let meta = pb::Meta { args, cwd: "/".to_owned(), ..Default::default() };
    InitMessage {
        container_id: container.to_owned(),
        meta: Some(meta),
        fds: vec![0, 1, 2],
        ..Default::default()
    }
}

#[test]
fn processes_run_in_a_container_of_a_result() {
    let env = env();
    let mut building = Building::new(&env, &Offer::new().secret("word", b"hidden"));
    building.container("c");
    let mut talk = building.stream();
    talk.start("first", "c", "cat /made /again/made; touch /left; hostname; echo oops >&2; cat", &[0, 1, 2]);
    talk.until("first", |heard| heard.text(1).contains("looking"));
    // Another one sees what the first has left, and does not outlive it.
    let secret = pb::SecretEnv { id: "word".to_owned(), name: "WORD".to_owned(), optional: false };
    talk.start("second", "c", "ls /left; exit 7", &[]);
    let second = talk.done("second");
    assert_eq!(
        (second.text(1).as_str(), second.code, second.error.as_str()),
        ("/left\n", Some(7), "exit code: 7")
    );
    talk.start("third", "c", "sleep 1000", &[]);
    talk.input("first", b"typed\n", false);
    talk.input("first", b"", true);
    let first = talk.done("first");
    assert_eq!(first.text(1), "built\nbuilt\nlooking\ntyped\n");
    assert_eq!((first.text(2).as_str(), first.code), ("oops\n", Some(0)));
    assert_eq!(talk.done("third").code, Some(137));
    // The next process starts the container anew, as it was.
    talk.start_as("fourth", InitMessage { secretenv: vec![secret], ..init("c", "ls /left; echo $WORD") });
    talk.input("fourth", b"", true);
    assert_eq!(talk.done("fourth").text(1), "hidden\n");
    drop(talk);
    let release = |id: &str| ReleaseContainerRequest { container_id: id.to_owned() };
    let released = building.gateway.release_container(release("c"));
    building.client.wait(released).unwrap();
    let again = building.gateway.release_container(release("c"));
    assert_eq!(building.client.wait(again).unwrap_err().code(), Code::NotFound);
    building.client.wait(building.gateway.r#return(ReturnRequest::default())).unwrap();
    building.client.outcome(building.build.take().unwrap()).unwrap();
    drop(building.session);
}

#[test]
fn signals_terminals_and_mistakes() {
    let env = env();
    let mut building = Building::new(&env, &Offer::new());
    building.container("c");
    let mut talk = building.stream();
    talk.start(
        "trap",
        "c",
        "trap 'echo got it; exit 3' HUP; echo ready; while :; do sleep 0.01; done",
        &[1, 2],
    );
    talk.until("trap", |heard| heard.text(1).contains("ready"));
    talk.say("trap", Input::Signal(SignalMessage { name: "HUP".to_owned() }));
    let trapped = talk.done("trap");
    assert_eq!((trapped.text(1).as_str(), trapped.code), ("ready\ngot it\n", Some(3)));
    talk.start_as(
        "tty",
        InitMessage { tty: true, ..init("c", "test -t 0 && test -t 1 && stty size; read x; echo got $x") },
    );
    talk.until("tty", |heard| heard.text(1).contains(' '));
    talk.input("tty", b"typed\n", false);
    assert!(talk.done("tty").text(1).contains("got typed"));
    talk.start("none", "nothing", "true", &[]);
    let none = talk.done("none");
    assert!(none.code == Some(255) && none.error.contains("no such container nothing"), "{none:?}");
    let mut wrong = init("c", "");
    wrong.meta = Some(pb::Meta { args: vec!["/not/there".to_owned()], ..Default::default() });
    talk.start_as("wrong", wrong);
    let wrong = talk.done("wrong");
    assert!(wrong.code == Some(255) && wrong.error.contains("/not/there"), "{wrong:?}");
}

/// What `ReadFileContainer`, `ReadDirContainer` and `StatFileContainer` say of one file.
fn read(building: &Building<'_>, mount_index: i32, path: &str) -> Result<String, Status> {
    let (r#ref, mut gateway) = ("c".to_owned(), building.gateway.clone());
    let file_path = path.to_owned();
    let request =
        frontend::ReadFileRequest { r#ref: r#ref.clone(), file_path, mount_index, ..Default::default() };
    let read = building.client.wait(gateway.read_file_container(request))?;
    let request = frontend::StatFileRequest { r#ref: r#ref.clone(), path: path.to_owned(), mount_index };
    let stat = building.client.wait(gateway.stat_file_container(request))?.stat.unwrap();
    assert_eq!(stat.size, i64::try_from(read.data.len()).unwrap());
    let (dir_path, include_pattern) = ("/".to_owned(), stat.path.clone());
    let request = frontend::ReadDirRequest { r#ref, dir_path, include_pattern, mount_index };
    let listed = building.client.wait(gateway.read_dir_container(request))?;
    assert_eq!(listed.entries, [stat]);
    Ok(String::from_utf8(read.data).unwrap())
}

#[test]
fn files_of_a_container_are_read_before_while_and_after_it_runs() {
    let env = env();
    let mut building = Building::new(&env, &Offer::new());
    building.container("c");
    assert_eq!(read(&building, 0, "/made").unwrap(), "built\n");
    assert_eq!(read(&building, 1, "made").unwrap(), "built\n");
    assert_eq!(read(&building, 2, "new").unwrap_err().code(), Code::NotFound);
    assert_eq!(read(&building, 7, "made").unwrap_err().code(), Code::InvalidArgument);
    let command =
        "echo new > /new; echo gone > /memory/new; ln -s /etc/passwd /out; rm /made; echo there; cat";
    let (gateway, client) = (building.gateway.clone(), building.client.clone());
    let mut talk = building.stream();
    talk.start("first", "c", command, &[0, 1]);
    talk.until("first", |heard| heard.text(1).contains("there"));
    let Talk { sender, incoming, heard, .. } = talk;
    assert_eq!(read(&building, 0, "/new").unwrap(), "new\n");
    assert_eq!(read(&building, 0, "../../new").unwrap(), "new\n");
    assert_eq!(read(&building, 2, "new").unwrap(), "gone\n");
    assert_eq!(read(&building, 0, "made").unwrap_err().code(), Code::NotFound);
    // A link leads nowhere but to where the container's own processes see it lead.
    let host = std::fs::read_to_string("/etc/passwd").unwrap();
    let request = frontend::ReadFileRequest {
        r#ref: "c".to_owned(),
        file_path: "/out".to_owned(),
        ..Default::default()
    };
    let led = client.wait(gateway.clone().read_file_container(request));
    assert!(led.is_ok_and(|led| led.data != host.as_bytes()));
    let mut talk = Talk { client: &client, sender, incoming, heard };
    talk.input("first", b"", true);
    assert_eq!(talk.done("first").code, Some(0));
    drop(talk);
    // What was written is still there, but for what was in memory.
    assert_eq!(read(&building, 0, "/new").unwrap(), "new\n");
    assert_eq!(read(&building, 1, "/made").unwrap(), "built\n");
    assert_eq!(read(&building, 2, "new").unwrap_err().code(), Code::NotFound);
    let request = frontend::ReadFileRequest { r#ref: "none".to_owned(), ..Default::default() };
    let none = client.wait(gateway.clone().read_file_container(request)).unwrap_err();
    assert!(none.code() == Code::NotFound && none.message().contains("no such container"), "{none}");
    client.wait(building.gateway.r#return(ReturnRequest::default())).unwrap();
    client.outcome(building.build.take().unwrap()).unwrap();
}

#[test]
fn processes_end_with_their_build() {
    let env = env();
    let mut building = Building::new(&env, &Offer::new());
    building.container("c");
    let build = building.build.take().unwrap();
    let mut gateway = building.gateway.clone();
    let client = building.client.clone();
    let mut talk = building.stream();
    talk.start("long", "c", "echo runs; sleep 1000", &[1]);
    talk.until("long", |heard| heard.text(1).contains("runs"));
    client.wait(gateway.r#return(ReturnRequest::default())).unwrap();
    client.outcome(build).unwrap();
    assert_eq!(talk.done("long").code, Some(137));
}

/// As buildx's debugger does it: a container of the mounts that an error names.
#[test]
fn a_client_looks_around_in_what_a_failed_process_saw_and_left() {
    let env = env();
    let context = env.context();
    let dockerfile = "FROM busybox AS tools\nRUN echo hammer > /tool\nFROM busybox\nWORKDIR /work\n\
                      RUN --mount=from=tools,target=/tools --mount=type=secret,id=word,env=WORD \
                      --mount=type=cache,target=/cache --mount=type=tmpfs,target=/memory \
                      echo was here > left && cat /tools/tool && echo kept > /cache/kept && exit 7\n";
    context.dockerfile(dockerfile);
    let offer = Offer::new().context(context.path()).secret("word", b"hidden");
    let mut building = Building::new(&env, &offer);
    let solve = frontend::SolveRequest { frontend: "dockerfile.v0".to_owned(), ..Default::default() };
    let failed = building.client.wait(building.gateway.solve(solve)).unwrap_err();
    let details = details(&failed);
    let found = |kind: &str| {
        let kind = format!("github.com/moby/buildkit/errdefs.{kind}+json");
        details.iter().find(|(known, _)| *known == kind).map(|(_, value)| value.clone()).expect("a detail")
    };
    assert!(found("Vertex")["digest"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(found("Source")["ranges"][0]["start"]["line"], 5);
    let solve = found("Solve");
    let exec = &solve["op"]["exec"];
    assert!(exec["meta"]["args"][2].as_str().unwrap().contains("exit 7"), "{solve}");
    assert_eq!(
        (exec["meta"]["cwd"].as_str(), exec["secretenv"][0]["ID"].as_str()),
        (Some("/work"), Some("word"))
    );
    let mounts = exec["mounts"].as_array().unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let places: Vec<(String, String)> =
        mounts.iter().map(|mount| (text(&mount["dest"]), text(&mount["mountType"]))).collect();
    let place = |dest: &str, kind: &str| (dest.to_owned(), kind.to_owned());
    let all = [place("/", ""), place("/tools", ""), place("/cache", "CACHE"), place("/memory", "TMPFS")];
    assert_eq!(places, all);
    let container = |ids: &serde_json::Value, name: &str| {
        let mount = |(mount, id): (&serde_json::Value, &serde_json::Value)| pb::Mount {
            dest: text(&mount["dest"]),
            selector: text(&mount["selector"]),
            readonly: mount["readonly"].as_bool().unwrap_or(false),
            mount_type: match mount["mountType"].as_str() {
                Some("CACHE") => pb::MountType::Cache.into(),
                Some("TMPFS") => pb::MountType::Tmpfs.into(),
                _ => pb::MountType::Bind.into(),
            },
            cache_opt: mount["cacheOpt"]["ID"]
                .as_str()
                .map(|id| pb::CacheOpt { id: id.to_owned(), ..Default::default() }),
            result_id: text(id),
            ..Default::default()
        };
        let ids = ids.as_array().unwrap();
        assert_eq!(ids.len(), mounts.len());
        NewContainerRequest {
            container_id: name.to_owned(),
            mounts: mounts.iter().zip(ids).map(mount).collect(),
            ..Default::default()
        }
    };
    let (left, saw) = (container(&solve["mountIDs"], "left"), container(&solve["inputIDs"], "saw"));
    for request in [left, saw] {
        building.client.wait(building.gateway.new_container(request)).unwrap();
    }
    let mut talk = building.stream();
    talk.start("after", "left", "cat /work/left /tools/tool /cache/kept; ls -d /memory", &[1]);
    assert_eq!(talk.done("after").text(1), "was here\nhammer\nkept\n/memory\n");
    talk.start("before", "saw", "ls /work; cat /tools/tool; ls -d /memory", &[1]);
    assert_eq!(talk.done("before").text(1), "hammer\n/memory\n");
}

#[test]
fn the_debugger_of_buildx_opens_a_failed_step() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN echo was here > /left && exit 7\n");
    let path = context.path().to_str().unwrap();
    let flags = ["debug", "--on=error", "--invoke=/bin/sh", "build", "--progress=plain"];
    let mut terminal = buildx.on_terminal(&[&flags[..], &[path]].concat());
    terminal.wait_for("exit code: 7");
    terminal.wait_for("Interactive container was restarted");
    terminal.wait_for("# ");
    terminal.write("read x < /left; echo found: $x\n");
    terminal.wait_for("found: was here");
}
