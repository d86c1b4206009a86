//! Which project a command is about, and what of it is there: containers with Docker's labels.

use compose::flags::label;
use compose::{ComposeError, Project};
use engine::Engine;
use engine::containers::Container;

use super::super::{StoreChoice, environment, open};
use super::acting::Acting;
use crate::compose_args::ProjectArgs;
use crate::error::CliError;

/// A project in a store. Its files may be gone when its name is known.
pub(super) struct Scope {
    pub(super) engine: Engine,
    pub(super) acting: Acting,
    pub(super) name: String,
    pub(super) project: Option<Project>,
}

/// A container of a project.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) container: Container,
    pub(super) service: String,
    pub(super) number: u32,
    pub(super) one_off: bool,
}

impl Member {
    /// The container, if it is one of this project.
    fn of(container: Container, project: &str) -> Option<Self> {
        let labels = &container.document.labels;
        labels.get(label::PROJECT).filter(|name| *name == project)?;
        let service = labels.get(label::SERVICE)?.clone();
        let number = labels.get(label::NUMBER).and_then(|number| number.parse().ok()).unwrap_or(1);
        let one_off = labels.get(label::ONE_OFF).is_some_and(|is| is == "True");
        Some(Self { container, service, number, one_off })
    }

    pub(super) fn name(&self) -> &str {
        &self.container.name
    }

    pub(super) fn is_live(&self) -> bool {
        self.container.state.status.is_live()
    }

    /// By which its output is told from that of others.
    pub(super) fn short_name(&self, project: &str) -> String {
        let name = self.name();
        name.strip_prefix(project).and_then(|rest| rest.strip_prefix('-')).unwrap_or(name).to_owned()
    }
}

/// All containers of a project, by service and number.
pub(super) fn members(engine: &Engine, project: &str) -> Result<Vec<Member>, CliError> {
    let all = engine.containers()?.into_iter();
    let mut members: Vec<Member> = all.filter_map(|container| Member::of(container, project)).collect();
    members.sort_by(|a, b| (&a.service, a.number).cmp(&(&b.service, b.number)));
    Ok(members)
}

impl Scope {
    /// The project of the command line, whose files have to be there unless it is named.
    pub(super) fn open(
        store: &StoreChoice,
        args: &ProjectArgs,
        services: &[String],
    ) -> Result<Self, CliError> {
        let named = args.name.clone().or_else(|| environment("COMPOSE_PROJECT_NAME"));
        let (name, project) = match (super::read(args, services)?, named) {
            (Ok(project), _) => (project.name.clone(), Some(project)),
            (Err(ComposeError::NoFile { .. }), Some(name)) => (name, None),
            (Err(error), _) => return Err(error.into()),
        };
        Ok(Self { engine: open(store)?, acting: Acting::of(args), name, project })
    }

    /// The containers of these services, or of all, but for those of single commands.
    pub(super) fn members(&self, services: &[String]) -> Result<Vec<Member>, CliError> {
        let mut members = members(&self.engine, &self.name)?;
        let known = |name: &String| {
            self.project.as_ref().is_some_and(|project| project.services.contains_key(name))
                || members.iter().any(|member| member.service == *name)
        };
        if let Some(unknown) = services.iter().find(|name| !known(name)) {
            return Err(ComposeError::NoSuchService(unknown.clone()).into());
        }
        members.retain(|member| !member.one_off && self.includes(member, services));
        Ok(members)
    }

    /// Whether a container is meant when these services are named, or none.
    fn includes(&self, member: &Member, services: &[String]) -> bool {
        match &self.project {
            _ if !services.is_empty() => services.contains(&member.service),
            Some(project) => project.services.contains_key(&member.service),
            None => true,
        }
    }

    /// Containers in groups: each after those that its own wait for.
    pub(super) fn in_order(&self, members: Vec<Member>) -> Vec<Vec<Member>> {
        let mut groups = super::down::levels(self.project.as_ref(), members);
        groups.reverse();
        groups
    }
}

/// Containers of services that the project does not have.
pub(super) fn orphans(project: &Project, members: &[Member]) -> Vec<Member> {
    let is_known = |name: &String| project.services.contains_key(name) || project.disabled.contains_key(name);
    let orphans = members.iter().filter(|member| !member.one_off && !is_known(&member.service));
    orphans.cloned().collect()
}
