//! What the process costs that looks after a detached container: starting one, and the memory that it keeps.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::builder::BASE;
use crate::engine::enter_network_namespace;
use crate::error::BenchError;
use crate::measure::{Sample, output_of};
use crate::subject::{BASE_ARCHIVE, Subjects};
use crate::work::Samples;

/// The most memory that a shim may have, in KiB.
const MOST_MEMORY: u64 = 3 << 10;

/// The network that is made for the containers that find each other by name.
const NETWORK: &str = "named";

/// Starts containers that wait, and looks at the memory of their shims, which must not be too much: of one without a network, one with a
/// published port, and one in a network where the shim answers for names. The time is that of `lap run -d`.
pub(crate) fn detached(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    enter_network_namespace()?;
    let root = dir.join("shims");
    let lap = || {
        let mut command = Command::new(subjects.program());
        command.arg("--root").arg(&root);
        command
    };
    output_of(lap().args(["load", "-i"]).arg(dir.join(BASE_ARCHIVE)))?;
    output_of(lap().args(["network", "create", NETWORK]))?;
    let networks: [(&str, &[&str]); 3] = [
        ("lap, no network", &["--network", "none"]),
        ("lap, bridge and one port", &["-p", "80"]),
        ("lap, network with names", &["--network", NETWORK, "-p", "80"]),
    ];
    let mut all: Samples = networks.iter().map(|(name, _)| ((*name).to_owned(), Vec::new())).collect();
    for _ in 0..rounds {
        for ((_, flags), (_, samples)) in networks.iter().zip(&mut all) {
            let begin = Instant::now();
            let id =
                output_of(lap().args(["run", "-d", "--rm"]).args(*flags).args([BASE, "sleep", "100000"]))?;
            let time = begin.elapsed();
            let asked = output_of(lap().args(["exec", &id, "nslookup", "-type=a", &id[..12]]));
            let memory = memory_of_shim(&id);
            output_of(lap().args(["rm", "-f", &id]))?;
            if flags.contains(&NETWORK) {
                asked?;
            }
            let memory = memory?;
            // Where all is small, the binary may be one that nobody gets.
            if memory > MOST_MEMORY && !subjects.is_small() {
                return Err(BenchError::LargeShim { memory, most: MOST_MEMORY });
            }
            samples.push(Sample { time, memory });
        }
    }
    output_of(lap().args(["network", "rm", NETWORK]))?;
    Ok(all)
}

/// The resident memory of the shim of a container, in KiB.
fn memory_of_shim(id: &str) -> Result<u64, BenchError> {
    let proc = Path::new("/proc");
    let failed = |source| BenchError::File { path: proc.to_owned(), source };
    for entry in std::fs::read_dir(proc).map_err(failed)? {
        let process = entry.map_err(failed)?.path();
        let command = std::fs::read(process.join("cmdline")).unwrap_or_default();
        if command.starts_with(b"lap-shim\0") && String::from_utf8_lossy(&command).contains(id) {
            let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
            return resident(&status).ok_or_else(|| BenchError::NoShim { id: id.to_owned() });
        }
    }
    Err(BenchError::NoShim { id: id.to_owned() })
}

/// `VmRSS` of `/proc/PID/status`, in KiB.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_status() {
        assert_eq!(resident("Name:\tlap-shim\nVmRSS:\t    1732 kB\nRssAnon:\t 9 kB\n"), Some(1732));
        assert_eq!(resident("Name:\tlap-shim\n"), None);
    }
}
