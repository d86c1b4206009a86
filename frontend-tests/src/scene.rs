//! Carries a case out: writes its files, builds, and collects how the results differ from what is expected.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use testkit::Output;

use crate::case::{Build, Case, Dockerfile, Stdin};
use crate::compare;
use crate::expect::RunExpect;
use crate::files;
use crate::image::SavedImage;
use crate::subject::Subject;
use crate::web::Web;

/// Runs all builds of a case. What is returned are the differences, none if the subject conforms.
pub fn perform(case: &Case, subject: &dyn Subject) -> Vec<String> {
    let scene = Scene::new(case);
    let mut problems = Vec::new();
    for (index, build) in case.builds.iter().enumerate() {
        let found = scene.build(build, subject);
        let several = case.builds.len() > 1;
        let label = |problem| if several { format!("build {}: {problem}", index + 1) } else { problem };
        problems.extend(found.into_iter().map(label));
        if !problems.is_empty() {
            break;
        }
    }
    problems
}

/// The directories of a case while it runs.
struct Scene {
    dir: TempDir,
    web: Option<Web>,
}

impl Scene {
    fn new(case: &Case) -> Self {
        let dir = tempfile::Builder::new().prefix("lap-case-").tempdir().expect("a temporary directory");
        for name in ["context", "outside"] {
            std::fs::create_dir(dir.path().join(name)).expect("a directory in a new one");
        }
        files::write(&dir.path().join("outside"), &case.about.outside);
        let needs_web = !case.about.git.is_empty() || case.builds.iter().any(|build| !build.http.is_empty());
        let web = needs_web.then(|| {
            Web::start(&case.about.git, case.about.git_authorization.as_deref(), &dir.path().join("git"))
        });
        Self { dir, web }
    }

    fn context(&self) -> PathBuf {
        self.dir.path().join("context")
    }

    fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    fn elsewhere(&self) -> PathBuf {
        self.dir.path().join("a/checkout/elsewhere")
    }

    /// Makes the copy of the context anew, with the modes of its files but not their times.
    fn copy_elsewhere(&self) {
        let to = self.elsewhere();
        drop(std::fs::remove_dir_all(&to));
        std::fs::create_dir_all(to.parent().expect("it lies below others"))
            .expect("a directory in a new one");
        let copied = Command::new("cp")
            .args(["-R", "--preserve=mode,links,xattr"])
            .arg(self.context())
            .arg(&to)
            .status();
        assert!(copied.is_ok_and(|status| status.success()), "copy the context to {}", to.display());
    }

    /// Replaces `{context}`, `{elsewhere}`, `{outside}`, `{http}`, `{git}` and `{commit}`.
    fn fill(&self, text: &str) -> String {
        let path = |path: &Path| path.display().to_string();
        let text = text
            .replace("{context}", &path(&self.context()))
            .replace("{elsewhere}", &path(&self.elsewhere()))
            .replace("{outside}", &path(&self.outside()));
        let Some(web) = &self.web else { return text };
        text.replace("{http}", &web.url())
            .replace("{git}", &web.repository())
            .replace("{commit}", &web.commit)
    }

    fn build(&self, build: &Build, subject: &dyn Subject) -> Vec<String> {
        self.prepare(build);
        if let Some(args) = &build.prune {
            let output = subject.prune(args);
            assert_eq!(output.code(), Some(0), "{output}");
        }
        let tag = build.tag.as_deref().unwrap_or("case");
        let mut args = vec!["-t".to_owned(), tag.to_owned()];
        args.extend(build.args.iter().map(|arg| self.fill(arg)));
        let context = build.context.as_deref().unwrap_or("{context}");
        if context.contains("{elsewhere}") {
            self.copy_elsewhere();
        }
        let context = self.fill(context);
        args.extend(Some(context).filter(|context| !context.is_empty()));
        let env = build.env.iter().map(|(name, value)| (name.clone(), self.fill(value))).collect();
        let output = subject.build(&args, &env, self.stdin(build));
        let problems = self.judge(build, tag, &output, subject);
        let story = || format!("{}\n{}", problems.join("\n"), last_lines(&output.to_string()));
        if problems.is_empty() { Vec::new() } else { vec![story()] }
    }

    fn prepare(&self, build: &Build) {
        let context = self.context();
        for path in &build.remove {
            let path = context.join(path);
            let removed =
                if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.unwrap_or_else(|error| panic!("remove {}: {error}", path.display()));
        }
        for (from, to) in &build.rename {
            let renamed = std::fs::rename(context.join(from), context.join(to));
            renamed.unwrap_or_else(|error| panic!("rename {from} to {to}: {error}"));
        }
        match &build.dockerfile {
            Some(Dockerfile::Text(text)) => {
                std::fs::write(context.join("Dockerfile"), text).expect("a context can be written");
            }
            Some(Dockerfile::Absent(_)) => drop(std::fs::remove_file(context.join("Dockerfile"))),
            None => {}
        }
        files::write(&context, &build.files);
        if let Some(web) = &self.web {
            web.put(&build.http);
            web.commit(&build.commits);
        }
    }

    fn stdin(&self, build: &Build) -> Vec<u8> {
        match build.stdin {
            None => Vec::new(),
            Some(Stdin::Tar) => files::tar_of(&self.context()),
            Some(Stdin::TarGzip) => files::gzip(&files::tar_of(&self.context())),
            Some(Stdin::Dockerfile) => match &build.dockerfile {
                Some(Dockerfile::Text(text)) => {
                    // Only there to be piped in: a builder must not find it in the context as well.
                    drop(std::fs::remove_file(self.context().join("Dockerfile")));
                    text.clone().into_bytes()
                }
                _ => panic!("stdin = \"dockerfile\" needs the Dockerfile of the case"),
            },
        }
    }

    /// Everything about one build that is not as expected.
    fn judge(&self, build: &Build, tag: &str, output: &Output, subject: &dyn Subject) -> Vec<String> {
        let expect = &build.expect;
        let mut problems = compare::progress(expect, output, subject.is_lap());
        problems.extend(compare::reasons(expect, output, subject));
        if !problems.is_empty() || expect.error.is_some() {
            return problems;
        }
        if expect.needs_image() {
            match self.saved(tag, subject) {
                Ok(image) => problems.extend(compare::image(expect, &image)),
                Err(output) => problems.push(format!("the image cannot be saved\n{output}")),
            }
        }
        if !expect.outside.is_empty() {
            let tree = testkit::Tree::of_dir(&self.outside());
            problems.extend(compare::files(&expect.outside, &tree));
        }
        problems.extend(expect.run.iter().flat_map(|run| run_container(run, tag, subject)));
        problems
    }

    fn saved(&self, tag: &str, subject: &dyn Subject) -> Result<SavedImage, Output> {
        let archive = self.dir.path().join("saved.tar");
        drop(std::fs::remove_file(&archive));
        let output = subject.save(tag, &archive);
        if output.code() == Some(0) { Ok(SavedImage::read(&archive)) } else { Err(output) }
    }
}

/// The end of what a builder wrote: the rest is rarely of interest, and may be long.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

fn run_container(run: &RunExpect, tag: &str, subject: &dyn Subject) -> Vec<String> {
    let args = [run.flags.as_slice(), &[tag.to_owned()], run.args.as_slice()].concat();
    let output = subject.run(&args);
    let as_expected = output.code() == Some(run.code)
        && run.stdout.as_ref().is_none_or(|text| *text == output.stdout_text())
        && run.stderr.as_ref().is_none_or(|text| !subject.is_lap() || output.stderr_text().contains(text));
    if as_expected {
        Vec::new()
    } else {
        vec![format!("the container is not as expected: {run:?}\n{output}")]
    }
}
