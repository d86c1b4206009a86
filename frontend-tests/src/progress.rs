//! Reads plain progress: which steps there were and how each ended.

/// The steps of the Dockerfile that ran rather than being cached, by name, in the order of progress. Sources of images,
/// what builders do for themselves, and steps that failed are not among them.
pub fn steps_run(log: &str) -> Vec<String> {
    steps(log).into_iter().filter(|step| step.end == Some("DONE")).map(|step| step.name).collect()
}

/// The steps of the Dockerfile that came from the cache.
pub fn steps_cached(log: &str) -> Vec<String> {
    steps(log).into_iter().filter(|step| step.end == Some("CACHED")).map(|step| step.name).collect()
}

/// Why a step ran again, as lap's progress says it beside the step.
pub fn reason<'l>(log: &'l str, step: &str) -> Option<&'l str> {
    let number = steps(log).into_iter().find(|found| found.name == step)?.number;
    log.lines().find_map(|line| line.strip_prefix(number)?.strip_prefix(" not cached: "))
}

struct Step<'l> {
    number: &'l str,
    name: String,
    end: Option<&'l str>,
}

fn steps(log: &str) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    for line in log.lines() {
        let Some((number, rest)) = line.split_once(' ').filter(|(number, _)| is_number(number)) else {
            continue;
        };
        match steps.iter_mut().find(|step| step.number == number) {
            Some(step) => step.end = step.end.or_else(|| end(rest)),
            None if is_step(rest) => steps.push(Step { number, name: rest.to_owned(), end: None }),
            None => {}
        }
    }
    steps
}

fn is_number(word: &str) -> bool {
    word.strip_prefix('#')
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// `[2/3] RUN x`, but neither `[internal] …` nor `[context …] …` nor `[1/3] FROM …`.
fn is_step(text: &str) -> bool {
    let name = text.split_once("] ").map(|(_, name)| name);
    text.starts_with('[')
        && !text.starts_with("[internal]")
        && !text.starts_with("[context ")
        && name.is_some_and(|name| !name.starts_with("FROM "))
}

fn end(rest: &str) -> Option<&str> {
    let word = rest.split([' ', ':']).next()?;
    ["CACHED", "DONE", "ERROR", "CANCELED"].contains(&word).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "#1 [internal] load build definition from Dockerfile\n#1 DONE 0.0s\n\n#2 [1/3] FROM busybox\n#2 CACHED\n\
                       #3 [2/3] COPY f /f\n#3 CACHED\n\n#4 [3/3] RUN x\n#4 not cached: f changed\n#4 0.1 DONE is what it printed\n#4 DONE 0.2s\n";

    #[test]
    fn steps_are_told_from_their_output() {
        assert_eq!(steps_run(LOG), ["[3/3] RUN x"]);
        assert_eq!(steps_cached(LOG), ["[2/3] COPY f /f"]);
        assert_eq!(reason(LOG, "[3/3] RUN x"), Some("f changed"));
        assert_eq!(reason(LOG, "[2/3] COPY f /f"), None);
    }
}
