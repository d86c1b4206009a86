//! The machine that the figures are of.

use std::path::Path;
use std::process::Command;

use crate::measure::output_of;

/// One line of Markdown for each property that matters.
pub(crate) fn describe(dir: &Path) -> Vec<String> {
    let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = field(&file("/proc/meminfo"), "MemTotal");
    vec![
        format!("date: {}", output(Command::new("date").args(["-u", "+%Y-%m-%d"]))),
        format!("processor: {}, {cpus} cores", field(&file("/proc/cpuinfo"), "model name")),
        format!("memory: {memory}"),
        format!("kernel: {}", file("/proc/sys/kernel/osrelease").trim()),
        format!("file system: {}", output(Command::new("stat").args(["-f", "-c", "%T"]).arg(dir))),
        format!(
            "system: {}",
            field(&file("/etc/os-release").replace('=', ":"), "PRETTY_NAME").trim_matches('"')
        ),
        format!("load before: {}", file("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")),
    ]
}

/// The value of the first `name: value` line.
fn field(text: &str, name: &str) -> String {
    let values = text.lines().filter_map(|line| line.split_once(':'));
    let found = values.into_iter().find(|(key, _)| key.trim() == name);
    found.map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
}

fn output(command: &mut Command) -> String {
    output_of(command).unwrap_or_else(|_| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name() {
        let text = "processor\t: 0\nmodel name\t: A: B\n";
        assert_eq!(field(text, "model name"), "A: B");
        assert_eq!(field(text, "flags"), "unknown");
    }
}
