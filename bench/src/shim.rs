//! What the process costs that looks after a detached container: starting one, and the memory that it keeps.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::builder::BASE;
use crate::error::BenchError;
use crate::measure::{Sample, output_of};
use crate::subject::Subjects;
use crate::work::Samples;

/// The most memory that a shim may have, in KiB.
const MOST_MEMORY: u64 = 3 << 10;

/// Starts containers that wait, and looks at the memory of their shims, which must not be too much. The time is that of
/// `lap run -d`.
pub(crate) fn detached(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let mut samples = Vec::new();
    for _ in 0..rounds {
        let begin = Instant::now();
        let mut run = lap(subjects, dir);
        run.args(["run", "-d", "--rm", "--network", "none", BASE, "sleep", "100000"]);
        let id = output_of(&mut run)?;
        let time = begin.elapsed();
        let memory = memory_of_shim(&id);
        output_of(lap(subjects, dir).args(["rm", "-f", &id]))?;
        let memory = memory?;
        if memory > MOST_MEMORY {
            return Err(BenchError::LargeShim { memory, most: MOST_MEMORY });
        }
        samples.push(Sample { time, memory });
    }
    Ok(vec![("lap".to_owned(), samples)])
}

fn lap(subjects: &Subjects, dir: &Path) -> Command {
    let mut command = Command::new(subjects.program());
    command.arg("--root").arg(dir.join("lap"));
    command
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
