//! How registries are reached: mirrors, certificates, headers and proxies, from each of the files that say so.

use std::path::Path;

use testkit::certificates::{Certificate, self_signed};
use testkit::registry::Login;
use testkit::{DockerRegistry, FaultyRegistry, Image, Layer, LayerTar, RegistryDoor, TestEnv};

fn image(content: &str) -> Image {
    let layer = LayerTar::new().file("f", 0o644, content.as_bytes()).finish();
    Image::new("app").layer(Layer::tar(layer))
}

/// A registry with an image, called `repository:1`, that has `content`.
fn registry(repository: &str, content: &str) -> FaultyRegistry {
    let registry = FaultyRegistry::start();
    registry.put_image(repository, "1", &image(content));
    registry
}

/// Writes a file of the user's configuration.
fn configure(env: &TestEnv, file: &str, text: &str) {
    let path = env.home().join(".config").join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// The digest that a pull of `name` gives.
fn pulled(env: &TestEnv, name: &str) -> String {
    let output = env.lap(["pull", name]).ok().stdout_text();
    let line = output.lines().find_map(|line| line.strip_prefix("Digest: "));
    line.unwrap_or_else(|| panic!("no digest in {output}")).to_owned()
}

#[test]
fn daemon_json_has_mirrors_for_docker_hub() {
    let env = TestEnv::new();
    let mirror = registry("library/app", "mirrored");
    let text = format!(r#"{{"debug": true, "registry-mirrors": ["http://{}/"]}}"#, mirror.address());
    configure(&env, "docker/daemon.json", &text);
    assert_eq!(pulled(&env, "app:1"), image("mirrored").digest().to_string());
    env.lap(["run", "--rm", "app:1", "true"]).run();
    configure(&env, "docker/daemon.json", "{\n\"registry-mirrors\": [\"mirror\"]}");
    let broken = env.lap(["pull", "app:1"]).fails(1);
    broken.stderr_has(&["docker/daemon.json, line 2", "registry mirror \"mirror\" is not a URL"]);
}

#[test]
fn daemon_json_has_registries_without_proof() {
    let env = TestEnv::new();
    let Some((registry, _)) = with_tls(&env, None) else { return };
    let name = push(&env, &registry, Some("insecure"));
    configure(
        &env,
        "docker/daemon.json",
        &format!(r#"{{"insecure-registries": ["{}"]}}"#, registry.address()),
    );
    pulled(&env, &name);
    env.lap(["doctor", registry.address()]).ok().stdout_has(&["any certificate is accepted", "daemon.json"]);
    // And one that speaks no TLS at all.
    let plain = self::registry("app", "plain");
    configure(&env, "docker/daemon.json", r#"{"insecure-registries": ["127.0.0.0/8"]}"#);
    pulled(&env, &plain.reference("app:1"));
}

#[test]
fn registries_conf_says_where_names_lead() {
    let env = TestEnv::new();
    let (one, two) = (registry("moved/app", "one"), registry("app", "two"));
    let (a, b) = (one.address(), two.address());
    let dead = FaultyRegistry::refused_address();
    let text = format!(
        "[[registry]]\nprefix = \"old.test/team\"\nlocation = \"{a}/moved\"\n\
         [[registry]]\nlocation = \"{b}\"\n[[registry.mirror]]\nlocation = \"{dead}/x\"\n\
         [[registry.mirror]]\nlocation = \"{a}/nothing\"\n"
    );
    configure(&env, "containers/registries.conf", &text);
    assert_eq!(pulled(&env, "old.test/team/app:1"), image("one").digest().to_string());
    // Neither mirror has it; the one that is dead is asked once.
    assert_eq!(pulled(&env, &two.reference("app:1")), image("two").digest().to_string());
    assert!(!one.seen("/v2/nothing/app/manifests/1").is_empty());
    configure(
        &env,
        "containers/registries.conf.d/10-no.conf",
        "[[registry]]\nprefix = \"old.test\"\nblocked = true\n",
    );
    assert_eq!(pulled(&env, "old.test/team/app:1"), image("one").digest().to_string());
    env.lap(["pull", "old.test/other:1"]).fails(1).stderr_has(&["registries.conf", "blocks it"]);
    configure(&env, "containers/registries.conf.d/10-no.conf", "\n[[registry]]\nblockd = true\n");
    let broken = env.lap(["pull", "old.test/team/app:1"]).fails(1);
    broken.stderr_has(&["10-no.conf, line 3", "unknown field `blockd`"]);
}

#[test]
fn hosts_toml_has_endpoints_in_order() {
    let env = TestEnv::new();
    let (own, mirror) = (registry("app", "own"), registry("app", "mirror"));
    let text = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n\
         [host.\"http://{1}\".header]\nx-team = [\"blue\"]\n",
        own.address(),
        mirror.address()
    );
    let file = format!("containerd/certs.d/{}/hosts.toml", own.address());
    configure(&env, &file, &text);
    assert_eq!(pulled(&env, &own.reference("app:1")), image("mirror").digest().to_string());
    let seen = mirror.seen("manifests/1");
    assert!(seen[0].line.contains(&format!("ns={}", own.address().replace(':', "%3A"))), "{seen:?}");
    assert!(seen[0].headers.contains(&("x-team".to_owned(), "blue".to_owned())), "{seen:?}");
    // What is pushed goes to the server, without the mirror's headers.
    let name = own.reference("app:2");
    env.lap(["tag", &own.reference("app:1"), &name]).ok();
    env.lap(["push", &name]).ok();
    assert!(own.tagged("app", "2").is_some() && mirror.tagged("app", "2").is_none());
    let told = own.seen("app").iter().any(|seen| seen.headers.iter().any(|(name, _)| name == "x-team"));
    assert!(!told);
    env.lap(["doctor", own.address()]).ok().stdout_has(&[
        "hosts.toml",
        "for resolve, pull (",
        "sends the header x-team",
    ]);
    configure(&env, &file, "server = 5\n");
    env.lap(["pull", &name]).fails(1).stderr_has(&["hosts.toml, line 1"]);
}

#[test]
fn what_is_pushed_comes_together_at_one_endpoint() {
    let env = TestEnv::new();
    let (own, first) = (registry("app", "same"), FaultyRegistry::start());
    let text = format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", own.address(), first.address());
    configure(&env, &format!("containerd/certs.d/{}/hosts.toml", own.address()), &text);
    env.load(&image("same"));
    let name = own.reference("app:2");
    env.lap(["tag", "app", &name]).ok();
    // The other one has the layers, which is of no use here.
    env.lap(["push", &name]).ok();
    assert_eq!(first.tagged("app", "2"), Some(image("same").digest()));
    assert_eq!(own.tagged("app", "2"), None);
    assert_eq!(own.seen("app").len(), 0);
}

#[test]
fn buildkitd_toml_has_mirrors_too() {
    let env = TestEnv::new();
    let (own, mirror) = (registry("app", "own"), registry("hub/app", "mirror"));
    let text = format!(
        "[worker.oci]\n  gc = true\n[registry.\"{}\"]\n  mirrors = [\"{}/hub\"]\n[registry.\"{1}\"]\n  http = true\n",
        own.address(),
        mirror.address()
    );
    configure(&env, "buildkit/buildkitd.toml", &text);
    assert_eq!(pulled(&env, &own.reference("app:1")), image("mirror").digest().to_string());
    configure(&env, "buildkit/buildkitd.toml", "\n[registry.\"a\"]\n  miror = []\n");
    env.lap(["pull", &own.reference("app:1")]).fails(1).stderr_has(&["buildkitd.toml, line 3", "miror"]);
}

#[test]
fn a_mirror_is_not_given_the_registrys_login() {
    let env = TestEnv::new();
    let (own, mirror) = (registry("app", "own"), registry("app", "mirror"));
    mirror.require(Login::Basic("Basic bWU6c2VjcmV0"));
    own.require(Login::Basic("Basic YW5uOnMzY3JldDp3b3Jk"));
    let auths = format!(r#"{{"auths": {{"{}": {{"auth": "YW5uOnMzY3JldDp3b3Jk"}}}}}}"#, own.address());
    std::fs::create_dir_all(env.home().join(".docker")).unwrap();
    std::fs::write(env.home().join(".docker/config.json"), auths).unwrap();
    let text = format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", own.address(), mirror.address());
    configure(&env, &format!("containerd/certs.d/{}/hosts.toml", own.address()), &text);
    // It refuses us, so the registry itself is asked.
    assert_eq!(pulled(&env, &own.reference("app:1")), image("own").digest().to_string());
    let seen = mirror.seen("");
    assert!(!seen.is_empty() && seen.iter().all(|seen| seen.authorization.is_none()), "{seen:?}");
}

/// A registry with a certificate of its own, which also asks for one if `client` is given.
fn with_tls(env: &TestEnv, client: Option<&Certificate>) -> Option<(DockerRegistry, Certificate)> {
    let certificate = self_signed(&env.work(), "server")?;
    let door = RegistryDoor {
        certificate: Some((certificate.file.clone(), certificate.key.clone())),
        client_authority: client.map(|client| client.file.clone()),
        ..RegistryDoor::default()
    };
    Some((DockerRegistry::start_with(&door)?, certificate))
}

/// Pushes an image, accepting any certificate if `insecure` is given, and gives its name.
fn push(env: &TestEnv, registry: &DockerRegistry, insecure: Option<&str>) -> String {
    let name = registry.reference("app:1");
    env.load(&image("tls"));
    env.lap(["tag", "app", &name]).ok();
    let file = "docker/daemon.json";
    if insecure.is_some() {
        configure(env, file, &format!(r#"{{"insecure-registries": ["{}"]}}"#, registry.address()));
    }
    env.lap(["push", &name]).ok();
    if insecure.is_some() {
        std::fs::remove_file(env.home().join(".config").join(file)).unwrap();
    }
    name
}

fn copy(from: &Path, env: &TestEnv, file: &str) {
    let path = env.home().join(".config").join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::copy(from, path).unwrap();
}

#[test]
fn certificates_lie_in_directories_of_their_hosts() {
    let env = TestEnv::new();
    let Some(client) = self_signed(&env.work(), "client") else { return };
    let Some((registry, server)) = with_tls(&env, Some(&client)) else { return };
    let address = registry.address();
    copy(&server.file, &env, &format!("containers/certs.d/{address}/ca.crt"));
    env.load(&image("tls"));
    let name = registry.reference("app:1");
    env.lap(["tag", "app", &name]).ok();
    env.lap(["push", &name]).fails(1).stderr_has(&[address]);
    copy(&client.file, &env, &format!("docker/certs.d/{address}/me.cert"));
    let half = env.lap(["push", &name]).fails(1);
    half.stderr_has(&["me.cert has no me.key beside it"]);
    copy(&client.key, &env, &format!("docker/certs.d/{address}/me.key"));
    env.lap(["push", &name]).ok();
    pulled(&env, &name);
    env.lap(["doctor", address]).ok().stdout_has(&["trusts ", "ca.crt", "presents ", "me.cert", "/v2/: 200"]);
    copy(&client.key, &env, &format!("containers/certs.d/{address}/ca.crt"));
    env.lap(["pull", &name]).fails(1).stderr_has(&["ca.crt does not hold certificates in PEM form"]);
}

#[test]
fn hosts_toml_and_buildkitd_toml_name_certificates() {
    let env = TestEnv::new();
    let Some(client) = self_signed(&env.work(), "client") else { return };
    let Some((registry, server)) = with_tls(&env, Some(&client)) else { return };
    let address = registry.address();
    let (ca, cert, key) = (server.file.display(), client.file.display(), client.key.display());
    let text = format!(
        "[registry.\"{address}\"]\nca = [\"{ca}\"]\n[[registry.\"{address}\".keypair]]\nkey = \"{key}\"\ncert = \"{cert}\"\n"
    );
    configure(&env, "buildkit/buildkitd.toml", &text);
    let name = push(&env, &registry, None);
    std::fs::remove_file(env.home().join(".config/buildkit/buildkitd.toml")).unwrap();
    env.lap(["pull", &name]).fails(1);
    let text = format!("server = \"https://{address}\"\nca = \"{ca}\"\nclient = [[\"{cert}\", \"{key}\"]]\n");
    configure(&env, &format!("containerd/certs.d/{address}/hosts.toml"), &text);
    pulled(&env, &name);
}

#[test]
fn proxies_are_used_unless_a_host_needs_none() {
    let env = TestEnv::new();
    let Some((registry, server)) = with_tls(&env, None) else { return };
    copy(&server.file, &env, &format!("docker/certs.d/{}/ca.crt", registry.address()));
    let name = push(&env, &registry, None);
    let proxy = FaultyRegistry::start();
    let url = format!("http://me:hidden@{}", proxy.address());
    let through = env.lap(["pull", &name]).env("HTTPS_PROXY", &url).fails(1);
    assert!(!through.to_string().contains("hidden"), "{through}");
    assert!(!proxy.seen(&format!("CONNECT {}", registry.address())).is_empty());
    let before = proxy.seen("").len();
    env.lap(["pull", &name]).env("HTTPS_PROXY", &url).env("NO_PROXY", "127.0.0.1").ok();
    assert_eq!(proxy.seen("").len(), before);
    let seen = env.lap(["doctor", registry.address()]).env("HTTPS_PROXY", &url).run();
    seen.stdout_has(&[&format!("HTTPS_PROXY is {}", proxy.address())]);
    assert!(!seen.to_string().contains("hidden"), "{seen}");
}
