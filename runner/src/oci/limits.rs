//! Resource limits that callers ask for and that cannot be had.
//!
//! Podman asks for a million open files for every container. Where we run without `CAP_SYS_RESOURCE`, as in a container of
//! somebody else, a ceiling cannot be raised, and refusing such a container would refuse all of them. So a limit of a bundle
//! becomes as high as it can be. What a user asks `lap run` for is not lowered: that is an error.

use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, Process};

use crate::plan::resource_number;

/// The bit of `CAP_SYS_RESOURCE` (capabilities(7)).
const SYS_RESOURCE: u64 = 1 << 24;

/// Lowers the limits of a process to what can be set here.
pub(super) fn make_attainable(process: &mut Process) {
    let may_raise = sys::probe::effective_capabilities() & SYS_RESOURCE != 0 && sys::userns::is_initial();
    if may_raise {
        return;
    }
    if let Some(limits) = process.rlimits() {
        let lowered = limits.iter().map(lowered).collect::<Vec<_>>();
        process.set_rlimits(Some(lowered));
    }
}

/// A limit, no higher than what we have. It stays as it is if the kernel does not say what that is.
fn lowered(limit: &PosixRlimit) -> PosixRlimit {
    let ceiling = sys::open_files::ceiling(resource_number(limit.typ())).unwrap_or(u64::MAX);
    let (soft, hard) = (limit.soft().min(ceiling), limit.hard().min(ceiling));
    let built = PosixRlimitBuilder::default().typ(limit.typ()).soft(soft).hard(hard).build();
    // All parts are there, which is all that could be wrong.
    built.unwrap_or(*limit)
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::PosixRlimitType;

    use super::*;

    #[test]
    fn a_limit_is_lowered_to_what_we_have_and_never_raised() {
        let limit = |soft, hard| {
            let builder = PosixRlimitBuilder::default().typ(PosixRlimitType::RlimitNofile);
            builder.soft(soft).hard(hard).build().unwrap()
        };
        let ours = sys::open_files::ceiling(sys::open_files::RESOURCE).unwrap();
        let much = lowered(&limit(u64::MAX, u64::MAX));
        assert_eq!((much.soft(), much.hard()), (ours, ours));
        let little = lowered(&limit(1, 2));
        assert_eq!((little.soft(), little.hard()), (1, 2));
    }
}
