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

/// The frontend.
fn act() -> ExitCode {
    let attributes = attributes();
    match attributes.get("mode").map(String::as_str) {
        Some("crash") => {
            eprintln!("this frontend has had enough");
            return ExitCode::from(3);
        }
        Some("silent") => return ExitCode::SUCCESS,
        Some("loop") => loop {
            std::thread::park();
        },
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
    assert!(can("mergeop") && can("diffop") && can("source.local") && pong.workers.len() == 1);
    let result = match attributes.get("mode").map(String::as_str) {
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
            bridge.solve(solve).await?.into_inner().result.unwrap_or_default()
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
    let resolve = ResolveImageConfigRequest { r#ref: "busybox".to_owned(), ..Default::default() };
    let image = bridge.resolve_image_config(resolve).await?.into_inner();
    let mut llb = Llb::default();
    let local = llb.source("local://dockerfile", &[]);
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
        let found = std::process::Command::new("pgrep").args(["-fx", "/frontend"]).output().expect("pgrep");
        !found.stdout.is_empty()
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
