//! Graphs of operations whose sources are parts of images, blobs and other graphs, and whose owners are known elsewhere.

mod common;
#[path = "common/grpc/mod.rs"]
mod grpc;

use common::daemon::Daemon;
use common::{build, env};
use grpc::control::SolveRequest;
use grpc::llb::{Llb, State, action, mkfile};
use grpc::{Client, Offer, OpenSession, dockerfile, exporter, pb, unique};
use pb::file_action::Action;
use prost::Message as _;
use testkit::docker_registry::DockerRegistry;
use testkit::{TestEnv, Tree};
use tonic::Status;

/// A daemon, a client, and its session.
struct Builder<'a> {
    session: OpenSession,
    client: Client,
    _daemon: Daemon<'a>,
}

impl<'a> Builder<'a> {
    fn new(env: &'a TestEnv, offer: &Offer) -> Self {
        let daemon = Daemon::start(env);
        let client = Client::of(&daemon);
        let session = client.session(offer);
        Self { _daemon: daemon, client, session }
    }

    fn request(&self, llb: &Llb, result: &State) -> SolveRequest {
        SolveRequest {
            r#ref: unique("llb"),
            session: self.session.id().to_owned(),
            definition: Some(llb.definition(result)),
            exporters: vec![exporter("tar", &[])],
            ..SolveRequest::default()
        }
    }

    fn files(&self, llb: &Llb, result: &State) -> Result<Vec<u8>, Status> {
        self.client.solve(self.request(llb, result))?;
        Ok(self.session.received().pop().expect("an archive"))
    }

    fn tree(&self, llb: &Llb, result: &State) -> Tree {
        Tree::of_tar(self.files(llb, result).unwrap().as_slice())
    }

    fn fails(&self, llb: &Llb, result: &State) -> String {
        self.files(llb, result).expect_err("it is not built").message().to_owned()
    }
}

/// The header of a file in an archive.
fn header(archive: &[u8], path: &str) -> tar::Header {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap().map(Result::unwrap);
    let is_it =
        |entry: &tar::Entry<'_, _>| entry.path().unwrap().to_string_lossy().trim_start_matches("./") == path;
    let found = entries.into_iter().find(is_it);
    found.unwrap_or_else(|| panic!("{path} is there")).header().clone()
}

fn busybox(llb: &mut Llb) -> State {
    llb.source("docker-image://docker.io/library/busybox:latest", &[])
}

/// The result of the definition in a file of `input`.
fn nested(llb: &mut Llb, input: &State, file: Option<&str>) -> State {
    let op = pb::BuildOp {
        builder: -1,
        inputs: [("buildkit.llb.definition".to_owned(), pb::BuildInput { input: 0 })].into(),
        attrs: file.map(|file| ("llbbuild.filename".to_owned(), file.to_owned())).into_iter().collect(),
        ..pb::BuildOp::default()
    };
    let caps = [("source.buildop.llbfilename".to_owned(), true)].into();
    llb.add_with(pb::op::Op::Build(op), &[input], pb::OpMetadata { caps, ..Default::default() })
}

/// A filesystem with a definition as a file.
fn written(llb: &mut Llb, path: &str, definition: &pb::Definition) -> State {
    let file = pb::FileActionMkFile {
        path: path.to_owned(),
        mode: 0o644,
        data: definition.encode_to_vec(),
        timestamp: -1,
        ..Default::default()
    };
    llb.files(vec![action(-1, 0, Action::Mkfile(file))], &[])
}

#[test]
fn a_definition_is_a_file_of_another() {
    let env = env();
    let context = env.context();
    context.file("hello", "from the client\n");
    let builder = Builder::new(&env, &Offer::new().directory("src", context.path()));
    // The innermost has a file of the client, which nobody knew of before it was read.
    let mut innermost = Llb::default();
    let local = innermost.source("local://src", &[]);
    let base = busybox(&mut innermost);
    let merged = innermost.merge(&[&base, &local]);
    let innermost = innermost.definition(&merged);
    let mut inner = Llb::default();
    let file = written(&mut inner, "/definitions/innermost", &innermost);
    let made = nested(&mut inner, &file, Some("definitions/innermost"));
    let ran = inner.run(&made, "cat /hello > /said; echo inner >> /said");
    let inner = inner.definition(&ran);
    let mut outer = Llb::default();
    let file = written(&mut outer, "/buildkit.llb.definition", &inner);
    let made = nested(&mut outer, &file, None);
    let ran = outer.run(&made, "echo outer >> /said");
    assert_eq!(builder.tree(&outer, &ran).text("said"), "from the client\ninner\nouter\n");
    // Nobody runs what is known.
    let request = builder.request(&outer, &ran);
    let id = request.r#ref.clone();
    builder.client.solve(request).unwrap();
    let said = builder.client.status(&id).unwrap();
    assert!(said.vertex("echo outer").cached && !said.vertices.iter().any(|vertex| vertex.name == "build"));
}

#[test]
fn what_is_no_nested_definition_is_told() {
    let env = env();
    let builder = Builder::new(&env, &Offer::new());
    let mut llb = Llb::default();
    let text = llb.files(vec![action(-1, 0, mkfile("/text", "this is no definition"))], &[]);
    let wrong = nested(&mut llb, &text, Some("text"));
    let error = builder.fails(&llb, &wrong);
    assert!(error.contains("text of a nested build is no definition"), "{error}");
    let missing = nested(&mut llb, &text, None);
    let error = builder.fails(&llb, &missing);
    assert!(error.contains("buildkit.llb.definition"), "{error}");
    let other = pb::BuildOp { builder: 3, ..pb::BuildOp::default() };
    let other = llb.add(pb::op::Op::Build(other), &[&text]);
    assert!(builder.fails(&llb, &other).contains("another builder of a nested build"));
    // Each in the next, and no end of them.
    let mut definition = Llb::default();
    let last = definition.files(vec![action(-1, 0, mkfile("/a", "a"))], &[]);
    let mut definition = definition.definition(&last);
    let mut deep = Llb::default();
    let mut result = None;
    for _ in 0..10 {
        deep = Llb::default();
        let file = written(&mut deep, "/next", &definition);
        let made = nested(&mut deep, &file, Some("next"));
        definition = deep.definition(&made);
        result = Some(made);
    }
    let error = builder.fails(&deep, &result.unwrap());
    assert!(error.contains("more than 8 definitions are nested"), "{error}");
    assert!(builder.client.is_serving());
}

#[test]
fn an_image_is_used_up_to_one_of_its_layers() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN echo 1 > /one\nRUN echo 2 > /two\n");
    build(&env, &context, &["-t", "layered"]);
    let shown = env.lap(["inspect", "--type", "image", "--format", "{{len .RootFS.Layers}}", "layered"]).ok();
    let layers: usize = shown.stdout_text().trim().parse().unwrap();
    let builder = Builder::new(&env, &Offer::new());
    let with = |limit: &str| {
        let mut llb = Llb::default();
        let image = llb.source("docker-image://layered", &[("image.layerlimit", limit)]);
        (llb, image)
    };
    let (llb, image) = with(&(layers - 1).to_string());
    let tree = builder.tree(&llb, &image);
    assert!(tree.text("one") == "1\n" && tree.get("two").is_none());
    let (llb, image) = with("100");
    assert_eq!(builder.tree(&llb, &image).text("two"), "2\n");
    for wrong in ["0", "-1", "many"] {
        let (llb, image) = with(wrong);
        let error = builder.fails(&llb, &image);
        assert!(error.contains("and not a number of layers"), "{error}");
    }
}

#[test]
fn blobs_of_registries_are_files() {
    let env = env();
    let Some(registry) = DockerRegistry::start() else { return };
    let Some(skopeo) = testkit::judges::skopeo() else { return };
    let name = registry.reference("blobs:1");
    env.lap(["tag", "busybox", &name]).ok();
    env.lap(["push", &name]).ok();
    let manifest = skopeo.json(["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]);
    let digest = manifest["config"]["digest"].as_str().unwrap();
    let repository = name.rsplit_once(':').unwrap().0;
    let builder = Builder::new(&env, &Offer::new());
    let mut llb = Llb::default();
    let identifier = format!("docker-image+blob://{repository}@{digest}");
    let attributes =
        [("http.filename", "config.json"), ("http.perm", "0640"), ("http.uid", "7"), ("http.gid", "8")];
    let blob = llb.source(&identifier, &attributes);
    let archive = builder.files(&llb, &blob).unwrap();
    let file = header(&archive, "config.json");
    let owner = (file.uid().unwrap(), file.gid().unwrap());
    assert_eq!((file.mode().unwrap(), owner, file.mtime().unwrap()), (0o640, (7, 8), 0));
    let text = Tree::of_tar(archive.as_slice()).text("config.json");
    assert_eq!(base::Digest::of(text.as_bytes()).to_string(), digest);
    // Without a name it is called by its digest.
    let unnamed = llb.source(&identifier, &[]);
    let hex = digest.split_once(':').unwrap().1;
    assert_eq!(builder.tree(&llb, &unnamed).text(hex), text);
    let missing =
        llb.source(&format!("docker-image+blob://{repository}@{}", base::Digest::of(b"nothing")), &[]);
    assert!(!builder.fails(&llb, &missing).is_empty());
    let unpinned = llb.source(&format!("docker-image+blob://{name}"), &[]);
    assert!(builder.fails(&llb, &unpinned).contains("is no repository with the digest of a blob"));
}

#[test]
fn blobs_of_layouts_of_the_client_are_files() {
    let env = env();
    let (good, bad) = (base::Digest::of(b"good").to_string(), base::Digest::of(b"bad").to_string());
    let offer = Offer::new().blob("store", &good, b"good").blob("store", &bad, b"something else");
    let builder = Builder::new(&env, &offer);
    let mut llb = Llb::default();
    let attributes =
        |name: &'static str| [("oci.store", "store"), ("http.filename", name), ("http.perm", "0600")];
    let blob = llb.source(&format!("oci-layout+blob://any/name@{good}"), &attributes("file"));
    let archive = builder.files(&llb, &blob).unwrap();
    assert_eq!(Tree::of_tar(archive.as_slice()).text("file"), "good");
    assert_eq!(header(&archive, "file").mode().unwrap(), 0o600);
    let wrong = llb.source(&format!("oci-layout+blob://any/name@{bad}"), &attributes("file"));
    assert!(builder.fails(&llb, &wrong).contains("something else than"));
    let missing = format!("oci-layout+blob://any/name@{}", base::Digest::of(b"nothing"));
    let missing = llb.source(&missing, &attributes("file"));
    assert!(builder.fails(&llb, &missing).contains("the client has no blob"));
    let outside = llb.source(&format!("oci-layout+blob://any/name@{good}"), &attributes("../file"));
    assert!(builder.fails(&llb, &outside).contains("http.filename is"));
}

#[test]
fn owners_are_looked_up_where_their_names_are_known() {
    let env = env();
    let builder = Builder::new(&env, &Offer::new());
    let made = |passwd: &str, other: &str| {
        let mut llb = Llb::default();
        let files = vec![
            action(
                -1,
                -1,
                Action::Mkdir(pb::FileActionMkDir {
                    path: "/etc".to_owned(),
                    mode: 0o755,
                    timestamp: -1,
                    ..Default::default()
                }),
            ),
            action(0, -1, mkfile("/etc/passwd", passwd)),
            action(1, -1, mkfile("/etc/group", "staff:x:77:\n")),
            action(2, 0, mkfile("/other", other)),
        ];
        let users = llb.files(files, &[]);
        let by_name = |name: &str| {
            let named = pb::NamedUserOpt { name: name.to_owned(), input: 0 };
            Some(pb::UserOpt { user: Some(pb::user_opt::User::ByName(named)) })
        };
        let owner = Some(pb::ChownOpt { user: by_name("app"), group: by_name("staff") });
        let file = pb::FileActionMkFile {
            path: "/mine".to_owned(),
            mode: 0o644,
            timestamp: -1,
            owner,
            ..Default::default()
        };
        let owner = Some(pb::ChownOpt { user: by_name("app"), group: None });
        let link = pb::FileActionSymlink {
            oldpath: "mine".to_owned(),
            newpath: "/link".to_owned(),
            owner,
            timestamp: -1,
        };
        let actions = vec![action(-1, -1, Action::Mkfile(file)), action(1, 0, Action::Symlink(link))];
        let result = llb.files(actions, &[&users]);
        (llb, result)
    };
    let owners = |(llb, result): &(Llb, State)| {
        let archive = builder.files(llb, result).unwrap();
        ["mine", "link"].map(|path| {
            let header = header(&archive, path);
            (header.uid().unwrap(), header.gid().unwrap())
        })
    };
    let known = "root:x:0:0::/:/bin/sh\napp:x:1234:55::/:/bin/sh\n";
    assert_eq!(owners(&made(known, "a")), [(1234, 77), (1234, 55)]);
    // Other files of that filesystem are nobody's business; its users are.
    let ran = |(llb, result): &(Llb, State)| {
        let request = builder.request(llb, result);
        let id = request.r#ref.clone();
        builder.client.solve(request).unwrap();
        !builder.client.status(&id).unwrap().vertex("mkfile /mine").cached
    };
    assert!(!ran(&made(known, "b")));
    assert!(ran(&made("app:x:4321:55::/:/bin/sh\n", "a")));
    let (llb, result) = made("root:x:0:0::/:/bin/sh\n", "a");
    assert!(builder.fails(&llb, &result).contains("app"));
}

#[test]
fn a_client_solves_a_part_of_what_it_has_solved() {
    let env = env();
    let builder = Builder::new(&env, &Offer::new());
    let id = unique("parts");
    let request = SolveRequest {
        r#ref: id.clone(),
        session: builder.session.id().to_owned(),
        exporters: vec![exporter("tar", &[])],
        ..SolveRequest::default()
    };
    let build = builder.client.begin(request);
    let mut gateway = builder.client.gateway(&id);
    let mut llb = Llb::default();
    let mut layers: Vec<State> = Vec::new();
    for number in 0..6 {
        let layer = llb.files(vec![action(-1, 0, mkfile(&format!("/{number}"), "x"))], &[]);
        layers.push(layer);
    }
    let base = busybox(&mut llb);
    let part = llb.run(&base, "echo part > /part");
    layers.insert(0, part.clone());
    let whole = llb.merge(&layers.iter().collect::<Vec<_>>());
    let mut small = Llb::default();
    let base = busybox(&mut small);
    let part = small.run(&base, "echo part > /part");
    let mut last = None;
    for definition in
        [llb.definition(&whole), small.definition(&part), llb.definition(&whole), small.definition(&part)]
    {
        let solve = grpc::frontend::SolveRequest { definition: Some(definition), ..Default::default() };
        last = builder.client.wait(gateway.solve(solve)).unwrap().result;
    }
    let returned = grpc::frontend::ReturnRequest { result: last, error: None };
    builder.client.wait(gateway.r#return(returned)).unwrap();
    builder.client.outcome(build).unwrap();
    let tree = Tree::of_tar(builder.session.received().pop().unwrap().as_slice());
    assert!(tree.text("part") == "part\n" && tree.get("0").is_none());
}

/// `{"os":"linux","architecture":"amd64","config":{"Env":["PATH=/bin","WORD=of-the-config"]}}`
const CONFIG: &str = "eyJvcyI6ImxpbnV4IiwiYXJjaGl0ZWN0dXJlIjoiYW1kNjQiLCJjb25maWciOnsiRW52IjpbIlBBVEg9L2JpbiIsIldPUkQ9b2YtdGhlLWNvbmZpZyJdfX0=";

#[test]
fn graphs_are_contexts_of_dockerfiles() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM given\nRUN echo $WORD > /word\nCOPY --from=other /made /copied\n");
    context.file("sent", "by the client");
    let builder = Builder::new(&env, &Offer::new().context(context.path()));
    let mut llb = Llb::default();
    let base = busybox(&mut llb);
    let ran = llb.run(&base, "echo made > /made");
    let local = llb.source("local://context", &[]);
    let copied = action(0, 0, Action::Copy(grpc::llb::copy("/sent", "/sent")));
    let made = llb.files(vec![pb::FileAction { secondary_input: 1, ..copied }], &[&ran, &local]);
    let with = |attributes: &[(&str, &str)]| {
        let mut request = dockerfile(&builder.session, &unique("graphs"));
        let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        request.frontend_attrs.extend(attributes);
        request.frontend_inputs = [("graph".to_owned(), llb.definition(&made))].into();
        request.exporters = vec![exporter("tar", &[])];
        request
    };
    let metadata = format!("{{\"containerimage.config\":\"{CONFIG}\"}}");
    let contexts = [("context:given", "input:graph"), ("context:other", "input:graph")];
    let described = [&contexts[..], &[("input-metadata:graph", &metadata)]].concat();
    builder.client.solve(with(&described)).unwrap();
    let tree = Tree::of_tar(builder.session.received().pop().unwrap().as_slice());
    assert_eq!((tree.text("word").as_str(), tree.text("copied").as_str()), ("of-the-config\n", "made\n"));
    assert_eq!(tree.text("sent"), "by the client");
    // Without a config it is an image that says nothing.
    builder.client.solve(with(&contexts)).unwrap();
    let tree = Tree::of_tar(builder.session.received().pop().unwrap().as_slice());
    assert_eq!(tree.text("word"), "\n");
    let fails = |attributes: &[(&str, &str)]| {
        builder.client.solve(with(attributes)).unwrap_err().message().to_owned()
    };
    let wrong = [&contexts[..], &[("input-metadata:graph", "no json")]].concat();
    assert!(fails(&wrong).contains("input-metadata:graph: "), "{}", fails(&wrong));
    assert!(fails(&[("context:given", "input:none")]).contains("given"));
}
