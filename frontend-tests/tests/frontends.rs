//! Frontends that are images. The image is this program: started in a container by a builder, it is the frontend, and does
//! what its attribute `mode` says; started by cargo, it runs the tests.

mod common;
#[path = "common/grpc/mod.rs"]
mod grpc;

use std::collections::HashMap;
use std::process::ExitCode;

use common::daemon::{Buildx, Daemon};
use common::env;
use grpc::control::SolveRequest;
use grpc::frontend::llb_bridge_client::LlbBridgeClient;
use grpc::frontend::{
    self, InputsRequest, PingRequest, ReadFileRequest, ResolveImageConfigRequest, ReturnRequest,
};
use grpc::llb::{Llb, action, copy, mkfile};
use grpc::{Client, Offer, OpenSession, exporter, pb, unique};
use hyper_util::rt::TokioIo;
use libtest_mimic::{Arguments, Trial};
use pb::file_action::Action;
use testkit::TestEnv;
use tonic::transport::{Channel, Endpoint};

fn main() -> ExitCode {
    if std::env::var_os("BUILDKIT_WORKERS").is_some() {
        return act();
    }
    let test = |name: &str, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    let tests = vec![
        test("a_frontend_makes_what_it_is_asked_for", a_frontend_makes_what_it_is_asked_for),
        test("a_dockerfile_names_its_frontend", a_dockerfile_names_its_frontend),
        test("a_client_steers_with_a_frontend", a_client_steers_with_a_frontend),
        test("a_frontend_that_fails_is_told_with_its_words", a_frontend_that_fails_is_told_with_its_words),
        test("a_frontend_that_loops_ends_with_its_build", a_frontend_that_loops_ends_with_its_build),
        test("frontends_do_not_ask_for_each_other_for_ever", frontends_do_not_ask_for_each_other_for_ever),
        test("a_build_without_a_daemon_runs_its_frontend", a_build_without_a_daemon_runs_its_frontend),
        test("a_frontend_finds_the_callers_files_wherever", a_frontend_finds_the_callers_files_wherever),
        test("a_frontend_leaves_a_dockerfile_to_the_builder", a_frontend_leaves_a_dockerfile_to_the_builder),
        test("failures_without_a_daemon_are_told", failures_without_a_daemon_are_told),
        test("an_interrupted_build_ends_its_frontend", an_interrupted_build_ends_its_frontend),
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

/// The attributes of a frontend, as it finds them.
fn attributes() -> HashMap<String, String> {
    let ours = std::env::vars().filter(|(name, _)| name.starts_with("BUILDKIT_FRONTEND_OPT_"));
    ours.filter_map(|(_, value)| {
        value.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
    })
    .collect()
}

/// What the frontend does: an attribute, or a build argument of who cannot give attributes.
fn mode(attributes: &HashMap<String, String>) -> Option<&str> {
    attributes.get("mode").or_else(|| attributes.get("build-arg:MODE")).map(String::as_str)
}

/// The frontend.
fn act() -> ExitCode {
    let attributes = attributes();
    match mode(&attributes) {
        Some("crash") => {
            eprintln!("this frontend has had enough");
            return ExitCode::from(3);
        }
        Some("silent") => return ExitCode::SUCCESS,
        Some("loop") => loop {
            std::thread::park();
        },
        Some("waiting") => {
            eprintln!("this frontend waits");
            loop {
                std::thread::park();
            }
        }
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let spoken = runtime.block_on(speak(&attributes));
    // Somebody still reads our input, and would for ever.
    runtime.shutdown_background();
    match spoken {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("frontend: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn speak(attributes: &HashMap<String, String>) -> Result<(), Box<dyn std::error::Error>> {
    let connector = tower::service_fn(|_| async {
        Ok::<_, std::io::Error>(TokioIo::new(tokio::io::join(tokio::io::stdin(), tokio::io::stdout())))
    });
    let channel: Channel = Endpoint::from_static("http://frontend").connect_with_connector(connector).await?;
    let mut bridge = LlbBridgeClient::new(channel);
    let pong = bridge.ping(PingRequest {}).await?.into_inner();
    let can = |name: &str| pong.llb_caps.iter().any(|cap| cap.id == name && cap.enabled);
    assert!(can("mergeop") && can("diffop") && can("source.local") && can("cache.azblob"));
    assert_eq!(pong.workers.len(), 1);
    let result = match mode(attributes) {
        Some("fail") => {
            let error =
                grpc::rpc::Status { code: 9, message: "not like this".to_owned(), details: Vec::new() };
            bridge.r#return(ReturnRequest { result: None, error: Some(error) }).await?;
            return Ok(());
        }
        Some("again") => {
            let mut options = attributes.clone();
            options.remove("cmdline");
            let solve = frontend::SolveRequest {
                frontend: "gateway.v0".to_owned(),
                frontend_opt: options,
                ..Default::default()
            };
            bridge.solve(solve).await?.into_inner().result.unwrap_or_default()
        }
        Some("dockerfile") => {
            let frontend = "dockerfile.v0".to_owned();
            let solve = frontend::SolveRequest { frontend, ..Default::default() };
            match bridge.solve(solve).await {
                Ok(solved) => solved.into_inner().result.unwrap_or_default(),
                Err(status) => {
                    let (code, message) = (status.code() as i32, format!("cannot: {}", status.message()));
                    let error = Some(grpc::rpc::Status { code, message, details: Vec::new() });
                    bridge.r#return(ReturnRequest { result: None, error }).await?;
                    return Ok(());
                }
            }
        }
        _ => make(&mut bridge, attributes).await?,
    };
    bridge.r#return(ReturnRequest { result: Some(result), error: None }).await?;
    Ok(())
}

/// An image of busybox with the word of the client's file, and what the attributes say.
async fn make(
    bridge: &mut LlbBridgeClient<Channel>,
    attributes: &HashMap<String, String>,
) -> Result<frontend::Result, Box<dyn std::error::Error>> {
    let definition = |llb: &Llb, state| frontend::SolveRequest {
        definition: Some(llb.definition(state)),
        ..Default::default()
    };
    let inputs = bridge.inputs(InputsRequest {}).await?.into_inner().definitions;
    let resolve_mode = attributes.get("image-resolve-mode").cloned().unwrap_or_default();
    let resolve =
        ResolveImageConfigRequest { r#ref: "busybox".to_owned(), resolve_mode, ..Default::default() };
    let image = bridge.resolve_image_config(resolve).await?.into_inner();
    let mut llb = Llb::default();
    let excluded = attributes.get("build-arg:EXCLUDE").map(|name| format!("[{name:?}]"));
    let excluded: Vec<_> = excluded.iter().map(|list| ("local.excludepatterns", list.as_str())).collect();
    let local = llb.source("local://dockerfile", &excluded);
    let result = bridge.solve(definition(&llb, &local)).await?.into_inner().result.unwrap_or_default();
    let Some(frontend::result::Result::Ref(files)) = result.result else { return Err("no ref".into()) };
    let file_path = attributes.get("filename").cloned().unwrap_or_else(|| "Dockerfile".to_owned());
    let read = ReadFileRequest { r#ref: files.id, file_path, ..Default::default() };
    let text = String::from_utf8(bridge.read_file(read).await?.into_inner().data)?;
    let word = text.lines().find_map(|line| line.strip_prefix("word: ")).unwrap_or("none").to_owned();
    eprintln!("the word is {word}");
    let base = llb.source(&format!("docker-image://{}", image.r#ref), &[]);
    let ran = llb.run(&base, &format!("echo ran with {word} > /ran"));
    let said = mkfile("/said", &format!("{word} {} inputs\n", inputs.len()));
    let mut copied =
        action(0, 0, Action::Copy(pb::FileActionCopy { create_dest_path: true, ..copy("/", "/files/") }));
    copied.secondary_input = 1;
    let with_files = llb.files(vec![copied], &[&ran, &local]);
    let made = llb.files(vec![action(0, 0, said)], &[&with_files]);
    let result = bridge.solve(definition(&llb, &made)).await?.into_inner().result.unwrap_or_default();
    let mut config: serde_json::Value = serde_json::from_slice(&image.config)?;
    config["config"]["Cmd"] = serde_json::json!(["cat", "/ran", "/said"]);
    let metadata = [("containerimage.config".to_owned(), serde_json::to_vec(&config)?)].into();
    Ok(frontend::Result { metadata, ..result })
}

/// A daemon whose store has this program as the image `frontend`, and a client of it.
struct Scene<'a> {
    session: OpenSession,
    client: Client,
    _daemon: Daemon<'a>,
}

/// Makes the image `frontend`.
fn add_frontend(env: &TestEnv) {
    let context = env.context();
    let program = context.path().join("frontend");
    std::fs::copy(std::env::current_exe().expect("our path"), &program).expect("a copy");
    // Nobody debugs it there.
    let _ = std::process::Command::new("strip").arg(&program).status();
    context.dockerfile("FROM scratch\nCOPY frontend /frontend\nENTRYPOINT [\"/frontend\"]\n");
    env.lap(["build", "-t", "frontend"]).arg(context.path()).ok();
}

impl<'a> Scene<'a> {
    fn new(env: &'a TestEnv, offer: &Offer) -> Self {
        add_frontend(env);
        let daemon = Daemon::start(env);
        let client = Client::of(&daemon);
        let session = client.session(offer);
        Self { session, client, _daemon: daemon }
    }

    fn request(&self, mode: &str) -> SolveRequest {
        let attributes = [("source", "frontend"), ("mode", mode)];
        let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        SolveRequest {
            r#ref: unique("frontend"),
            session: self.session.id().to_owned(),
            frontend: "gateway.v0".to_owned(),
            frontend_attrs: attributes.collect(),
            ..SolveRequest::default()
        }
    }
}

fn a_frontend_makes_what_it_is_asked_for() {
    let env = env();
    let context = env.context();
    context.file("recipe", "word: yes\n");
    let scene = Scene::new(&env, &Offer::new().context(context.path()));
    let mut request = scene.request("make");
    request.frontend_attrs.insert("filename".to_owned(), "recipe".to_owned());
    request.exporters = vec![exporter("docker", &[("name", "made")])];
    let id = request.r#ref.clone();
    let response = scene.client.solve(request.clone()).unwrap();
    assert!(response.contains_key("containerimage.digest"), "{response:?}");
    let archive = env.work().join("made.tar");
    std::fs::write(&archive, scene.session.received().pop().unwrap()).unwrap();
    env.lap(["load", "-i"]).arg(&archive).ok();
    assert_eq!(env.lap(["run", "--rm", "made"]).ok().stdout_text(), "ran with yes\nyes 0 inputs\n");
    assert_eq!(env.lap(["run", "--rm", "made", "cat", "/files/recipe"]).ok().stdout_text(), "word: yes\n");
    let said = scene.client.status(&id).unwrap();
    assert_eq!(said.output("[internal] frontend frontend"), "the word is yes\n");
    assert!(!said.vertex("echo ran with yes").cached);
    // Again, nothing runs but the frontend.
    let again = SolveRequest { r#ref: unique("frontend"), exporters: Vec::new(), ..request };
    let id = again.r#ref.clone();
    scene.client.solve(again).unwrap();
    assert!(scene.client.status(&id).unwrap().vertex("echo ran with yes").cached);
}

fn a_dockerfile_names_its_frontend() {
    let env = env();
    add_frontend(&env);
    let Some(buildx) = Buildx::new(&env) else { return };
    let context = env.context();
    context.dockerfile("# syntax=frontend:latest\nword: named\n");
    let load = |name: &str, args: &[&str]| {
        let archive = env.work().join(name);
        let output = format!("type=docker,name={name},dest={}", archive.display());
        buildx.build(context.path(), &["--output", &output]).args(args).ok();
        env.lap(["load", "-i"]).arg(&archive).ok();
    };
    load("named", &[]);
    assert_eq!(env.lap(["run", "--rm", "named"]).ok().stdout_text(), "ran with named\nnamed 0 inputs\n");
    context.dockerfile("FROM busybox\nRUN echo plain > /plain\n");
    load("asked", &["--build-arg", "BUILDKIT_SYNTAX=frontend"]);
    assert_eq!(env.lap(["run", "--rm", "asked"]).ok().stdout_text(), "ran with none\nnone 0 inputs\n");
}

fn a_client_steers_with_a_frontend() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN echo inner > /inner\n");
    let scene = Scene::new(&env, &Offer::new().context(context.path()));
    let asked = scene.request("dockerfile");
    let id = asked.r#ref.clone();
    let steered = SolveRequest { frontend: String::new(), frontend_attrs: HashMap::new(), ..asked.clone() };
    let build = scene.client.begin(steered);
    let mut gateway = scene.client.gateway(&id);
    let solve = frontend::SolveRequest {
        frontend: asked.frontend,
        frontend_opt: asked.frontend_attrs,
        ..Default::default()
    };
    let result = scene.client.wait(gateway.solve(solve)).unwrap().result.unwrap();
    let Some(frontend::result::Result::Ref(root)) = result.result.clone() else { panic!("{result:?}") };
    let read = ReadFileRequest { r#ref: root.id, file_path: "/inner".to_owned(), ..Default::default() };
    assert_eq!(scene.client.wait(gateway.read_file(read)).unwrap().data, b"inner\n");
    scene.client.wait(gateway.r#return(ReturnRequest { result: Some(result), error: None })).unwrap();
    scene.client.outcome(build).unwrap();
}

fn a_frontend_that_fails_is_told_with_its_words() {
    let env = env();
    let scene = Scene::new(&env, &Offer::new());
    let fails = |mode: &str| scene.client.solve(scene.request(mode)).unwrap_err();
    let crash = fails("crash").message().to_owned();
    assert!(crash.contains("exit code: 3") && crash.contains("this frontend has had enough"), "{crash}");
    assert!(fails("silent").message().contains("has ended without a result"));
    let refused = fails("fail");
    assert_eq!((refused.code() as i32, refused.message()), (9, "not like this"));
    // It does not have the client's files, and says so.
    let missing = fails("make").message().to_owned();
    assert!(missing.contains("dockerfile"), "{missing}");
    let none = SolveRequest { frontend_attrs: HashMap::new(), ..scene.request("") };
    assert!(scene.client.solve(none).unwrap_err().message().contains("needs the image of a frontend"));
    assert!(scene.client.is_serving());
}

fn a_frontend_that_loops_ends_with_its_build() {
    let env = env();
    let scene = Scene::new(&env, &Offer::new());
    let request = scene.request("loop");
    let id = request.r#ref.clone();
    let build = scene.client.begin(request);
    let listening = std::thread::spawn({
        let client = scene.client.clone();
        let id = id.clone();
        move || client.status(&id).unwrap()
    });
    let runs = || {
        // Other tests have others.
        let daemon = scene._daemon.pid().to_string();
        let found = std::process::Command::new("pgrep").args(["-P", &daemon, "-fx", "/frontend"]).output();
        !found.expect("pgrep").stdout.is_empty()
    };
    while !runs() {
        assert!(!build.is_over(), "the build does not end by itself");
        std::thread::yield_now();
    }
    // The session goes while it loops: the build ends, and all that it said.
    let Scene { session, client, _daemon } = scene;
    drop(session);
    assert!(client.outcome(build).is_err());
    listening.join().unwrap();
    assert!(client.is_serving());
}

fn frontends_do_not_ask_for_each_other_for_ever() {
    let env = env();
    let scene = Scene::new(&env, &Offer::new());
    let error = scene.client.solve(scene.request("again")).unwrap_err();
    assert!(error.message().contains("is asked for by 8 others"), "{}", error.message());
}

fn a_build_without_a_daemon_runs_its_frontend() {
    let env = env();
    add_frontend(&env);
    let context = env.context();
    context.dockerfile("# syntax=frontend:latest and more\nword: here\n");
    context.file("hidden", "not for the image");
    let build = || env.lap(["build", "--progress", "plain", "--build-arg", "EXCLUDE=hidden", "-t", "made"]);
    let told = build().arg(context.path()).ok().stderr_text().to_owned();
    assert!(told.contains("the word is here") && told.contains("echo ran with here"), "{told}");
    // What the store has is not asked for elsewhere.
    assert!(!told.contains("registry cannot be asked"), "{told}");
    assert_eq!(env.lap(["run", "--rm", "made"]).ok().stdout_text(), "ran with here\nhere 0 inputs\n");
    assert_eq!(env.lap(["run", "--rm", "made", "ls", "/files"]).ok().stdout_text(), "Dockerfile\n");
    // Again, nothing runs but the frontend, and the image is the same.
    let id = || env.lap(["images", "-q", "made"]).ok().stdout_text().to_owned();
    let first = id();
    let again = build().arg(context.path()).ok().stderr_text().to_owned();
    assert!(again.contains("CACHED"), "{again}");
    assert_eq!(first, id());
    let list = env.lap(["history", "ls", "--format", "{{.Status}}"]).ok().stdout_text().to_owned();
    assert!(list.lines().all(|status| status == "Completed"), "{list}");
}

fn a_frontend_finds_the_callers_files_wherever() {
    let env = env();
    add_frontend(&env);
    let made = |name: &str, build: testkit::Lap| {
        build.args(["-t", name]).ok();
        env.lap(["run", "--rm", name]).ok().stdout_text().to_owned()
    };
    let text = |word: &str| format!("# syntax=frontend\nword: {word}\n");
    let said = |word: &str| format!("ran with {word}\n{word} 0 inputs\n");
    // A Dockerfile that comes alone, one beside its context, and an archive.
    assert_eq!(made("alone", env.lap(["build", "-"]).stdin(text("alone"))), said("alone"));
    let context = env.context();
    context.file("other/recipe", text("beside"));
    let recipe = context.path().join("other/recipe");
    assert_eq!(made("beside", env.lap(["build", "-f"]).arg(&recipe).arg(context.path())), said("beside"));
    let given = env.lap(["build", "-f", "-"]).arg(context.path()).stdin(text("given"));
    assert_eq!(made("given", given), said("given"));
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(text("packed").len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, "Dockerfile", text("packed").as_bytes()).unwrap();
    let archive = archive.into_inner().unwrap();
    assert_eq!(made("packed", env.lap(["build", "-"]).stdin(archive)), said("packed"));
}

fn a_frontend_leaves_a_dockerfile_to_the_builder() {
    let env = env();
    add_frontend(&env);
    let context = env.context();
    context.dockerfile(
        "# syntax=frontend\nFROM busybox\nRUN --mount=type=secret,id=word cp /run/secrets/word /told\n\
         COPY --from=files /kept /kept\nCOPY . /all\n",
    );
    context.file(".dockerignore", "ignored\n.dockerignore\n");
    context.file("ignored", "");
    context.file("named/kept", "kept\n");
    let secret = env.work().join("secret");
    std::fs::write(&secret, "not told").unwrap();
    let tar = env.work().join("made.tar");
    env.lap(["build", "--build-arg", "MODE=dockerfile", "--build-context"])
        .arg(format!("files={}", context.path().join("named").display()))
        .arg(format!("--secret=id=word,src={}", secret.display()))
        .arg(format!("--output=type=tar,dest={}", tar.display()))
        .args(["-t", "left"])
        .arg(context.path())
        .ok();
    let mut archive = tar::Archive::new(std::fs::File::open(&tar).unwrap());
    let mut files = HashMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut text = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut text).unwrap();
        files.insert(name, text);
    }
    assert_eq!(files["told"], b"not told");
    assert_eq!(files["kept"], b"kept\n");
    assert!(files.contains_key("all/named/kept") && !files.contains_key("all/ignored"));
}

fn failures_without_a_daemon_are_told() {
    let env = env();
    add_frontend(&env);
    let context = env.context();
    context.dockerfile("# syntax=frontend\nFROM busybox\nRUN echo went wrong; exit 7\n");
    let fails = |arg: &str| {
        let build = env.lap(["build", "--build-arg", arg]).arg(context.path()).fails(1);
        build.stderr_text().to_owned()
    };
    let crash = fails("MODE=crash");
    assert!(crash.contains("exit code: 3") && crash.contains("this frontend has had enough"), "{crash}");
    assert!(fails("MODE=silent").contains("has ended without a result"));
    assert!(fails("MODE=fail").contains("not like this"));
    assert!(fails("MODE=again").contains("is asked for by 8 others"));
    // What fails below it is told as if it were not there.
    let step = fails("MODE=dockerfile");
    assert!(step.contains("exit code: 7") && step.contains("went wrong"), "{step}");
    assert!(step.contains("3 |") && step.contains("RUN echo went wrong; exit 7"), "{step}");
    context.dockerfile("# syntax=nowhere.invalid/frontend\n");
    let missing = fails("MODE=make");
    assert!(missing.contains("nowhere.invalid/frontend"), "{missing}");
    // Questions are not for it.
    let question = env.lap(["build", "--check"]).arg(context.path()).fails(1);
    assert!(question.stderr_text().contains("runs in builds alone"), "{question}");
    context.dockerfile("FROM busybox\nRUN true\n");
    env.lap(["build"]).arg(context.path()).ok();
}

fn an_interrupted_build_ends_its_frontend() {
    let env = env();
    add_frontend(&env);
    let context = env.context();
    context.dockerfile("# syntax=frontend\n");
    let mut running =
        env.lap(["build", "--progress", "plain", "--build-arg", "MODE=waiting"]).arg(context.path()).spawn();
    running.wait_for("this frontend waits");
    running.signal(nix::sys::signal::Signal::SIGINT);
    let output = running.finish();
    assert!(output.stderr_text().contains("cancel"), "{output}");
    let list = env.lap(["history", "ls", "--format", "{{.Status}}"]).ok().stdout_text().to_owned();
    assert!(list.contains("Canceled"), "{list}");
}
