//! Memory and swap space.

use oci_spec::runtime::LinuxMemory;

use super::{Settings, limit};
use crate::cgroup::hierarchy::Version;

impl Settings {
    pub(super) fn memory(&mut self, memory: &LinuxMemory) {
        let most = memory.limit().filter(|&most| most != 0);
        if let Some(most) = most {
            let files: [&[&str]; 2] = [&["memory.limit_in_bytes"], &["memory.max"]];
            self.add("the memory limit", files, self.bytes(most));
        }
        if let Some(reserved) = memory.reservation().filter(|&reserved| reserved != 0) {
            let files: [&[&str]; 2] = [&["memory.soft_limit_in_bytes"], &["memory.low"]];
            self.add("the memory reservation", files, self.bytes(reserved));
        }
        self.swap(memory, most);
        if let Some(swappiness) = memory.swappiness() {
            self.add("the swappiness", [&["memory.swappiness"]; 2], swappiness);
        }
        if memory.disable_oom_killer() == Some(true) {
            self.add("the switch for killing when memory runs out", [&["memory.oom_control"]; 2], 1);
        }
        if let Some(most) = memory.kernel_tcp().filter(|&most| most != 0) {
            self.add("the memory limit of TCP", [&["memory.kmem.tcp.limit_in_bytes"]; 2], most);
        }
    }

    fn swap(&mut self, memory: &LinuxMemory, most: Option<i64>) {
        let Some(both) = memory.swap().filter(|&both| both != 0) else { return };
        let value = match self.version {
            Version::One => both.to_string(),
            // There the limit is of swap space alone.
            Version::Two if both < 0 => limit(both),
            Version::Two => both.saturating_sub(most.unwrap_or(0).max(0)).max(0).to_string(),
        };
        let files: [&[&str]; 2] = [&["memory.memsw.limit_in_bytes"], &["memory.swap.max"]];
        self.add("the limit of memory and swap", files, value);
        // Twice the memory is what is set when nobody asks; not every kernel counts swap space.
        let usual = most.is_some_and(|most| both == most.saturating_mul(2));
        self.list.last_mut().into_iter().for_each(|last| last.optional = usual || both < 0);
    }

    /// A number of bytes, or none.
    fn bytes(&self, bytes: i64) -> String {
        match self.version {
            Version::One => bytes.to_string(),
            Version::Two => limit(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{LinuxMemoryBuilder, LinuxResources};

    use super::super::tests::written;
    use super::super::{Controller, all, controllers};
    use super::*;

    fn resources(memory: LinuxMemoryBuilder) -> LinuxResources {
        let mut resources = LinuxResources::default();
        resources.set_memory(Some(memory.build().unwrap()));
        resources
    }

    #[test]
    fn memory_counts_swap_in_version_1_and_not_in_version_2() {
        let given = resources(LinuxMemoryBuilder::default().limit(100).swap(250).reservation(50));
        assert_eq!(controllers(&given), [Controller::Memory]);
        let first =
            ["memory.limit_in_bytes=100", "memory.soft_limit_in_bytes=50", "memory.memsw.limit_in_bytes=250"];
        assert_eq!(written(&given, Version::One), first);
        let second = ["memory.max=100", "memory.low=50", "memory.swap.max=150"];
        assert_eq!(written(&given, Version::Two), second);
        let unlimited = resources(LinuxMemoryBuilder::default().limit(-1).swap(-1));
        assert_eq!(written(&unlimited, Version::Two), ["memory.max=max", "memory.swap.max=max"]);
    }

    #[test]
    fn swap_space_that_nobody_limits_may_stay_uncounted() {
        let optional = |swap| {
            let given = resources(LinuxMemoryBuilder::default().limit(100).swap(swap));
            all(&given, |_| Some(Version::One)).last().unwrap().optional
        };
        assert!(optional(200) && optional(-1) && !optional(250));
    }

    #[test]
    fn rarer_settings_have_their_files() {
        let given = LinuxMemoryBuilder::default().swappiness(7u64).disable_oom_killer(true).kernel_tcp(9);
        let first = ["memory.swappiness=7", "memory.oom_control=1", "memory.kmem.tcp.limit_in_bytes=9"];
        assert_eq!(written(&resources(given), Version::One), first);
    }
}
