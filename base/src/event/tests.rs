//! Events as documents.

use super::*;

#[test]
fn every_event_comes_back_as_it_was() {
    let (vertex, at) = (Digest::of(b"v"), Timestamp::from_millisecond(1_700_000_000_123).unwrap());
    let log = |data: &[u8]| Event::Log { vertex, stream: Stream::Stderr, data: data.to_vec(), at };
    let completed = |outcome| Event::VertexCompleted { vertex, at, outcome };
    let text = |text: &str| text.to_owned();
    let events = [
        Event::BuildBegun { isolation: text("namespaces") },
        Event::VertexDeclared { vertex, name: text("[1/2] RUN x"), inputs: vec![Digest::of(b"i")] },
        Event::VertexStarted { vertex, at },
        Event::VertexExplained { vertex, reason: text("a changed") },
        completed(Outcome::Cached),
        completed(Outcome::Done),
        completed(Outcome::Failed(text("exit code: 1"))),
        completed(Outcome::Cancelled),
        Event::Status { vertex, id: text("layer"), current: 1, total: 2, at, completed: true },
        log(b"a line\nand \"half"),
        log(&[0xff, 0, b'\n', 0x80]),
        Event::Warning {
            vertex: None,
            code: text("C"),
            message: text("m"),
            excerpt: text("e"),
            url: None,
            place: None,
        },
    ];
    for event in events {
        let line = serde_json::to_string(&event).unwrap();
        assert!(!line.contains('\n'), "one line");
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
    }
    assert!(serde_json::from_str::<Event>("{\"event\":\"log\"}").is_err());
}
