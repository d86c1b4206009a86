//! Caches that are one document, kept by `lap registry serve`.

use testkit::{Context, TestEnv};

use crate::common::{build, env, steps_run};
use crate::server::Server;

fn context(env: &TestEnv, content: &str) -> Context {
    let context = env.context();
    context
        .file("file", content)
        .dockerfile("FROM busybox\nRUN echo a > /a\nCOPY file /\nRUN cat /a /file > /b\n");
    context
}

#[test]
fn documents_are_kept_in_all_their_forms() {
    let server = Server::new();
    for form in
        ["", ",image-manifest=false", ",oci-mediatypes=false", ",compression=zstd,force-compression=true"]
    {
        let cache = format!("type=registry,ref={}/team/app:cache", server.address);
        let (first, second) = (env(), env());
        build(&first, &context(&first, "1"), &["--cache-to", &format!("{cache},mode=max{form}")]);
        let found = build(&second, &context(&second, "1"), &["--cache-from", &cache, "-t", "x"]);
        assert_eq!(steps_run(&found), Vec::<String>::new(), "{form}: {found}");
        assert_eq!(second.lap(["run", "--rm", "x", "cat", "/b"]).ok().stdout_text(), "a\n1", "{form}");
    }
}

#[test]
fn writers_of_one_name_leave_one_whole_document_and_those_of_their_own_all() {
    let server = Server::new();
    let cache = |tag: &str| format!("type=registry,mode=max,ref={}/team/app:{tag}", server.address);
    let envs = [env(), env(), env()];
    std::thread::scope(|scope| {
        for (number, env) in envs.iter().enumerate() {
            let to = [cache("shared"), cache(&number.to_string())];
            scope.spawn(move || {
                let context = context(env, &number.to_string());
                build(env, &context, &["--cache-to", &to[0], "--cache-to", &to[1]]);
            });
        }
    });
    let steps = |tag: &str, number: usize| {
        let env = env();
        let from = cache(tag).replace(",mode=max", "");
        steps_run(&build(&env, &context(&env, &number.to_string()), &["--cache-from", &from])).len()
    };
    let mut shared: Vec<usize> = (0..3).map(|number| steps("shared", number)).collect();
    shared.sort_unstable();
    assert_eq!(shared, [0, 2, 2]);
    for number in 0..3 {
        assert_eq!(steps(&number.to_string(), number), 0);
    }
}
