//! The names that progress shows, as BuildKit prints them: `[stage 2/5] RUN make`.

/// Counts the steps of one stage.
#[derive(Debug, Clone)]
pub(crate) struct StepNames {
    stage: String,
    total: usize,
    next: usize,
}

impl StepNames {
    /// `stage` is empty when there is only one stage and it has no name.
    pub(crate) fn new(stage: &str, total: usize) -> Self {
        Self { stage: stage.to_owned(), total, next: 0 }
    }

    /// The name of the next step.
    pub(crate) fn next(&mut self, text: &str) -> String {
        self.next += 1;
        let width = self.total.max(1).ilog10() as usize + 1;
        let stage = if self.stage.is_empty() { String::new() } else { format!("{} ", self.stage) };
        format!("[{stage}{:width$}/{}] {text}", self.next, self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_padded_to_the_width_of_the_total() {
        let mut names = StepNames::new("build", 10);
        assert_eq!(names.next("FROM x"), "[build  1/10] FROM x");
        assert_eq!(StepNames::new("", 3).next("RUN a"), "[1/3] RUN a");
    }
}
