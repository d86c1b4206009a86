//! `lap compose`: what a project is, and what becomes of it.

mod common;

use std::path::PathBuf;

use common::containers::Containers;
use testkit::Lap;

/// A directory with a project, named like the test's own, beside an environment.
struct Project {
    env: Containers,
    directory: PathBuf,
}

impl Project {
    fn new(files: &[(&str, &str)]) -> Self {
        let env = Containers::new();
        let directory = env.work().join("shop");
        let project = Self { env, directory };
        files.iter().for_each(|(name, text)| project.write(name, text));
        project
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.directory.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// `lap compose ARGS…` in the project's directory.
    fn compose(&self, args: &[&str]) -> Lap {
        self.env.lap([&["compose"], args].concat()).current_dir(&self.directory)
    }
}

#[test]
fn config_shows_the_project_as_one_file() {
    let project = Project::new(&[
        (
            "compose.yaml",
            "services:\n  web: {image: 'busybox:${TAG:-latest}', ports: ['8080:80'], volumes: ['data:/d'], profiles: [dev]}\n  db: {image: busybox, env_file: db.env, command: 'echo $$HOME'}\nvolumes: {data: }\n",
        ),
        ("compose.override.yaml", "services: {web: {command: httpd -f}}\n"),
        ("db.env", "PASSWORD=$SECRET\n"),
    ]);
    let shown = project.compose(&["--profile", "dev", "config"]).env("SECRET", "s").ok();
    shown.stdout_has(&[
        "name: shop\n",
        "    image: busybox:latest\n",
        "      PASSWORD: s\n",
        "      - httpd\n      - \"-f\"\n",
        "    name: shop_data\n",
        "    name: shop_default\n",
    ]);
    let list = |args: &[&str]| project.compose(args).ok().stdout_text();
    assert_eq!(list(&["config", "--services"]), "db\n");
    assert_eq!(list(&["config", "--profiles"]), "dev\n");
    assert_eq!(list(&["config", "--volumes"]), "data\n");
    assert_eq!(list(&["config", "-q"]), "");
    let warned = project.compose(&["config", "--images"]).ok();
    assert_eq!(warned.stdout_text(), "busybox\n");
    warned.stderr_has(&["The \"SECRET\" variable is not set. Defaulting to a blank string."]);
    let json: serde_json::Value =
        serde_json::from_str(&list(&["-p", "other", "config", "--format", "json"])).unwrap();
    assert_eq!(
        (&json["name"], &json["networks"]["default"]["name"]),
        (&"other".into(), &"other_default".into())
    );
    // What is shown is a project as well, and the same one.
    let whole = list(&["config"]);
    project.write("again/compose.yaml", &whole);
    assert_eq!(list(&["--project-directory", ".", "-f", "again/compose.yaml", "config"]), whole);
    assert_eq!(project.compose(&["-f", "-", "config"]).stdin(whole.clone()).ok().stdout_text(), whole);
}

#[test]
fn mistakes_in_files_are_told_with_their_place() {
    let project = Project::new(&[]);
    for (text, message) in [
        (
            "services:\n  a:\n    imge: x\n",
            "compose.yaml:3: services.a: additional property 'imge' is not allowed",
        ),
        (
            "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [a]}\n",
            "dependency cycle detected: a -> b -> a",
        ),
        ("services: [\n", "compose.yaml:"),
        (
            "services: {a: {image: '${NAME:?say which}'}}\n",
            "required variable NAME is missing a value: say which",
        ),
        ("services: {a: {image: x, env_file: none.env}}\n", "none.env not found"),
        ("services: {a: {image: x, volumes: ['v:/v']}}\n", "service \"a\" refers to undefined volume v"),
    ] {
        project.write("compose.yaml", text);
        project.compose(&["config"]).fails(1).stderr_has(&[message]);
    }
    project.write("compose.yaml", "services: {a: {image: x}}\n");
    project.compose(&["config", "nobody"]).fails(1).stderr_has(&["no such service: nobody"]);
    project
        .compose(&["-f", "gone.yaml", "config"])
        .fails(1)
        .stderr_has(&["gone.yaml: no such file or directory"]);
    project.compose(&["config"]).ok();
}
