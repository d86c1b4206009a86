//! Programs of Debian in containers, as people run them: web servers behind published ports, a database whose files
//! outlive its container, and clients that find both by name. The images are built here, with Debian's own packages.

mod common;

use common::build;
use common::containers::Containers;
use common::ports::get;
use testkit::ports::free_port;
use testkit::wait::until_ok;

/// What every stage begins with.
const BASE: &str = "FROM debian:bookworm AS base\nARG DEBIAN_FRONTEND=noninteractive\nRUN apt-get update\n";

/// An environment with Debian, if it can be made here.
fn debian() -> Option<Containers> {
    testkit::judges::program("mmdebstrap")?;
    testkit::privilege::root()?;
    let env = Containers::new();
    env.load(&testkit::debian::bookworm());
    Some(env)
}

/// Builds an image with some packages on Debian, and what else the Dockerfile says.
fn image(env: &Containers, name: &str, packages: &str, rest: &str) {
    let context = env.context();
    context.dockerfile(&format!("{BASE}RUN apt-get install -y --no-install-recommends {packages}\n{rest}\n"));
    build(env, &context, &["-t", name]);
}

/// Asks until a server answers, and gives the answer.
fn answer_of(address: &str) -> String {
    until_ok(&format!("{address} answers"), || match get(address) {
        Ok(answer) if !answer.is_empty() => Ok(answer),
        other => Err(format!("{other:?}")),
    })
}

#[test]
fn web_servers_answer_on_the_host_and_by_name() {
    let Some(env) = debian() else { return };
    image(
        &env,
        "web",
        "nginx-light python3 iputils-ping",
        "RUN ln -sf /dev/stdout /var/log/nginx/access.log && ln -sf /dev/stderr /var/log/nginx/error.log\n\
         EXPOSE 80\nSTOPSIGNAL SIGQUIT\nCMD [\"nginx\", \"-g\", \"daemon off;\"]",
    );
    let pages = env.context();
    pages.file("index.html", "from the host\n");
    env.lap(["network", "create", "front"]).ok();
    let port = free_port();
    let bind = format!("{}:/var/www/html:ro", pages.path().display());
    env.detached(&["--name", "nginx", "--network", "front", "-p", &format!("{port}:80"), "-v", &bind, "web"]);
    let answer = answer_of(&format!("127.0.0.1:{port}"));
    assert!(answer.contains("Server: nginx") && answer.ends_with("from the host\n"), "{answer}");
    pages.file("index.html", "changed\n");
    assert!(answer_of(&format!("127.0.0.1:{port}")).ends_with("changed\n"));

    let serve =
        ["web", "python3", "-u", "-m", "http.server", "--directory", "/usr/share/doc/python3", "8000"];
    let flags =
        ["--name", "python", "--network", "front", "--network-alias", "docs", "-p", "127.0.0.1::8000"];
    env.detached(&[&flags[..], &serve].concat());
    let published = env.lap(["port", "python", "8000"]).ok().stdout_text();
    let answer = answer_of(published.trim());
    assert!(answer.contains("SimpleHTTP") && answer.contains("copyright"), "{answer}");

    // Each finds the other by name, and the log tells who asked.
    let ask = |from: &str, script: &str| env.lap(["exec", from, "python3", "-c", script]).ok().stdout_text();
    let of = |url: &str| format!("import urllib.request as r; print(r.urlopen('{url}').read().decode())");
    assert_eq!(ask("python", &of("http://nginx/")).trim(), "changed");
    assert!(ask("nginx", &of("http://docs:8000/")).contains("copyright"));
    env.lap(["exec", "nginx", "ping", "-c", "1", "-W", "5", "python"]).ok().stdout_has(&["1 received"]);
    env.lap(["exec", "python", "ping", "-c", "1", "-W", "5", "nginx"]).ok().stdout_has(&["1 received"]);
    env.lap(["logs", "nginx"]).ok().stdout_has(&["GET / HTTP/1.1", "Python-urllib"]);
    env.lap(["stop", "nginx"]).ok();
    assert_eq!(env.inspect("nginx", ".State.ExitCode"), "0");
    assert!(get(&format!("127.0.0.1:{port}")).is_err(), "somebody still answers");
}

#[test]
fn a_database_outlives_its_container() {
    let Some(env) = debian() else { return };
    image(
        &env,
        "postgres",
        "postgresql",
        "ENV PATH=/usr/lib/postgresql/15/bin:$PATH PGDATA=/data PGUSER=postgres\n\
         RUN mkdir /data && chown postgres:postgres /data && chmod 700 /data\nUSER postgres\nVOLUME /data\n\
         COPY --chmod=755 <<'EOT' /start\n#!/bin/sh\nset -e\n\
         [ -s /data/PG_VERSION ] || initdb --auth=trust >/dev/null\n\
         echo 'host all all all trust' >> /data/pg_hba.conf\n\
         exec postgres -c listen_addresses='*' -c unix_socket_directories=/tmp\nEOT\n\
         HEALTHCHECK --interval=200ms --start-period=60s --start-interval=200ms CMD pg_isready -h 127.0.0.1\n\
         STOPSIGNAL SIGINT\nENTRYPOINT [\"/start\"]",
    );
    env.lap(["network", "create", "back"]).ok();
    let start = || {
        env.detached(&[
            "--name",
            "db",
            "--network",
            "back",
            "-v",
            "rows:/data",
            "--shm-size",
            "128m",
            "postgres",
        ]);
        env.wait_until("db", ".State.Health.Status", |status| status == "healthy");
    };
    // A client in a container of its own, by the server's name.
    let query = |sql: &str| {
        let client = ["run", "--rm", "--network", "back", "--entrypoint", "psql", "postgres"];
        env.lap(client).args(["-h", "db", "-v", "ON_ERROR_STOP=1", "-Atc", sql]).ok().stdout_text()
    };
    start();
    query(
        "CREATE TABLE planks (n int PRIMARY KEY, wood text); INSERT INTO planks SELECT i, 'oak' FROM generate_series(1, 5000) i",
    );
    env.lap(["stop", "-t", "100", "db"]).ok();
    assert_eq!(env.inspect("db", ".State.ExitCode"), "0");
    env.lap(["rm", "-v", "db"]).ok();
    start();
    assert_eq!(query("SELECT count(*), min(wood) FROM planks"), "5000|oak\n");
    // What was committed survives the sudden death of everything in the container.
    query("UPDATE planks SET wood = 'larch' WHERE n <= 10");
    env.lap(["rm", "-fv", "db"]).ok();
    start();
    assert_eq!(
        query("SELECT wood, count(*) FROM planks GROUP BY wood ORDER BY wood"),
        "larch|10\noak|4990\n"
    );
    env.lap(["volume", "rm", "rows"]).fails(1).stderr_has(&["in use"]);
    env.lap(["rm", "-f", "db"]).ok();
    a_project_publishes_what_the_database_has(&env);
    // Only the named one was kept: those of the clients went with them.
    assert_eq!(env.lap(["volume", "ls", "-q"]).ok().stdout_text(), "rows\n");
    env.lap(["volume", "rm", "rows"]).ok();
}

/// Three services: one waits until the database is healthy, and another until the first has done its work.
fn a_project_publishes_what_the_database_has(env: &Containers) {
    let project = env.context();
    project.file(
        "compose.yaml",
        r#"
name: planks
services:
  web:
    image: busybox
    command: httpd -f -p 80 -h /pages
    volumes: ["pages:/pages:ro"]
    ports: ["127.0.0.1::80"]
    depends_on:
      report: {condition: service_completed_successfully}
  report:
    image: postgres
    user: root
    entrypoint: psql -h db -v ON_ERROR_STOP=1 -At -o /out/index.html
    command: ["-c", "SELECT wood, count(*) FROM planks GROUP BY wood ORDER BY wood"]
    volumes: ["pages:/out"]
    depends_on:
      db: {condition: service_healthy}
  db:
    image: postgres
    shm_size: 128m
    volumes: ["rows:/data"]
volumes:
  pages:
  rows: {external: true}
"#,
    );
    let compose = |args: &[&str]| env.lap([&["compose"], args].concat()).current_dir(project.path());
    compose(&["up", "-d"]).ok().stderr_has(&[
        "planks-db-1  Healthy",
        "planks-report-1  Exited",
        "planks-web-1  Started",
    ]);
    let published = env.lap(["port", "planks-web-1", "80"]).ok().stdout_text();
    assert!(answer_of(published.trim()).ends_with("larch|10\noak|4990\n"));
    let states = compose(&["ps", "-a", "--format", "{{.Service}} {{.State}}"]).ok().stdout_text();
    assert_eq!(states, "db running\nreport exited\nweb running\n");
    compose(&["down", "-v"]).ok();
    assert_eq!(env.lap(["ps", "-aq"]).ok().stdout_text(), "");
}
