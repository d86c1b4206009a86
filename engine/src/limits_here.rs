//! What this machine cannot limit, to be said before somebody relies on it.
//!
//! A limit that was asked for and cannot be set is an error. A container without limits runs where there is nothing
//! to limit it by, too; its user is told once for each start of the machine, which a file in the runtime directory
//! remembers.

use runner::cgroup::hierarchy::{Controller, Hierarchies, Version};
use sys::fs::Durability;

use crate::Engine;
use crate::error::EngineError;
use crate::request::Limits;

/// The file in the runtime directory that remembers for which start of the machine something was said.
const SAID: &str = "limits-said";

/// Something that cannot be limited here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unlimited {
    /// There are no control groups for these, by the kernel's names, or we may not make any.
    Controllers(Vec<&'static str>),
    /// The kernel does not count swap space: a limit of memory holds for memory alone.
    Swap,
}

impl Engine {
    /// What a container with these limits has to be told of.
    ///
    /// # Errors
    /// The runtime directory cannot be used.
    pub fn unlimited(&self, limits: &Limits) -> Result<Vec<Unlimited>, EngineError> {
        let is_new = self.is_unsaid()?;
        // Who limits both together is told by an error.
        let asks_for_swap = limits.memory.is_some() && limits.memory_swap.is_none();
        if !is_new && !asks_for_swap {
            return Ok(Vec::new());
        }
        let Ok(hierarchies) = Hierarchies::discover() else { return Ok(Vec::new()) };
        Ok(found(&hierarchies, is_new, asks_for_swap))
    }

    /// Whether nothing was said since the machine was started; from now on something was.
    fn is_unsaid(&self) -> Result<bool, EngineError> {
        let path = self.runtime_directory()?.join(SAID);
        let boot = sys::fs::boot_id()?.into_bytes();
        match sys::fs::read(&path) {
            Ok(said) if said == boot => Ok(false),
            Err(error) if !error.is_not_found() => Err(error.into()),
            Ok(_) | Err(_) => {
                sys::fs::write_atomic(&path, &boot, 0o600, Durability::Cached)?;
                Ok(true)
            }
        }
    }
}

fn found(hierarchies: &Hierarchies, controllers: bool, swap: bool) -> Vec<Unlimited> {
    let missing = hierarchies.missing();
    let mut unlimited = Vec::new();
    if swap && !missing.contains(&Controller::Memory) && !hierarchies.counts_swap() {
        unlimited.push(Unlimited::Swap);
    }
    if controllers && !missing.is_empty() {
        let names = missing.into_iter().map(|one| one.name(Version::Two)).collect();
        unlimited.push(Unlimited::Controllers(names));
    }
    unlimited
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "32 25 0:28 / /no/such/memory rw - cgroup cgroup rw,memory\n";

    #[test]
    fn what_is_missing_is_told_by_its_new_name() {
        let hierarchies = Hierarchies::parse(MOUNTS, "4:memory:/\n");
        let all = vec!["cpu", "cpuset", "memory", "pids", "io"];
        assert_eq!(found(&hierarchies, true, true), [Unlimited::Controllers(all)]);
        assert_eq!(found(&hierarchies, false, true), []);
    }

    #[test]
    fn swap_space_that_is_not_counted_is_told_with_a_limit_of_memory() {
        let dir = tempfile::tempdir().unwrap();
        let mounts = MOUNTS.replace("/no/such/memory", &dir.path().display().to_string());
        let hierarchies = Hierarchies::parse(&mounts, "4:memory:/\n");
        assert_eq!(found(&hierarchies, false, true), [Unlimited::Swap]);
        assert_eq!(found(&hierarchies, false, false), []);
        std::fs::write(dir.path().join("memory.memsw.limit_in_bytes"), "0").unwrap();
        assert_eq!(found(&hierarchies, false, true), []);
    }
}
