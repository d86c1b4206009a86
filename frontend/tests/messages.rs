//! Every error of lowering, once: what is said, where, and what to do.

use std::path::Path;

use base::image::ImageConfig;
use base::{Digest, GitUrl, Platform, Reference};
use frontend::{
    HttpRequest, LowerError, MetaResolver, Options, ResolveError, ResolvedHttp, ResolvedImage, lower,
};
use parser::codes::OF_MEANING;

/// Knows the image `debian`, and one whose trigger is wrong.
struct Images;

impl MetaResolver for Images {
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<ResolvedImage, ResolveError> {
        if !["debian", "trigger"].contains(&reference.familiar_repository().as_str()) {
            return Err("no such image".into());
        }
        let mut config = ImageConfig::scratch(platform);
        config.rootfs.diff_ids = vec![Digest::of(b"layer")];
        if reference.familiar_repository() == "trigger" {
            config.config.on_build = vec!["RNU x".to_owned()];
        }
        Ok(ResolvedImage { reference: reference.clone(), manifest: Digest::of(b"manifest"), config })
    }

    fn http(&self, _request: &HttpRequest) -> Result<ResolvedHttp, ResolveError> {
        Err("there is no network here".into())
    }

    fn git(&self, _url: &GitUrl) -> Result<String, ResolveError> {
        Err("there is no network here".into())
    }
}

/// A code, what follows `FROM debian` in a Dockerfile, the part that is underlined, and a part of message
/// or help.
const EXAMPLES: &[(&str, &str, &str, &str)] = &[
    ("bad-substitution", "ENV A=${B?unset}", "${B?unset}", "B: unset"),
    ("circular-stage", "FROM debian AS a\nCOPY --from=a /a /", "a", "circular dependency"),
    ("circular-stage", "COPY --from=late /a /\nFROM debian AS late", "late", "defined after"),
    ("destination-not-directory", "COPY a b /c", "/c", "write \"/c/\""),
    ("empty-argument", "USER $U", "$U", "empty after expansion"),
    ("empty-base-name", "FROM $B", "$B", "--build-arg"),
    ("empty-destination", "COPY a $D", "$D", "empty after expansion"),
    (
        "empty-source",
        "FROM scratch AS s\nFROM debian\nCOPY --from=s a /",
        "COPY --from=s a /",
        "nothing to copy",
    ),
    ("empty-workdir", "WORKDIR $D", "$D", "empty after expansion"),
    (
        "git-flag-conflict",
        "ADD --keep-git-dir=false git://h/r?keep-git-dir=1 /",
        "git://h/r?keep-git-dir=1",
        "contradicts",
    ),
    ("invalid-checksum", "ADD --checksum=md5:1 https://h/a /", "md5:1", "sha256:"),
    ("invalid-chmod", "COPY --chmod=999 a /", "999", "u=rwX,go=rX"),
    ("invalid-chown", "COPY --chown=:: a /", "::", "user[:group]"),
    ("invalid-git-url", "ADD git://h/r?depth=1 /", "git://h/r?depth=1", "is not a parameter"),
    ("invalid-onbuild", "FROM trigger", "trigger", "unknown instruction"),
    ("invalid-platform", "FROM --platform=a/b/c/d debian", "a/b/c/d", "linux/arm64"),
    ("invalid-port", "EXPOSE 99999", "99999", "1 to 65535"),
    ("invalid-reference", "FROM Bad:Name:x", "Bad:Name:x", "invalid reference"),
    ("invalid-signal", "STOPSIGNAL SIGWHAT", "SIGWHAT", "SIGTERM"),
    ("unknown-network", "RUN --network=mesh x", "mesh", "default, none or host"),
    ("unknown-security", "RUN --security=none x", "none", "sandbox or insecure"),
    ("unknown-stage", "COPY --from=7 /a /", "7", "numbered from 0"),
];

fn refused(text: &str, options: &Options) -> LowerError {
    let parsed = parser::parse(text.as_bytes());
    match lower(&parsed.dockerfile, options, &Images) {
        Err(error) => error,
        Ok(_) => panic!("{text:?} was taken"),
    }
}

fn diagnostic(error: LowerError) -> parser::Diagnostic {
    match error {
        LowerError::Dockerfile(diagnostic) => *diagnostic,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_example_is_placed_and_explained() {
    for (code, text, place, said) in EXAMPLES {
        let text = format!("FROM debian\n{text}\n");
        let found = diagnostic(refused(&text, &Options::for_host()));
        assert_eq!(found.code, *code, "{text:?}: {}", found.message);
        assert_eq!(&text[found.span.start..found.span.end], *place, "{text:?}");
        let help = found.help.unwrap_or_default();
        assert!(found.message.contains(said) || help.contains(said), "{text:?}: {} / {help}", found.message);
        assert!(!found.message.ends_with('.'), "{}", found.message);
    }
    assert_eq!(diagnostic(refused("ARG A\n", &Options::for_host())).code, "no-build-stage");
}

#[test]
fn names_of_stages_are_suggested() {
    let options = Options { target: Some("biuld".to_owned()), ..Options::for_host() };
    let found = diagnostic(refused("FROM debian AS build\nFROM debian AS test\n", &options));
    assert_eq!((found.code, found.help.as_deref()), ("unknown-stage", Some("did you mean build?")));
    for text in
        ["FROM debian AS build\nFROM biuld\n", "FROM debian AS build\nFROM debian\nCOPY --from=biuld a /\n"]
    {
        match refused(text, &Options::for_host()) {
            LowerError::Resolve { near, .. } => assert_eq!(near.as_deref(), Some("build"), "{text:?}"),
            other => panic!("{other:?}"),
        }
    }
}

/// The codes that this crate's source names.
fn codes_in(directory: &Path, codes: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            codes_in(&path, codes);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for call in ["LowerError::at(", "LowerError::with_help(", "Self::at("] {
            let arguments = text.split(call).skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"'));
            codes.extend(arguments.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
        }
    }
}

#[test]
fn all_codes_are_listed() {
    let mut codes = Vec::new();
    codes_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut codes);
    codes.sort();
    codes.dedup();
    assert_eq!(codes, OF_MEANING, "list the codes in parser/src/codes.rs");
}
