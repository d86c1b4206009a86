//! What machine this is, for people.

use std::path::Path;

/// The machine and the system on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The kernel's release.
    pub kernel: String,
    /// The distribution's name for people; `Linux` where none is given.
    pub distribution: String,
    /// Bytes of memory.
    pub memory: u64,
    /// The host's name.
    pub hostname: String,
}

/// Asks the kernel (`uname(2)`, `sysinfo(2)`) and `/etc/os-release` (`os-release(5)`).
pub fn machine() -> Machine {
    let names = rustix::system::uname();
    let os_release = crate::fs::read_limited(Path::new("/etc/os-release"), 1 << 20).ok().flatten();
    let os_release = os_release.map(|text| String::from_utf8_lossy(&text).into_owned());
    Machine {
        kernel: names.release().to_string_lossy().into_owned(),
        distribution: os_release.as_deref().and_then(pretty_name).unwrap_or_else(|| "Linux".to_owned()),
        memory: memory(),
        hostname: names.nodename().to_string_lossy().into_owned(),
    }
}

/// Bytes of memory that the machine has (`sysinfo(2)`).
pub fn memory() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(u64::from(info.mem_unit))
}

fn pretty_name(os_release: &str) -> Option<String> {
    let value = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(value.trim_matches(['"', '\'']).to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_is_read_from_os_release() {
        assert_eq!(pretty_name("ID=x\nPRETTY_NAME=\"X 1\"\n").as_deref(), Some("X 1"));
        assert_eq!(pretty_name("ID=x\n"), None);
        assert_eq!(pretty_name("PRETTY_NAME=\n"), None);
    }

    #[test]
    fn this_machine_has_a_kernel_and_memory() {
        let machine = machine();
        assert!(!machine.kernel.is_empty() && machine.memory > 0);
    }
}
