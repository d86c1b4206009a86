//! Long Dockerfiles take time in proportion to their length.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use base::image::ImageConfig;
use base::{Digest, GitUrl, Platform, Reference};
use frontend::{HttpRequest, MetaResolver, Options, ResolveError, ResolvedHttp, ResolvedImage, lower};

struct AnyImage;

impl MetaResolver for AnyImage {
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<ResolvedImage, ResolveError> {
        let mut config = ImageConfig::scratch(platform);
        config.rootfs.diff_ids = vec![Digest::of(b"layer")];
        Ok(ResolvedImage { reference: reference.clone(), manifest: Digest::of(b"manifest"), config })
    }

    fn http(&self, _request: &HttpRequest) -> Result<ResolvedHttp, ResolveError> {
        Err("there is no network here".into())
    }

    fn git(&self, _url: &GitUrl) -> Result<String, ResolveError> {
        Err("there is no network here".into())
    }
}

/// How long it takes to parse and lower `count` instructions behind a FROM.
fn time(count: usize, instruction: fn(usize) -> String) -> Duration {
    let mut text = String::from("FROM debian AS first\n");
    for number in 0..count {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", instruction(number));
    }
    let start = Instant::now();
    let parsed = parser::parse(text.as_bytes());
    lower(&parsed.dockerfile, &Options::for_host(), &AnyImage).unwrap();
    start.elapsed()
}

/// A name, and the instruction of a number.
type Kind = (&'static str, fn(usize) -> String);

/// Instructions of one kind. What a step writes does not grow with their number.
const KINDS: [Kind; 12] = [
    ("RUN", |_| "RUN make".to_owned()),
    ("ENV", |n| format!("ENV KEY{n}=value$KEY0")),
    ("ENV again", |_| "ENV KEY=value".to_owned()),
    ("ARG", |n| format!("ARG KEY{n}=value")),
    ("LABEL with a finding each", |n| format!("LABEL key{n}=$NOPE{n}")),
    ("COPY", |n| format!("COPY a{n} /b{n}")),
    ("WORKDIR", |n| format!("WORKDIR /d{n}")),
    ("EXPOSE", |n| format!("EXPOSE {}", n % 65_000 + 1)),
    ("VOLUME", |n| format!("VOLUME /v{n}")),
    ("FROM", |n| format!("FROM debian AS s{n}")),
    ("FROM the stage before", |n| match n {
        0 => "FROM first AS s0\nRUN x".to_owned(),
        n => format!("FROM s{} AS s{n}\nRUN x", n - 1),
    }),
    ("COPY --from", |n| format!("COPY --from=debian:{n} /a /b")),
];

/// Each takes well below a second; in quadratic time it would be minutes.
#[test]
fn twenty_thousand_instructions_of_any_kind_take_little_time() {
    for (name, kind) in KINDS {
        let taken = time(20_000, kind);
        println!("{name}: {taken:?}");
        assert!(taken < Duration::from_secs(30), "{name} took {taken:?}");
    }
}
