//! What a network adds to a container: connecting one and giving everything back, without a process. Prints
//! microseconds, the median of many and the range of the middle half.
//!
//! Run by `cargo bench -p runner --bench network` as root; it works in a network namespace of its own. It checks
//! nothing: that is what the tests are for.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a benchmark prints, reads the clock and starts itself again"
)]

use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use runner::network::{Attachment, Connect, connect, prepare, publish};

/// How often each is measured.
const ROUNDS: usize = 100;
/// Says that this process is in its own namespace.
const INSIDE: &str = "LAP_BENCH_INSIDE";

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    if std::env::var_os(INSIDE).is_none() {
        let own = std::env::current_exe()?;
        let status = Command::new("unshare").args(["--net", "--"]).arg(own).env(INSIDE, "1").status()?;
        return if status.success() { Ok(()) } else { Err(status.to_string().into()) };
    }
    let runtime = tempfile::tempdir()?;
    let begin = Instant::now();
    let first = start(runtime.path(), &[])?;
    println!("first container, which makes the bridge: {} us", begin.elapsed().as_micros());
    first.disconnect()?;
    measure_none()?;
    measure(runtime.path(), "a container", &[])?;
    measure(runtime.path(), "a container with a published port", &["8080:80"])?;
    let held: Vec<Attachment> = (0..100).map(|_| start(runtime.path(), &["80"])).collect::<Outcome<_>>()?;
    measure(runtime.path(), "a container beside 100 with published ports", &[])?;
    measure(runtime.path(), "a container with a published port beside 100 more", &["8080:80"])?;
    drop(held);
    Ok(())
}

fn start(runtime: &Path, ports: &[&str]) -> Outcome<Attachment> {
    let mut wanted = Connect::new("0123456789abcdef");
    for port in ports {
        wanted.publish.extend(publish::parse(port)?);
    }
    Ok(connect(runtime, &wanted, prepare(runtime, &wanted)?)?)
}

/// What a network namespace costs in which there is nothing.
fn measure_none() -> Outcome<()> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        std::thread::spawn(sys::ns::unshare_network).join().map_err(|_| "the thread panicked")??;
        times.push(begin.elapsed());
    }
    println!("none, a namespace alone: {}", shown(times));
    Ok(())
}

fn measure(runtime: &Path, what: &str, ports: &[&str]) -> Outcome<()> {
    let (mut connecting, mut leaving) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        let attachment = start(runtime, ports)?;
        connecting.push(begin.elapsed());
        let begin = Instant::now();
        attachment.disconnect()?;
        leaving.push(begin.elapsed());
    }
    println!("{what}: connect {}, disconnect {}", shown(connecting), shown(leaving));
    Ok(())
}

fn shown(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |quarter: usize| times[times.len() * quarter / 4].as_micros();
    format!("{} us ({} to {})", at(2), at(1), at(3))
}
