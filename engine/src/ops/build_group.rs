//! The control group of a whole build, inside of which those of its steps are.

use std::sync::{Mutex, PoisonError};

use runner::cgroup::ControlGroup;
use runner::{GroupPlace, Limits, RunError};

use crate::request::StepSettings;

/// It is made for the first step that runs, and goes with this value, which is after the last one.
#[derive(Debug, Default)]
pub(crate) struct BuildGroup(Mutex<Option<ControlGroup>>);

impl BuildGroup {
    /// Where the group of a step is made.
    pub(super) fn place(&self, settings: &StepSettings) -> Result<GroupPlace, RunError> {
        let parent = settings.cgroup_parent.as_ref();
        if settings.total == Limits::default() {
            return Ok(parent.cloned().map_or(GroupPlace::WhereLimited, GroupPlace::Inside));
        }
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let group = match made.take() {
            Some(group) => group,
            None => ControlGroup::create_around(&settings.total, parent)?,
        };
        let location = made.insert(group).location().cloned();
        Ok(location.map_or(GroupPlace::WhereLimited, GroupPlace::Inside))
    }
}
