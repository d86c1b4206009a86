//! Tables of medians and ratios.

use std::fmt::Write as _;

use crate::costs::Limit;
use crate::measure::{Sample, median};
use crate::work::Samples;

/// The results so far.
pub(crate) struct Report {
    machine: Vec<String>,
    left_out: Vec<String>,
    works: Vec<Measured>,
}

/// What came out of one kind of work.
struct Measured {
    work: &'static str,
    bound: &'static str,
    rows: Vec<Row>,
    /// How fast it could be on this machine, in milliseconds, and why.
    limit: Option<(f64, String)>,
}

/// What one subject did, in milliseconds and MiB.
struct Row {
    subject: String,
    median: f64,
    least: f64,
    most: f64,
    runs: usize,
    memory: f64,
}

impl Report {
    /// No results yet, of this machine.
    pub(crate) fn new(machine: Vec<String>) -> Self {
        Self { machine, left_out: Vec::new(), works: Vec::new() }
    }

    /// Notes who is missing, and why.
    pub(crate) fn leave_out(&mut self, left_out: Vec<String>) {
        self.left_out = left_out;
    }

    /// Adds the samples of a work, and what the first subject should not go beyond. It is what the others are compared
    /// with.
    pub(crate) fn add(&mut self, work: &'static str, bound: &'static str, samples: Samples) {
        let rows = samples.into_iter().map(|(subject, samples)| row(subject, &samples)).collect();
        self.works.push(Measured { work, bound, rows, limit: None });
    }

    /// Adds what is known of the machine.
    pub(crate) fn describe(&mut self, lines: Vec<String>) {
        self.machine.extend(lines);
    }

    /// Says how fast the work could be that was added last.
    pub(crate) fn limit(&mut self, limit: &Limit) {
        if let Some(last) = self.works.last_mut() {
            last.limit = Some((limit.time.as_secs_f64() * 1000.0, limit.words.clone()));
        }
    }

    /// The medians of the work that was added last, in one line.
    pub(crate) fn last(&self) -> String {
        let rows = self.works.last().map_or(&[][..], |last| &last.rows);
        rows.iter().map(|row| format!("  {} {:.1} ms", row.subject, row.median)).collect()
    }

    /// The results as a Markdown table.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from(
            "| Work | Subject | Median | Bound | Least to most | Runs | Ratio to lap | Peak memory |\n\
             |---|---|---:|---:|---:|---:|---:|---:|\n",
        );
        for Measured { work, bound, rows, limit } in &self.works {
            let first = rows.first().map_or(0.0, |row| row.median);
            for (index, row) in rows.iter().enumerate() {
                let (work, bound) = if index == 0 { (*work, *bound) } else { ("", "") };
                let Row { subject, median, least, most, runs, memory } = row;
                let ratio = if first > 0.0 { median / first } else { 0.0 };
                // Writing to a string cannot fail.
                let _ = writeln!(
                    text,
                    "| {work} | {subject} | {median:.1} ms | {bound} | {least:.1} to {most:.1} | {runs} | {ratio:.2} | {memory:.0} MiB |"
                );
            }
            if let Some((time, words)) = limit.as_ref().filter(|_| !rows.is_empty()) {
                let ratio = if first > 0.0 { time / first } else { 0.0 };
                let _ =
                    writeln!(text, "|  | *limit here: {words}* | {time:.1} ms |  |  |  | {ratio:.2} |  |");
            }
        }
        text
    }

    /// The whole of `RESULTS.md`.
    pub(crate) fn document(&self) -> String {
        let list = |items: &[String]| items.iter().map(|item| format!("* {item}\n")).collect::<String>();
        let mut text = format!(
            "# Results\n\n\
             Written by `make bench BENCH=--record`: all subjects in one run, taking turns; medians of whole processes\n\
             from start to end, but for work that is marked as done in process. Peak memory is that of the largest process of the command itself, so docker's daemon\n\
             is not in it. Limits are what the bytes, system calls and processes of a work take that cannot be avoided, measured in the same run; calls are divided by\n\
             the number of processors.\n\n{}\n{}",
            list(&self.machine),
            self.markdown()
        );
        if !self.left_out.is_empty() {
            let _ = write!(text, "\nLeft out on this machine:\n\n{}", list(&self.left_out));
        }
        text
    }
}

fn row(subject: String, samples: &[Sample]) -> Row {
    let times: Vec<f64> = samples.iter().map(|sample| sample.time.as_secs_f64() * 1000.0).collect();
    let memory = samples.iter().map(|sample| sample.memory).max().unwrap_or_default();
    Row {
        subject,
        least: times.iter().copied().fold(f64::INFINITY, f64::min),
        most: times.iter().copied().fold(0.0, f64::max),
        runs: times.len(),
        median: median(times),
        #[expect(clippy::cast_precision_loss, reason = "memory is far below 2^52 KiB")]
        memory: memory as f64 / 1024.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn ratios_are_to_the_first_subject() {
        let samples = |ms: &[u64]| {
            ms.iter().map(|ms| Sample { time: Duration::from_millis(*ms), memory: 2048 }).collect::<Vec<_>>()
        };
        let mut report = Report::new(vec!["kernel: 1".to_owned()]);
        report.leave_out(vec!["crun: refuses".to_owned()]);
        report.add(
            "work",
            "4 ms",
            vec![("lap".to_owned(), samples(&[3, 1, 2])), ("peer".to_owned(), samples(&[5]))],
        );
        report.describe(vec!["bytes: many".to_owned()]);
        report.limit(&Limit { time: Duration::from_millis(1), words: "one process".to_owned() });
        let text = report.markdown();
        assert!(text.contains("|  | *limit here: one process* | 1.0 ms |  |  |  | 0.50 |  |"), "{text}");
        assert!(text.contains("| work | lap | 2.0 ms | 4 ms | 1.0 to 3.0 | 3 | 1.00 | 2 MiB |"), "{text}");
        assert!(text.contains("|  | peer | 5.0 ms |  | 5.0 to 5.0 | 1 | 2.50 | 2 MiB |"), "{text}");
        let document = report.document();
        assert!(
            document.contains("* kernel: 1\n* bytes: many\n") && document.contains("* crun: refuses"),
            "{document}"
        );
    }
}
