//! The names that progress shows, as BuildKit prints them: `[stage 2/5] RUN make`.

/// Counts the steps of one stage.
#[derive(Debug, Clone)]
pub(crate) struct StepNames {
    /// What stands before the number: platform and stage, each followed by a blank.
    prefix: String,
    total: usize,
    next: usize,
}

impl StepNames {
    /// `stage` is empty when there is only one stage and it has no name; `platform` is empty unless a build
    /// has several.
    pub(crate) fn new(platform: &str, stage: &str, total: usize) -> Self {
        let words = [platform, stage].into_iter().filter(|word| !word.is_empty());
        Self { prefix: words.map(|word| format!("{word} ")).collect(), total, next: 0 }
    }

    /// Counts further steps, which only the base of the stage knew of.
    pub(crate) fn expect(&mut self, steps: usize) {
        self.total += steps;
    }

    /// Platform and stage, as in the names.
    pub(crate) fn stage(&self) -> &str {
        self.prefix.trim_end()
    }

    /// The name of the next step.
    pub(crate) fn next(&mut self, text: &str) -> String {
        self.next += 1;
        let width = self.total.max(1).ilog10() as usize + 1;
        format!("[{}{:width$}/{}] {text}", self.prefix, self.next, self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_padded_to_the_width_of_the_total() {
        let mut names = StepNames::new("", "build", 10);
        assert_eq!(names.next("FROM x"), "[build  1/10] FROM x");
        assert_eq!(StepNames::new("", "", 3).next("RUN a"), "[1/3] RUN a");
        assert_eq!(StepNames::new("linux/arm64", "s", 3).next("RUN a"), "[linux/arm64 s 1/3] RUN a");
    }
}
