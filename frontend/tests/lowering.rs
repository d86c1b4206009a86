//! Lowering seen from outside: Dockerfile text in, names of vertices, config, history or an error out.

use std::collections::BTreeMap;

use base::image::ImageConfig;
use base::{Digest, GitUrl, Platform, Reference};
use frontend::{
    Entitlement, HttpRequest, LowerError, Lowered, MetaResolver, NamedContext, Options, ResolveError,
    ResolvedHttp, ResolvedImage, lower,
};
use llb::{BindMount, FileAction, MountKind, NetworkMode, Op, SourceOp};
use parser::SourceFile;

/// Resolves `debian` to an image with one layer; knows no other.
struct Table {
    config: ImageConfig,
}

impl MetaResolver for Table {
    fn resolve(&self, reference: &Reference, _platform: &Platform) -> Result<ResolvedImage, ResolveError> {
        if reference.repository != "library/debian" {
            return Err("no such image".into());
        }
        let manifest = Digest::of(b"manifest");
        Ok(ResolvedImage {
            reference: reference.with_digest(manifest),
            manifest,
            config: self.config.clone(),
        })
    }

    fn http(&self, request: &HttpRequest) -> Result<ResolvedHttp, ResolveError> {
        Err(format!("no file at {}", request.url).into())
    }

    fn git(&self, url: &GitUrl) -> Result<String, ResolveError> {
        Err(format!("no repository at {}", url.remote).into())
    }
}

fn debian() -> ImageConfig {
    let mut config = ImageConfig::scratch(&Platform::host());
    config.config.env = vec!["PATH=/bin".to_owned()];
    config.config.cmd = Some(vec!["bash".to_owned()]);
    config.rootfs.diff_ids = vec![Digest::of(b"layer")];
    config
}

fn lower_with(text: &str, options: &Options, config: ImageConfig) -> Result<Lowered, LowerError> {
    let parsed = parser::parse(text.as_bytes());
    let errors: Vec<_> = parsed.diagnostics.iter().filter(|d| d.level == parser::Level::Error).collect();
    assert!(errors.is_empty(), "{errors:?}");
    lower(&parsed.dockerfile, options, &Table { config })
}

fn lowered(text: &str) -> Lowered {
    lower_with(text, &Options::for_host(), debian()).unwrap()
}

/// The message of the error, and the text that it points at.
fn refused(text: &str) -> (String, String) {
    let error = lower_with(text, &Options::for_host(), debian()).unwrap_err();
    let span = error.span().unwrap_or_default();
    (error.to_string(), text[span.start..span.end].to_owned())
}

fn names(lowered: &Lowered) -> Vec<String> {
    let order = lowered.graph.topological().iter();
    order.map(|vertex| lowered.graph.vertex(*vertex).metadata.name.clone()).collect()
}

fn history(lowered: &Lowered) -> Vec<String> {
    lowered.images[0].config.history.iter().map(|entry| entry.created_by.clone()).collect()
}

#[test]
fn names_count_steps_within_stages() {
    let lowered = lowered("FROM debian AS build\nRUN make\nFROM scratch\nCOPY --from=build /a /b\n");
    let manifest = Digest::of(b"manifest");
    let expected = [
        format!("[build 1/2] FROM docker.io/library/debian:latest@{manifest}"),
        "[build 2/2] RUN make".to_owned(),
        "[stage-1 1/1] COPY --from=build /a /b".to_owned(),
    ];
    assert_eq!(names(&lowered), expected);
}

#[test]
fn names_show_the_values_of_arguments_and_leave_the_shells_variables() {
    let lowered = lowered("FROM debian\nARG V=1\nRUN for i in a; do echo \"$i $V\"; done\n");
    assert_eq!(names(&lowered)[1], "[2/2] RUN for i in a; do echo \"$i 1\"; done");
}

#[test]
fn stages_that_the_target_does_not_need_are_left_out() {
    let lowered = lowered("FROM debian AS unused\nRUN never\nFROM debian AS used\nRUN x\nFROM used\nRUN y\n");
    assert!(!names(&lowered).iter().any(|name| name.contains("never")));
    assert_eq!(lowered.graph.len(), 3);
}

#[test]
fn a_target_is_found_whatever_its_case_and_its_config_is_the_result() {
    let text = "FROM debian AS One\nENV A=1\nFROM debian\nENV B=2\n";
    let options = Options { target: Some("ONE".to_owned()), ..Options::for_host() };
    let lowered = lower_with(text, &options, debian()).unwrap();
    assert_eq!(lowered.images[0].config.config.env, ["PATH=/bin", "A=1"]);
}

#[test]
fn unknown_target_lists_the_stages() {
    let options = Options { target: Some("nope".to_owned()), ..Options::for_host() };
    let error = lower_with("FROM debian AS build\nFROM debian AS test\n", &options, debian()).unwrap_err();
    let LowerError::Dockerfile(diagnostic) = error else { panic!("{error}") };
    assert!(diagnostic.message.contains("nope"));
    assert_eq!(diagnostic.help.as_deref(), Some("the stages are: build, test"));
}

#[test]
fn history_is_in_the_words_of_buildkit() {
    let text = r#"FROM debian
ARG V=1
ENV A=1 B="two words"
WORKDIR /srv
WORKDIR app
COPY --chown=1:2 a b ./
RUN echo $V
RUN ["echo", "x"]
USER me
EXPOSE 80 53/udp
VOLUME /data
LABEL k=v
STOPSIGNAL SIGINT
SHELL ["/bin/bash", "-c"]
ENTRYPOINT run me
CMD ["a", "b"]
HEALTHCHECK --interval=5s CMD true
ONBUILD RUN later
MAINTAINER someone
"#;
    let expected = [
        "ARG V=1",
        "ENV A=1 B=two words",
        "WORKDIR /srv",
        "WORKDIR /srv/app",
        "COPY --chown=1:2 a b ./ # buildkit",
        "RUN |1 V=1 /bin/sh -c echo $V # buildkit",
        "RUN |1 V=1 echo x # buildkit",
        "USER me",
        "EXPOSE [53/udp 80/tcp]",
        "VOLUME [/data]",
        "LABEL k=v",
        "STOPSIGNAL SIGINT",
        "SHELL [/bin/bash -c]",
        r#"ENTRYPOINT ["/bin/bash" "-c" "run me"]"#,
        r#"CMD ["a" "b"]"#,
        r#"HEALTHCHECK &{["CMD-SHELL" "true"] "5s" "0s" "0s" "0s" '\x00'}"#,
        "MAINTAINER someone",
    ];
    let lowered = lowered(text);
    assert_eq!(history(&lowered), expected);
    let layers: Vec<bool> = lowered.images[0].config.history.iter().map(|entry| !entry.empty_layer).collect();
    assert_eq!(layers.iter().filter(|layer| **layer).count(), 5);
    assert_eq!(lowered.images[0].config.author, "someone");
    assert_eq!(lowered.images[0].config.config.on_build, ["RUN later"]);
    assert!(lowered.images[0].config.config.args_escaped);
}

#[test]
fn entrypoint_forgets_the_command_of_the_base_only() {
    assert_eq!(lowered("FROM debian\nENTRYPOINT [\"x\"]\n").images[0].config.config.cmd, None);
    let own = lowered("FROM debian\nCMD [\"y\"]\nENTRYPOINT [\"x\"]\n");
    assert_eq!(own.images[0].config.config.cmd.as_deref(), Some(&["y".to_owned()][..]));
}

#[test]
fn arguments_have_the_documented_scope() {
    let text = "ARG V=global\nFROM debian AS a\nARG V\nENV SEEN=$V\nFROM debian AS b\nENV SEEN=x$V\n";
    let options = |target: &str, args: &[(&str, &str)]| Options {
        target: Some(target.to_owned()),
        build_args: args.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>(),
        ..Options::for_host()
    };
    let seen = |options: &Options| {
        lower_with(text, options, debian()).unwrap().images[0].config.config.env[1].clone()
    };
    assert_eq!(seen(&options("a", &[])), "SEEN=global");
    assert_eq!(seen(&options("a", &[("V", "given")])), "SEEN=given");
    assert_eq!(seen(&options("b", &[])), "SEEN=x");
}

#[test]
fn platform_arguments_need_a_declaration_inside_a_stage() {
    let text = "FROM --platform=$BUILDPLATFORM debian\nARG TARGETARCH\nENV A=$TARGETARCH B=$TARGETOS\n";
    let lowered = lowered(text);
    let arch = Platform::host().architecture;
    assert_eq!(lowered.images[0].config.config.env[1..], [format!("A={arch}"), "B=".to_owned()]);
    assert!(lowered.warnings.iter().any(|warning| warning.code == "UndefinedVar"));
}

#[test]
fn a_whole_instruction_sees_the_environment_from_before_it() {
    let lowered = lowered("FROM debian\nENV a=old\nENV a=new b=$a\n");
    assert_eq!(lowered.images[0].config.config.env[1..], ["a=new", "b=old"]);
}

#[test]
fn proxies_reach_the_process_but_not_key_or_history() {
    let build = |args: &[(&str, &str)]| {
        let options = Options {
            build_args: args.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            ..Options::for_host()
        };
        lower_with("FROM debian\nRUN x\n", &options, debian()).unwrap()
    };
    let (plain, proxied) = (build(&[]), build(&[("HTTP_PROXY", "http://p")]));
    let key = |lowered: &Lowered| lowered.graph.vertex(lowered.images[0].target.unwrap().vertex).op_key;
    assert_eq!(key(&plain), key(&proxied));
    assert_eq!(history(&plain), history(&proxied));
    let Op::Exec(exec) = &proxied.graph.vertex(proxied.images[0].target.unwrap().vertex).op else { panic!() };
    assert_eq!(exec.proxy_env, ["HTTP_PROXY=http://p"]);
}

#[test]
fn triggers_of_the_base_run_once_after_from() {
    let mut config = debian();
    config.config.on_build = vec!["COPY a /b".to_owned(), "RUN make".to_owned()];
    let lowered = lower_with("FROM debian\nRUN own\n", &Options::for_host(), config).unwrap();
    let history = history(&lowered);
    assert_eq!(history.len(), 3);
    assert!(history[0].starts_with("COPY a /b"));
    assert!(lowered.images[0].config.config.on_build.is_empty());
}

#[test]
fn triggers_count_as_steps_of_the_stage_that_runs_them() {
    let mut config = debian();
    config.config.on_build = ["COPY a /b", "ENV A=1", "RUN make"].map(str::to_owned).to_vec();
    let text = "FROM debian AS one\nRUN own\nONBUILD WORKDIR /w\nFROM one\nCOPY c /c\n";
    let lowered = lower_with(text, &Options::for_host(), config).unwrap();
    let names = names(&lowered);
    let expected = [
        &format!("[one 1/4] FROM docker.io/library/debian:latest@{}", Digest::of(b"manifest")),
        "[one 2/4] COPY a /b",
        "[one 3/4] RUN make",
        "[one 4/4] RUN own",
        "[stage-1 1/2] WORKDIR /w",
        "[stage-1 2/2] COPY c /c",
    ];
    assert_eq!(
        names.iter().filter(|name| name.contains('/') && !name.contains("load")).collect::<Vec<_>>(),
        expected
    );
}

#[test]
fn heredocs_become_scripts_files_and_shell_input() {
    let text = "FROM debian\nRUN <<EOF\necho 1\nEOF\nRUN <<EOF\n#!/bin/python\nx\nEOF\nRUN cat <<EOF >f\nbody\nEOF\nENV v=1\nCOPY <<A <<'B' /d/\n$v\nA\n$v\nB\n";
    let lowered = lowered(text);
    let ops: Vec<&Op> = lowered.graph.topological().iter().map(|v| &lowered.graph.vertex(*v).op).collect();
    let execs: Vec<_> = ops
        .iter()
        .filter_map(|op| match op {
            Op::Exec(exec) => Some((exec.args.clone(), exec.files.len())),
            _ => None,
        })
        .collect();
    assert_eq!(execs[0].0[2], "echo 1\n");
    assert_eq!(execs[1], (vec!["/dev/pipes/EOF".to_owned()], 1));
    assert_eq!(execs[2].0[2], "cat <<EOF >f\nbody\nEOF");
    let files: Vec<_> = ops
        .iter()
        .filter_map(|op| match op {
            Op::File(file) => Some(file),
            _ => None,
        })
        .flat_map(|file| &file.actions)
        .filter_map(|action| match action {
            FileAction::Mkfile(file) => Some((file.name.as_str(), file.content.as_slice(), file.mode)),
            _ => None,
        })
        .collect();
    assert_eq!(files, [("A", &b"1\n"[..], 0o644), ("B", &b"$v\n"[..], 0o644)]);
}

#[test]
fn copy_takes_from_stages_by_name_and_number_and_from_images() {
    let lowered = lowered(
        "FROM debian AS a\nRUN x\nFROM debian\nCOPY --from=0 /x /\nCOPY --from=A /y /\nCOPY --from=debian /z /\n",
    );
    let images = lowered
        .graph
        .topological()
        .iter()
        .filter(|v| matches!(lowered.graph.vertex(**v).op, Op::Source(SourceOp::Image(_))));
    assert_eq!(images.count(), 1, "one image under three uses is one vertex");
}

#[test]
fn the_network_of_a_step_wins_over_the_build() {
    let allow = [Entitlement::NetworkHost].into();
    let options = Options { network: NetworkMode::None, allow, ..Options::for_host() };
    let lowered = lower_with("FROM debian\nRUN a\nRUN --network=host b\n", &options, debian()).unwrap();
    let modes: Vec<_> = lowered
        .graph
        .topological()
        .iter()
        .filter_map(|v| match &lowered.graph.vertex(*v).op {
            Op::Exec(exec) => Some(exec.network),
            _ => None,
        })
        .collect();
    assert_eq!(modes, [NetworkMode::None, NetworkMode::Host]);
}

#[test]
fn workdir_root_makes_no_layer_and_scratch_has_no_vertex() {
    let lowered = lowered("FROM scratch\nWORKDIR /\nLABEL a=b\n");
    assert_eq!(lowered.images[0].target, None);
    assert!(lowered.images[0].config.history.iter().all(|entry| entry.empty_layer));
    assert_eq!(lowered.images[0].config.config.working_dir, "/");
}

#[test]
fn errors_point_at_the_words_they_are_about() {
    let cases = [
        ("RUN x\nFROM debian\n", "before the first FROM", "RUN x"),
        ("FROM nosuch\n", "nosuch", "nosuch"),
        ("ARG X\nFROM $X\n", "empty after expansion", "$X"),
        ("FROM Bad:Name:x\n", "invalid reference", "Bad:Name:x"),
        ("FROM debian\nCOPY --from=later /a /\nFROM debian AS later\n", "defined after", "later"),
        ("FROM debian AS a\nCOPY --from=a /a /\n", "circular", "a"),
        ("FROM debian AS a\nCOPY --from=b /a /\nFROM a AS b\nFROM b\n", "defined after", "b"),
        ("FROM debian\nCOPY --from=7 /a /\n", "no stage 7", "7"),
        ("FROM debian\nCOPY a b /c\n", "end with a /", "/c"),
        ("FROM debian\nEXPOSE 99999\n", "invalid port", "99999"),
        ("FROM debian\nSTOPSIGNAL SIGWHAT\n", "not a signal", "SIGWHAT"),
        ("FROM debian\nCOPY --chmod=999 a /\n", "invalid mode", "999"),
        ("FROM debian\nRUN --network=mesh x\n", "unknown network", "mesh"),
        ("FROM debian\nADD https://example.com/x /\n", "cannot resolve", "https://example.com/x"),
        ("FROM debian\nENV A=${B?unset}\n", "unset", "${B?unset}"),
    ];
    for (text, message, place) in cases {
        let (said, at) = refused(text);
        assert!(said.contains(message), "{text:?} said {said:?}");
        assert_eq!(at, place, "{text:?}");
    }
}

#[test]
fn what_needs_consent_is_refused_without_it() {
    for (line, entitlement) in [
        ("RUN --network=host x", Entitlement::NetworkHost),
        ("RUN --security=insecure x", Entitlement::SecurityInsecure),
        ("RUN --device=vendor.com/gpu=all x", Entitlement::Device),
    ] {
        let text = format!("FROM debian\n{line}\n");
        let (said, _) = refused(&text);
        assert!(said.contains(entitlement.name()), "{said}");
        let options = Options { allow: [entitlement].into(), ..Options::for_host() };
        assert!(lower_with(&text, &options, debian()).is_ok());
    }
}

/// The exec operation of the target.
fn exec(lowered: &Lowered) -> &llb::ExecOp {
    match &lowered.graph.vertex(lowered.images[0].target.unwrap().vertex).op {
        Op::Exec(exec) => exec,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bind_mount_shows_a_copy_of_what_it_names() {
    let lowered = lowered("FROM debian\nWORKDIR /w\nRUN --mount=source=a/b,target=c,rw x\n");
    let [mount] = exec(&lowered).mounts.as_slice() else { panic!() };
    let bind = BindMount { input: Some(1), source: "/a/b".to_owned(), writable: true, kept: false };
    assert_eq!((mount.target.as_str(), &mount.kind), ("/w/c", &MountKind::Bind(bind)));
    let inputs = lowered.graph.inputs(lowered.images[0].target.unwrap().vertex);
    let Op::File(copy) = &lowered.graph.vertex(inputs[1].vertex).op else { panic!() };
    assert!(
        matches!(&copy.actions[..], [FileAction::Copy(copy)] if copy.parents && copy.sources == ["/a/b"])
    );
}

#[test]
fn a_mount_from_a_stage_needs_only_that_stage() {
    let text = "FROM debian AS a\nRUN one\nFROM debian AS b\nRUN two\nFROM debian\n\
                RUN --mount=from=a,target=/a --mount=type=cache,target=/c,from=a,source=/s three\n";
    let lowered = lowered(text);
    assert!(!names(&lowered).iter().any(|name| name.contains("two")));
    let slots: Vec<Option<u32>> = exec(&lowered).mounts.iter().map(llb::ExecMount::input).collect();
    assert_eq!(slots, [Some(1), Some(2)]);
}

#[test]
fn ssh_sets_its_variable_unless_the_stage_does() {
    let variable = |text: &str| {
        let lowered = lowered(text);
        exec(&lowered).env.iter().find(|entry| entry.starts_with("SSH_AUTH_SOCK=")).cloned()
    };
    let mounted = variable("FROM debian\nRUN --mount=type=ssh x\n");
    assert_eq!(mounted.as_deref(), Some("SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0"));
    let own = variable("FROM debian\nENV SSH_AUTH_SOCK=/own\nRUN --mount=type=ssh x\n");
    assert_eq!(own.as_deref(), Some("SSH_AUTH_SOCK=/own"));
    assert_eq!(variable("FROM debian\nRUN x\n"), None);
}

#[test]
fn the_value_of_a_variable_that_holds_a_secret_is_not_shown() {
    let lowered = lowered(
        "FROM debian\nARG TOKEN=abc\nRUN --mount=type=secret,id=t,env=TOKEN use $TOKEN\nRUN echo $TOKEN\n",
    );
    let names = names(&lowered);
    assert!(names[1].ends_with("use ****") && names[2].ends_with("echo abc"), "{names:?}");
}

#[test]
fn cache_mounts_are_named_by_their_target_within_a_namespace() {
    let id = |args: &[(&str, &str)]| {
        let build_args = args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let options = Options { build_args, ..Options::for_host() };
        let text = "FROM debian\nRUN --mount=type=cache,target=/c/../d x\n";
        let lowered = lower_with(text, &options, debian()).unwrap();
        match &exec(&lowered).mounts[0].kind {
            MountKind::Cache(cache) => cache.id.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(id(&[]), "/d");
    assert_eq!(id(&[("BUILDKIT_CACHE_MOUNT_NS", "me")]), "me//d");
}

#[test]
fn a_linked_copy_does_not_depend_on_what_it_is_laid_over() {
    let build = |from: &str, flags: &str| lowered(&format!("FROM debian\nRUN {from}\nCOPY {flags} a /\n"));
    let copy = |lowered: &Lowered| {
        let target = lowered.images[0].target.unwrap().vertex;
        assert!(matches!(lowered.graph.vertex(target).op, Op::Merge));
        lowered.graph.inputs(target)[1].vertex
    };
    let (one, two) = (build("one", "--link"), build("two", "--link"));
    let id = |lowered: &Lowered| lowered.graph.vertex(copy(lowered)).id;
    assert_eq!(id(&one), id(&two));
    let named = build("one", "--link --chown=user");
    assert!(matches!(named.graph.vertex(named.images[0].target.unwrap().vertex).op, Op::File(_)));
}

#[test]
fn a_named_context_stands_for_stages_images_and_sources() {
    let with = |name: &str, text: &str| {
        let contexts = [(name.to_owned(), NamedContext::Local)].into();
        lower_with(text, &Options { contexts, ..Options::for_host() }, debian()).unwrap()
    };
    let of_stage = with("base", "FROM nowhere AS base\nRUN never\nFROM base\nRUN x\n");
    assert_eq!(names(&of_stage)[..2], ["[context base] load from client", "[context base] /"]);
    assert!(!names(&of_stage).iter().any(|name| name.contains("never")));
    let of_image = with("docker.io/library/nowhere:latest", "FROM nowhere\nRUN x\n");
    assert_eq!(of_image.graph.len(), 3);
    let of_copy = with("files", "FROM debian\nCOPY --from=files a /\n");
    assert!(names(&of_copy).contains(&"[context files] load from client".to_owned()));
    let of_mount = with("files", "FROM debian\nRUN --mount=from=files,target=/f x\n");
    assert!(names(&of_mount).contains(&"[context files] /".to_owned()));
}

#[test]
fn each_platform_has_an_image_and_shares_what_is_built_for_the_builder() {
    let platforms = vec![Platform::new("linux", "amd64", ""), Platform::new("linux", "arm64", "")];
    let options =
        Options { platforms, build_platform: Platform::new("linux", "amd64", ""), ..Options::for_host() };
    let text = "FROM --platform=$BUILDPLATFORM debian AS tool\nRUN compile\nFROM debian\nARG TARGETARCH\n\
                RUN x\nCOPY --from=tool /a /\n";
    let lowered = lower_with(text, &options, debian()).unwrap();
    let shown = names(&lowered);
    assert_eq!(shown.iter().filter(|name| name.contains("compile")).count(), 1);
    assert!(shown.iter().any(|name| name.starts_with("[linux/arm64 stage-1 2/3] RUN x")), "{shown:?}");
    let architectures: Vec<&str> =
        lowered.images.iter().map(|image| image.config.architecture.as_str()).collect();
    assert_eq!(architectures.len(), 2);
    assert_ne!(lowered.images[0].target, lowered.images[1].target);
}

#[test]
fn only_the_named_stages_run_again() {
    let options = Options { no_cache_filter: vec!["B".to_owned()], ..Options::for_host() };
    let text = "FROM debian AS a\nRUN one\nFROM a AS b\nRUN two\nFROM b\nRUN three\n";
    let lowered = lower_with(text, &options, debian()).unwrap();
    let again: Vec<bool> = lowered
        .graph
        .topological()
        .iter()
        .map(|vertex| lowered.graph.vertex(*vertex).metadata.ignore_cache)
        .collect();
    assert_eq!(again, [false, false, true, false]);
}

#[test]
fn errors_can_be_drawn_with_their_line() {
    let text = "FROM debian\nEXPOSE nope\n";
    let LowerError::Dockerfile(diagnostic) = lower_with(text, &Options::for_host(), debian()).unwrap_err()
    else {
        panic!()
    };
    let drawn = SourceFile::new("Dockerfile", text).render(&diagnostic);
    assert!(drawn.starts_with("Dockerfile:2:8: error: invalid port \"nope\""), "{drawn}");
    assert!(drawn.contains("EXPOSE nope") && drawn.contains("^^^^"), "{drawn}");
}
