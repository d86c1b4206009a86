//! What services want to be run in their containers when those have started, and before they are ended.

use compose::{Hook, Project};
use engine::Engine;
use engine::containers::{ExecRequest, Exit, Status};
use engine::request::DetachKeys;

use super::scope::Member;
use crate::error::CliError;

/// Runs what is wanted of a container that has started.
pub(super) fn post_start(engine: &Engine, project: &Project, member: &Member) -> Result<(), CliError> {
    let hooks = project.services.get(&member.service).map(compose::Service::post_start).unwrap_or_default();
    hooks.iter().try_for_each(|hook| run(engine, member, hook, "post_start"))
}

/// Runs what is wanted before containers are ended, one after the other. Those that do not run have nothing left to do.
pub(super) fn pre_stop(
    engine: &Engine,
    project: Option<&Project>,
    members: &[Member],
) -> Result<(), CliError> {
    for member in members.iter().filter(|member| !member.one_off) {
        let service = project.and_then(|project| project.services.get(&member.service));
        let hooks = service.map(compose::Service::pre_stop).unwrap_or_default();
        let runs =
            || engine.container(&member.container.id).is_ok_and(|it| it.state.status == Status::Running);
        if !hooks.is_empty() && runs() {
            hooks.iter().try_for_each(|hook| run(engine, member, hook, "pre_stop"))?;
        }
    }
    Ok(())
}

fn run(engine: &Engine, member: &Member, hook: &Hook, when: &str) -> Result<(), CliError> {
    let request = ExecRequest {
        container: member.container.id.clone(),
        command: hook.command.clone(),
        env: hook.env.clone(),
        workdir: hook.working_dir.clone(),
        user: hook.user.clone(),
        privileged: hook.privileged,
        tty: false,
        interactive: false,
        detach: false,
        detach_keys: DetachKeys::default(),
    };
    let what = format!("{} hook of container {}", when, member.name());
    match engine.exec(&request).map_err(|error| CliError::engine(&error).about(&what))? {
        None | Some(Exit::Detached) => Ok(()),
        Some(Exit::Ended { code: 0, .. }) => Ok(()),
        Some(_) => Err(CliError::failed_with_hint(
            format!("{what} has failed: {}", hook.command.join(" ")),
            "what it wrote is above",
        )),
    }
}
