//! Base images: arguments in their names, and platforms that are not those asked for.

use base::{Platform, Reference};
use parser::ast::Word;

use super::{Findings, suggestion};
use crate::args::Environment;

impl Findings {
    /// `UndefinedArgInFrom`: the variables `names` of a FROM line are not set.
    pub(crate) fn undefined_in_from(&self, names: &[String], globals: &Environment, written: &Word) {
        for name in names.iter().filter(|name| !globals.knows(name)) {
            let near = suggestion("", name, globals.names());
            let message = format!("FROM argument '{name}' is not declared{near}");
            let help = format!("write ARG {name} before the first FROM");
            self.add("UndefinedArgInFrom", written.span, message, help);
        }
    }

    /// `InvalidDefaultArgInFrom`: what a FROM line names if nobody passes a build argument.
    pub(crate) fn default_base(&self, by_default: &str, written: &Word) {
        if by_default.is_empty() || by_default.parse::<Reference>().is_err() {
            let message =
                format!("Default value for ARG {} results in empty or invalid base image name", written.text);
            let help = "give the ARG a default, so that the Dockerfile builds without --build-arg";
            self.add("InvalidDefaultArgInFrom", written.span, message, help.to_owned());
        }
    }

    /// `InvalidBaseImagePlatform`: what the image `reference` runs on, and what the stage is for.
    pub(crate) fn base_platform(
        &self,
        reference: &Reference,
        found: &Platform,
        expected: &Platform,
        written: &Word,
    ) {
        if (&found.os, &found.architecture) != (&expected.os, &expected.architecture) {
            let name = reference.familiar();
            let message = format!(
                "Base image {name} was pulled with platform \"{found}\", expected \"{expected}\" for current build"
            );
            self.add("InvalidBaseImagePlatform", written.span, message, None);
        }
    }
}
