//! `lap rmi`: taking names away, and images with their last name, with Docker's refusals.

use base::image::{Descriptor, Index};
use base::{Digest, Fault, Faulty, Platform, Reference};
use snapshotter::Policy;

use super::{Found, familiar};
use crate::containers::Container;
use crate::error::EngineError;
use crate::manifest::Image;
use crate::report::Removal;
use crate::{Engine, attest};

/// Why an image is not removed. The words are Docker's.
#[derive(Debug, thiserror::Error)]
pub enum Conflict {
    /// It was asked for by id and has several names.
    #[error(
        "conflict: unable to delete {id} (must be forced) - image is referenced in multiple repositories ({})",
        names.join(", ")
    )]
    SeveralNames {
        /// The image's short id.
        id: String,
        /// Its names.
        names: Vec<String>,
    },
    /// Its last name would go, and a container uses it.
    #[error(
        "conflict: unable to remove repository reference \"{name}\" (must force) - container {container} \
         is using its referenced image {id}"
    )]
    NameInUse {
        /// The name.
        name: String,
        /// The image's short id.
        id: String,
        /// The container's short id.
        container: String,
    },
    /// It would go, and a container that does not run was made from it.
    #[error(
        "conflict: unable to delete {id} (must be forced) - image is being used by stopped container {container}"
    )]
    UsedByStopped {
        /// The image's short id.
        id: String,
        /// The container's short id.
        container: String,
    },
    /// It would go, and a container uses it.
    #[error(
        "conflict: unable to delete {id} (cannot be forced) - image is being used by running container \
         {container}"
    )]
    InUse {
        /// The image's short id.
        id: String,
        /// The container's short id.
        container: String,
    },
}

impl Conflict {
    /// What the user may do about it.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::SeveralNames { .. } => "remove it by name, or all its names with --force".to_owned(),
            Self::NameInUse { container, .. } | Self::UsedByStopped { container, .. } => {
                format!("remove the container first (lap rm {container}), or use --force")
            }
            Self::InUse { container, .. } => {
                format!("wait until the container ends, or end it: lap stop {container}")
            }
        }
    }
}

impl Faulty for Conflict {
    fn fault(&self) -> Fault {
        Fault::Input
    }
}

impl Engine {
    /// Removes a name, and the image with its last name. By id, all names go, several only with `force`. An
    /// image that a container uses stays; with `force`, its last name can be taken away.
    ///
    /// # Errors
    /// When there is no such image, or a [`Conflict`].
    pub fn remove_image(&self, name: &str, force: bool) -> Result<Vec<Removal>, EngineError> {
        let found = match self.find(name) {
            Ok(found) => found,
            Err(error @ (EngineError::NoSuchImage(_) | EngineError::Inconsistent { .. })) => {
                return self.remove_artifact(name)?.ok_or(error);
            }
            Err(error) => return Err(error),
        };
        let id = found.image.id();
        let all =
            self.listed()?.into_iter().find(|listed| listed.image.id() == id).map(|listed| listed.names);
        let all = all.unwrap_or_default();
        let removed = if found.by_name { vec![name.parse::<Reference>()?.to_string()] } else { all.clone() };
        let is_last = all.len() <= removed.len();
        let user = if is_last { self.user_of(&id)? } else { None };
        refuse(&found, &removed, user.as_ref(), force)?;
        for name in &removed {
            self.store.untag(name)?;
        }
        let mut removals: Vec<Removal> =
            removed.iter().map(|name| Removal::Untagged(familiar(name))).collect();
        match user {
            _ if !is_last => {}
            // What runs keeps its image, if only by id.
            Some(user) if user.state.status.is_live() => self.store.tag_dangling(&found.target)?,
            _ => {
                self.store.untag_dangling(&found.target)?;
                removals.push(Removal::Deleted(id));
            }
        }
        self.tell_of_removals(&id, &removals);
        // The disk space comes back at once, but for what the build cache may still use.
        self.store.gc(Policy::KEEP_CACHE)?;
        Ok(removals)
    }

    /// Removes the images of some platforms of one that has several, under all its names. The last of them goes as
    /// [`remove_image`](Self::remove_image) has it.
    ///
    /// # Errors
    /// There is no such image or platform, or a [`Conflict`]; nothing is removed then.
    pub fn remove_platforms(
        &self,
        name: &str,
        platforms: &[Platform],
        force: bool,
    ) -> Result<Vec<Removal>, EngineError> {
        let found = self.find(name)?;
        let parts = self.platform_images(&found.target, &found.image)?;
        let mut chosen: Vec<&Image> = Vec::new();
        for platform in platforms {
            let fits = |part: &&Image| part.config.platform().fits(platform);
            let best = parts.iter().filter(|part| fits(part).is_some()).min_by_key(fits);
            let best = best.ok_or_else(|| EngineError::NoPlatform {
                wanted: platform.to_string(),
                known: parts.iter().map(|part| part.config.platform().to_string()).collect(),
            })?;
            if !chosen.iter().any(|other| other.descriptor.digest == best.descriptor.digest) {
                chosen.push(best);
            }
        }
        if chosen.len() == parts.len() {
            return self.remove_image(name, force);
        }
        for part in &chosen {
            refuse_used(&part.id(), self.user_of(&part.id())?.as_ref(), force)?;
        }
        let images: Vec<Digest> = chosen.iter().map(|part| part.descriptor.digest).collect();
        // What tells of them goes with them.
        let index = self.document::<Index>("index", &found.target.digest)?;
        let tells = |entry: &&Descriptor| {
            let subject = entry.annotations.get(attest::SUBJECT);
            subject.is_some_and(|subject| images.iter().any(|image| image.to_string() == *subject))
        };
        let telling = index.iter().flat_map(|index| index.manifests.iter().filter(tells));
        let entries: Vec<Digest> = images.iter().copied().chain(telling.map(|entry| entry.digest)).collect();
        let removals: Vec<Removal> = images.into_iter().map(Removal::Deleted).collect();
        self.store.forget_entries(&found.target.digest, &entries)?;
        self.tell_of_removals(&found.image.id(), &removals);
        self.store.gc(Policy::KEEP_CACHE)?;
        Ok(removals)
    }

    /// Takes a name away from something that is no image, such as a chart that was pushed here. `None` when nothing has it.
    fn remove_artifact(&self, name: &str) -> Result<Option<Vec<Removal>>, EngineError> {
        let Ok(reference) = name.parse::<Reference>() else { return Ok(None) };
        let name = reference.to_string();
        if !self.store.untag(&name)? {
            return Ok(None);
        }
        self.store.gc(Policy::KEEP_CACHE)?;
        Ok(Some(vec![Removal::Untagged(familiar(&name))]))
    }
}

/// Refuses to remove an image that a container uses, whatever its names are.
fn refuse_used(id: &Digest, user: Option<&Container>, force: bool) -> Result<(), Conflict> {
    let id = id.short();
    match user {
        Some(user) if user.state.status.is_live() => {
            Err(Conflict::InUse { id, container: user.short_id().to_owned() })
        }
        Some(user) if !force => Err(Conflict::UsedByStopped { id, container: user.short_id().to_owned() }),
        _ => Ok(()),
    }
}

/// Refuses what Docker refuses. `user` is a container that uses an image whose last names are to be removed.
fn refuse(found: &Found, removed: &[String], user: Option<&Container>, force: bool) -> Result<(), Conflict> {
    let id = found.image.id().short();
    match user {
        Some(user) if !found.by_name && (!force || user.state.status.is_live()) => {
            refuse_used(&found.image.id(), Some(user), force)
        }
        Some(user) if !force => {
            let name = removed.first().map(|name| familiar(name)).unwrap_or_default();
            Err(Conflict::NameInUse { name, id, container: user.short_id().to_owned() })
        }
        _ if !found.by_name && removed.len() > 1 && !force => {
            Err(Conflict::SeveralNames { id, names: removed.iter().map(|name| familiar(name)).collect() })
        }
        _ => Ok(()),
    }
}
