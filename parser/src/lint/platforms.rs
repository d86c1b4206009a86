//! Checks about `FROM --platform`.

use base::Platform;

use super::{Findings, stages};
use crate::ast::Dockerfile;

pub(super) fn redundant_target_platform(dockerfile: &Dockerfile, findings: &mut Findings<'_>) {
    for platform in stages(dockerfile).filter_map(|stage| stage.from.platform.as_ref()) {
        if matches!(platform.text.as_str(), "$TARGETPLATFORM" | "${TARGETPLATFORM}") {
            let message = format!(
                "Setting platform to predefined {} in FROM is redundant as this is the default behavior",
                platform.text
            );
            findings.add(platform.span, message, "remove --platform");
        }
    }
}

pub(super) fn from_platform_flag_const_disallowed(dockerfile: &Dockerfile, findings: &mut Findings<'_>) {
    for stage in stages(dockerfile) {
        let Some(written) = &stage.from.platform else { continue };
        let Ok(platform) = written.text.parse::<Platform>() else { continue };
        let name = stage.from.name.as_ref().map(|name| name.text.to_lowercase()).unwrap_or_default();
        // A stage that is called after its platform is meant for that one alone.
        let is_named_after = name.contains(&platform.os) || name.contains(&platform.architecture);
        if !written.text.contains('$') && !is_named_after {
            let message = format!("FROM --platform flag should not use constant value {:?}", written.text);
            let help = "choose the platform on the command line, or use $BUILDPLATFORM";
            findings.add(written.span, message, help);
        }
    }
}
