//! Standard streams and terminals.

use std::fs::File;
use std::io::{Read as _, Write as _};

use base::CancelToken;
use base::event::Stream;
use runner::{ExitStatus, Stdio, TtySize, run_logged, start};

use crate::support::image;

#[test]
fn a_hundred_megabytes_arrive_complete_and_in_order() {
    let Some(image) = image() else { return };
    // Each block has its number at the start; a lost or exchanged block shows.
    let script =
        "dd if=/dev/zero bs=1M count=50 2>/dev/null; echo middle; dd if=/dev/zero bs=1M count=50 2>/dev/null";
    let (mut before, mut after, mut middle) = (0, 0, Vec::new());
    let mut sink = |stream, bytes: &[u8]| {
        assert_eq!(stream, Stream::Stdout);
        for byte in bytes {
            match (byte, middle.is_empty()) {
                (0, true) => before += 1,
                (0, false) => after += 1,
                (other, _) => middle.push(*other),
            }
        }
    };
    let finished = run_logged(&image.script(script), &mut sink, &CancelToken::new()).unwrap();
    assert!(finished.status.is_success());
    assert_eq!((before, after, middle.as_slice()), (50 << 20, 50 << 20, b"middle\n".as_slice()));
    assert!(finished.usage.peak_memory > 100 << 10, "{:?}", finished.usage);
}

#[test]
fn output_and_errors_are_told_apart() {
    let Some(image) = image() else { return };
    let output = image.shell("echo out; echo err >&2; echo out2; exit 4");
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\nout2\n", "err\n"));
    assert_eq!(output.status, ExitStatus::Exited(4));
}

#[test]
fn input_is_passed_and_ends() {
    let Some(image) = image() else { return };
    let mut process = start(&image.script("cat; echo end"), Stdio::PIPED).unwrap();
    let mut stdin = File::from(process.take_stdin().unwrap());
    stdin.write_all(b"typed\n").unwrap();
    drop(stdin);
    let mut text = String::new();
    File::from(process.take_stdout().unwrap()).read_to_string(&mut text).unwrap();
    assert_eq!(text, "typed\nend\n");
    assert!(process.take_stdout().is_none());
    assert_eq!(process.wait().unwrap().status, ExitStatus::Exited(0));
}

#[test]
fn without_input_a_process_reads_the_end() {
    let Some(image) = image() else { return };
    assert_eq!(image.shell("cat; echo end").stdout, "end\n");
}

/// Reads what a terminal shows until the container closes it.
fn read_terminal(mut terminal: &File) -> String {
    let mut shown = Vec::new();
    // The end is reported as an error (EIO).
    let _ = terminal.read_to_end(&mut shown);
    String::from_utf8_lossy(&shown).replace("\r\n", "\n")
}

#[test]
fn a_terminal_has_a_name_a_size_and_a_console() {
    let Some(image) = image() else { return };
    let script = "tty; stty size; test -c /dev/console && echo console; test -t 0 && test -t 1 && test -t 2 && echo all";
    let mut process =
        start(&image.script(script), Stdio::Terminal(TtySize { rows: 33, columns: 101 })).unwrap();
    let terminal = File::from(process.take_terminal().unwrap());
    assert_eq!(read_terminal(&terminal), "/dev/pts/0\n33 101\nconsole\nall\n");
    assert!(process.wait().unwrap().status.is_success());
    assert_eq!(image.changes(), [""; 0]);
}

#[test]
fn a_terminal_interrupts_and_resizes() {
    let Some(image) = image() else { return };
    let script = "trap 'stty size; exit 9' INT; echo ready; while :; do sleep 60 & wait; done";
    let mut process = start(&image.script(script), Stdio::Terminal(TtySize { rows: 1, columns: 2 })).unwrap();
    let mut terminal = File::from(process.take_terminal().unwrap());
    let mut ready = [0; 7];
    terminal.read_exact(&mut ready).unwrap();
    assert_eq!(&ready, b"ready\r\n");
    runner::resize(&terminal, TtySize { rows: 50, columns: 60 }).unwrap();
    terminal.write_all(b"\x03").unwrap();
    assert!(read_terminal(&terminal).contains("50 60\n"));
    assert_eq!(process.wait().unwrap().status, ExitStatus::Exited(9));
}
