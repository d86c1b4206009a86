//! What clients of BuildKit's API draw: steps, their order, warnings with their places, and errors with their details.

mod common;
#[path = "common/grpc/mod.rs"]
mod grpc;

use common::daemon::{Buildx, Daemon};
use common::env;
use grpc::control::{SolveRequest, VertexWarning};
use grpc::llb::{Llb, action, mkfile};
use grpc::{Client, Offer, details, dockerfile, pb, unique};
use serde_json::Value;

const CARELESS: &str = "FROM busybox AS Base\nRUN true\nFROM Base\nMAINTAINER me\n";

#[test]
fn warnings_have_their_place_in_the_text() {
    let env = env();
    let daemon = Daemon::start(&env);
    let client = Client::of(&daemon);
    let context = env.context();
    context.dockerfile(CARELESS);
    let session = client.session(&Offer::new().context(context.path()));
    let id = unique("build");
    client.solve(dockerfile(&session, &id)).unwrap();
    let said = client.status(&id).unwrap();
    let warning = said.warnings.iter().find(|one| one.short.starts_with(b"StageNameCasing")).unwrap();
    let short = String::from_utf8(warning.short.clone()).unwrap();
    assert!(short.ends_with("(line 1)"), "{short}");
    assert!(warning.url.contains("stage-name-casing") && warning.level == 1);
    let info = warning.info.as_ref().unwrap();
    assert_eq!((info.filename.as_str(), info.data.as_slice()), ("Dockerfile", CARELESS.as_bytes()));
    let range = &warning.ranges[0];
    let (start, end) = (range.start.unwrap(), range.end.unwrap());
    assert_eq!((start.line, end.line), (1, 1));
    assert!(start.character < end.character, "{range:?}");
    assert!(said.vertices.iter().any(|vertex| vertex.digest == warning.vertex));
    let old = said.warnings.iter().find(|one| one.short.starts_with(b"MaintainerDeprecated")).unwrap();
    assert_eq!(old.ranges[0].start.unwrap().line, 4);

    // Much text does not go along with many warnings: then the lines are drawn here.
    let stages: String = (0..400).map(|number| format!("FROM busybox AS Stage{number}\n")).collect();
    let long = format!("{stages}{}", "# a comment that goes on and on\n".repeat(1000));
    context.dockerfile(&long);
    let id = unique("build");
    client.solve(dockerfile(&session, &id)).unwrap();
    let said = client.status(&id).unwrap();
    assert!(said.warnings.len() >= 400, "{}", said.warnings.len());
    let texts: usize =
        said.warnings.iter().filter_map(|one| one.info.as_ref()).map(|info| info.data.len()).sum();
    assert!(texts > 0 && texts <= 1 << 20, "{texts}");
    let is_casing = |one: &&VertexWarning| one.short.starts_with(b"StageNameCasing");
    let last = said.warnings.iter().rfind(is_casing).unwrap();
    assert!(last.info.is_none() && !last.ranges.is_empty() && last.detail.len() > 1, "{last:?}");
}

#[test]
fn buildx_draws_warnings_as_it_draws_those_of_buildkit() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let context = env.context();
    context.dockerfile(CARELESS);
    // As `docker --debug` has it.
    let told = buildx.build(context.path(), &[]).env("DEBUG", "1").ok();
    told.stderr_has(&["StageNameCasing", "(line 1)", "More info: https://docs.docker.com/", "Dockerfile:1"]);
    told.stderr_has(&["   1 | >>> FROM busybox AS Base"]);
    // The lines are not drawn twice.
    assert!(!told.stderr_text().contains("^^^"), "{told}");
}

#[test]
fn errors_say_which_step_and_which_lines() {
    let env = env();
    let daemon = Daemon::start(&env);
    let client = Client::of(&daemon);
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN true\nRUN exit 7\n");
    let session = client.session(&Offer::new().context(context.path()));
    let id = unique("build");
    let status = client.solve(dockerfile(&session, &id)).unwrap_err();
    assert!(status.message().contains("exit code: 7"), "{status}");
    let details = details(&status);
    let of = |kind: &str| &details.iter().find(|(name, _)| name.ends_with(kind)).unwrap().1;
    let vertex = of("errdefs.Vertex+json");
    let said = client.status(&id).unwrap();
    let failed = said.vertex("RUN exit 7");
    assert_eq!(vertex["digest"], failed.digest.as_str());
    assert!(failed.error.contains("exit code: 7"), "{failed:?}");
    assert_eq!(of("errdefs.Source+json")["ranges"][0]["start"]["line"], 3);

    // What cannot be found has lines too, and is no step.
    context.dockerfile("FROM busybox\nCOPY nothing /\n");
    let status = client.solve(dockerfile(&session, &unique("build"))).unwrap_err();
    let found = grpc::details(&status);
    assert!(
        found
            .iter()
            .any(|(kind, value)| kind.ends_with("Source+json") && value["ranges"][0]["start"]["line"] == 2)
    );
}

#[test]
fn steps_are_told_with_what_they_wait_for_and_end_after_they_began() {
    let env = env();
    let daemon = Daemon::start(&env);
    let client = Client::of(&daemon);
    let context = env.context();
    context
        .dockerfile(
            "FROM busybox AS base\nRUN echo one > /one\nFROM base\nCOPY file /\nCOPY --from=base /one /two\n",
        )
        .file("file", "content\n");
    let session = client.session(&Offer::new().context(context.path()));
    let id = unique("build");
    let platforms = ("platform".to_owned(), "linux/amd64".to_owned());
    let request =
        SolveRequest { frontend_attrs: [platforms].into_iter().collect(), ..dockerfile(&session, &id) };
    client.solve(request).unwrap();
    let said = client.status(&id).unwrap();
    let digest = |part: &str| said.vertex(part).digest.clone();
    assert!(said.vertex("COPY file").inputs.contains(&digest("RUN echo one")));
    assert!(said.vertex("COPY --from=base").inputs.contains(&digest("COPY file")));
    for vertex in &said.vertices {
        assert!(vertex.digest.starts_with("sha256:") && !vertex.name.is_empty(), "{vertex:?}");
        let (started, completed) = (vertex.started.unwrap(), vertex.completed.unwrap());
        assert!((started.seconds, started.nanos) <= (completed.seconds, completed.nanos), "{vertex:?}");
        let known = |input: &String| said.vertices.iter().any(|other| other.digest == *input);
        assert!(vertex.inputs.iter().all(known), "{vertex:?}");
    }
    assert!(said.vertex("[internal] load build context").inputs.is_empty());
}

#[test]
fn a_stream_of_json_is_one() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let context = env.context();
    context.dockerfile("FROM busybox AS Base\nRUN echo to-stdout; printf '\\377'\n");
    let output = buildx.run(["build", "--progress", "rawjson"]).arg(context.path()).ok();
    let text = output.stderr_text();
    let json = &text[text.find('{').unwrap()..];
    let stream = serde_json::Deserializer::from_str(json).into_iter::<Value>();
    // What follows is for people.
    let documents: Vec<Value> = stream.map_while(Result::ok).collect();
    let all =
        |name: &str| documents.iter().filter_map(|one| one[name].as_array()).flatten().collect::<Vec<_>>();
    assert!(all("logs").iter().any(|log| log["stream"] == 1));
    let vertexes = all("vertexes");
    let names = |part: &str| {
        vertexes.iter().any(|vertex| vertex["name"].as_str().is_some_and(|name| name.contains(part)))
    };
    assert!(names("RUN echo") && names("[internal] load build definition"), "{text}");
    let warning = &all("warnings")[0];
    assert_eq!(warning["sourceInfo"]["filename"], "Dockerfile", "{warning}");
    assert_eq!(warning["range"][0]["start"]["line"], 1, "{warning}");
    // Ours has the same in the same places.
    let ours = env.lap(["build", "--progress", "rawjson"]).arg(context.path()).ok().stderr_text();
    let ours: Vec<Value> = ours.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let ours: Vec<&Value> = ours.iter().filter_map(|one| one["warnings"].as_array()).flatten().collect();
    assert_eq!(ours[0]["range"], warning["range"]);
    assert_eq!(ours[0]["sourceInfo"], warning["sourceInfo"]);
}

#[test]
fn operations_of_a_group_are_told_as_one() {
    let env = env();
    let daemon = Daemon::start(&env);
    let client = Client::of(&daemon);
    let session = client.session(&Offer::new());
    let mut llb = Llb::default();
    let group = pb::ProgressGroup { id: "g1".to_owned(), name: "all that is made".to_owned(), weak: true };
    let grouped = || pb::OpMetadata { progress_group: Some(group.clone()), ..pb::OpMetadata::default() };
    let made = |path: &str| pb::op::Op::File(pb::FileOp { actions: vec![action(-1, 0, mkfile(path, "x"))] });
    let first = llb.add_with(made("/a"), &[], grouped());
    let second = llb.add_with(made("/b"), &[], grouped());
    let alone = llb.add(made("/c"), &[]);
    let result = llb.merge(&[&first, &second, &alone]);
    let id = unique("group");
    let request = SolveRequest {
        r#ref: id.clone(),
        session: session.id().to_owned(),
        definition: Some(llb.definition(&result)),
        ..SolveRequest::default()
    };
    client.solve(request).unwrap();
    let said = client.status(&id).unwrap();
    for path in ["/a", "/b"] {
        let vertex = said.vertex(&format!("mkfile {path}"));
        assert_eq!(vertex.progress_group.as_ref(), Some(&group));
        assert!(vertex.completed.is_some());
    }
    assert!(said.vertex("mkfile /c").progress_group.is_none());
}
