//! The build checks that lowering makes: a Dockerfile, and what is found in it.

use base::image::ImageConfig;
use base::{Digest, GitUrl, Platform, Reference};
use frontend::{
    Checked, HttpRequest, MetaResolver, Options, ResolveError, ResolvedHttp, ResolvedImage, check, lower,
};
use parser::ignore::IgnoreFile;

/// Every image is for `linux/s390x` if its name says so, else for the platform asked for.
struct AnyImage;

impl MetaResolver for AnyImage {
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<ResolvedImage, ResolveError> {
        let is_foreign = reference.repository.ends_with("foreign");
        let platform = if is_foreign { Platform::new("linux", "s390x", "") } else { platform.clone() };
        let mut config = ImageConfig::scratch(&platform);
        config.config.env = vec!["PATH=/bin".to_owned(), "LANG=C".to_owned()];
        config.config.working_dir = "/base".to_owned();
        config.config.on_build = vec!["WORKDIR from_base".to_owned()]
            .into_iter()
            .filter(|_| reference.repository.ends_with("trigger"))
            .collect();
        config.rootfs.diff_ids = vec![Digest::of(b"layer")];
        Ok(ResolvedImage { reference: reference.clone(), manifest: Digest::of(b"manifest"), config })
    }

    fn http(&self, request: &HttpRequest) -> Result<ResolvedHttp, ResolveError> {
        Err(format!("no file at {}", request.url).into())
    }

    fn git(&self, url: &GitUrl) -> Result<String, ResolveError> {
        Err(format!("no repository at {}", url.remote).into())
    }
}

fn options() -> Options {
    let (ignored, _) = IgnoreFile::parse("secret\n*.log\n");
    Options { platforms: vec![Platform::new("linux", "amd64", "")], ignored, ..Options::for_host() }
}

fn checked(text: &str, options: &Options) -> Checked {
    let parsed = parser::parse(text.as_bytes());
    let options = Options { checks: parsed.checks.clone(), ..options.clone() };
    check(&parsed.dockerfile, &options, &AnyImage)
}

/// `check place: message` for each finding.
fn found(text: &str, options: &Options) -> Vec<String> {
    let checked = checked(text, options);
    assert!(checked.error.is_none(), "{:?}", checked.error);
    let shown = |finding: &parser::Diagnostic| {
        format!("{} {}: {}", finding.code, &text[finding.span.start..finding.span.end], finding.message)
    };
    checked.warnings.iter().map(shown).collect()
}

#[track_caller]
fn finds(text: &str, expected: &[&str]) {
    assert_eq!(found(text, &options()), expected, "{text}");
}

#[test]
fn undefined_variables_have_a_suggestion() {
    finds(
        "FROM debian\nENV A=$PAHT B=$LNG C=$PATH\n",
        &[
            "UndefinedVar $PAHT: Usage of undefined variable '$PAHT' (did you mean $PATH?)",
            "UndefinedVar $LNG: Usage of undefined variable '$LNG' (did you mean $LANG?)",
        ],
    );
    finds(
        "FROM debian\nLABEL a=$something\n",
        &["UndefinedVar $something: Usage of undefined variable '$something'"],
    );
}

#[test]
fn declared_variables_and_those_of_a_shell_are_no_mistake() {
    finds("FROM debian\nARG V\nENV A=$V B=${W:-w} C=$1$$\nRUN echo $X\n", &[]);
}

#[test]
fn from_uses_declared_arguments() {
    finds(
        "ARG VERSION=1\nFROM debian:v$VERSON\n",
        &[
            "UndefinedArgInFrom debian:v$VERSON: FROM argument 'VERSON' is not declared (did you mean VERSION?)",
        ],
    );
    finds(
        "FROM --platform=linux/amd64$BULDPLATFORM debian\n",
        &[
            "UndefinedArgInFrom linux/amd64$BULDPLATFORM: FROM argument 'BULDPLATFORM' is not declared (did you mean BUILDPLATFORM?)",
        ],
    );
}

#[test]
fn defaults_of_arguments_name_a_base_image() {
    let message = "Default value for ARG debian:${V} results in empty or invalid base image name";
    let mut given = options();
    given.build_args.insert("V".to_owned(), "1".to_owned());
    let text = "ARG V\nFROM debian:${V}\n";
    assert_eq!(found(text, &given), [format!("InvalidDefaultArgInFrom debian:${{V}}: {message}")]);
    finds("ARG V=1\nFROM debian:$V\n", &[]);
    finds("ARG B=Base\nFROM debian AS base\nFROM $B\n", &[]);
}

#[test]
fn an_error_comes_with_what_was_found_before() {
    let checked = checked("ARG V\nFROM $V\n", &options());
    let codes: Vec<_> = checked.warnings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["InvalidDefaultArgInFrom"]);
    assert!(checked.error.unwrap().to_string().contains("empty after expansion"));
}

#[test]
fn the_first_workdir_is_absolute() {
    finds(
        "FROM debian AS a\nWORKDIR x\nWORKDIR y\nFROM a\nWORKDIR z\n",
        &[
            "WorkdirRelativePath x: Relative workdir \"x\" can have unexpected results if the base image changes",
        ],
    );
    finds("FROM debian\nARG D=/x\nWORKDIR $D\n", &[]);
}

#[test]
fn ports_are_plain() {
    finds(
        "FROM debian\nEXPOSE 80/TCP 127.0.0.1:80:80 53/udp\n",
        &[
            "ExposeProtoCasing 80/TCP: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
            "ExposeInvalidFormat 127.0.0.1:80:80: EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'",
        ],
    );
}

#[test]
fn ignored_files_are_not_copied() {
    let text =
        "FROM debian AS a\nARG S=./secret\nCOPY $S x.txt /d/\nADD y.log /\nFROM a\nCOPY --from=a secret /\n";
    finds(
        text,
        &[
            "CopyIgnoredFile $S: Attempting to Copy file \"secret\" that is excluded by .dockerignore",
            "CopyIgnoredFile y.log: Attempting to Add file \"y.log\" that is excluded by .dockerignore",
        ],
    );
    let (ignored, _) = IgnoreFile::parse("secret\n!secret/but/this\n");
    assert_eq!(found("FROM debian\nCOPY secret /\n", &Options { ignored, ..options() }), [""; 0]);
}

#[test]
fn base_images_are_for_the_platform() {
    finds(
        "FROM foreign\n",
        &[
            "InvalidBaseImagePlatform foreign: Base image foreign:latest was pulled with platform \"linux/s390x\", expected \"linux/amd64\" for current build",
        ],
    );
}

#[test]
fn triggers_are_checked_where_they_run() {
    finds(
        "FROM trigger\n",
        &[
            "WorkdirRelativePath trigger: Relative workdir \"from_base\" can have unexpected results if the base image changes",
        ],
    );
}

#[test]
fn stages_nobody_needs_are_checked_without_a_target_only() {
    let text = "FROM debian AS unused\nENV A=$NONE\nFROM debian AS used\n";
    assert_eq!(found(text, &options()).len(), 1);
    let target = Options { target: Some("used".to_owned()), ..options() };
    assert_eq!(found(text, &target), [""; 0]);
    let parsed = parser::parse(text.as_bytes());
    assert_eq!(lower(&parsed.dockerfile, &options(), &AnyImage).unwrap().warnings, []);
}

#[test]
fn options_and_comments_switch_checks_off() {
    finds(
        "# check=skip=UndefinedVar\nFROM debian\nENV A=$B\nWORKDIR x\n",
        &[
            "WorkdirRelativePath x: Relative workdir \"x\" can have unexpected results if the base image changes",
        ],
    );
    finds("FROM debian\n# check=skip=UndefinedVar\nENV A=$B\n", &[]);
    finds("# check=skip=all\nFROM debian\nENV A=$B\n", &[]);
}
