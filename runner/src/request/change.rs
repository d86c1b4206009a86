//! Limits that are changed while there is a container: which fit each other, and what it has then.

use super::Limits;

/// Limits that contradict each other. The words are Docker's, but for the first letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitConflict {
    /// More memory than memory and swap space together, which was set before.
    #[error(
        "memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
    )]
    MemoryAboveSwap,
    /// Less memory and swap space together than memory.
    #[error("minimum memoryswap limit should be larger than memory limit, see usage")]
    SwapBelowMemory,
    /// A limit of both together without one of memory.
    #[error("you should always set the Memory limit when using Memoryswap limit, see usage")]
    SwapWithoutMemory,
    /// More memory is reserved than there may be.
    #[error("minimum memory limit can not be less than memory reservation limit, see usage")]
    ReservationAboveMemory,
}

impl Limits {
    /// These limits with those that `change` names in place of the same; and what a control group that has these is to be
    /// told so that it has those.
    ///
    /// A limit of memory and swap space that nobody asked for stays twice that of memory. Of a change, 0 is none, as in
    /// Docker.
    ///
    /// # Errors
    /// They do not fit each other.
    pub fn changed(&self, change: &Self) -> Result<(Self, Self), LimitConflict> {
        let is_set = |number: &u64| *number != 0;
        let is_some = |number: &i64| *number != 0;
        let change = Self {
            memory: change.memory.filter(is_set),
            memory_swap: change.memory_swap.filter(is_some),
            memory_reservation: change.memory_reservation.filter(is_set),
            cpu_shares: change.cpu_shares.filter(is_set),
            cpu_quota: change.cpu_quota.filter(is_some),
            cpu_period: change.cpu_period.filter(is_set),
            realtime_runtime: change.realtime_runtime.filter(is_some),
            realtime_period: change.realtime_period.filter(is_set),
            pids: change.pids.filter(is_some),
            blkio_weight: change.blkio_weight.filter(|weight| *weight != 0),
            ..change.clone()
        };
        let all = Self {
            memory: change.memory.or(self.memory),
            memory_swap: change.memory_swap.or(self.memory_swap),
            memory_reservation: change.memory_reservation.or(self.memory_reservation),
            cpu_shares: change.cpu_shares.or(self.cpu_shares),
            cpu_quota: change.cpu_quota.or(self.cpu_quota),
            cpu_period: change.cpu_period.or(self.cpu_period),
            realtime_runtime: change.realtime_runtime.or(self.realtime_runtime),
            realtime_period: change.realtime_period.or(self.realtime_period),
            cpuset_cpus: change.cpuset_cpus.clone().or_else(|| self.cpuset_cpus.clone()),
            cpuset_mems: change.cpuset_mems.clone().or_else(|| self.cpuset_mems.clone()),
            pids: change.pids.or(self.pids),
            blkio_weight: change.blkio_weight.or(self.blkio_weight),
            ..self.clone()
        };
        all.check(&change)?;
        let mut told = change;
        // Some are told in pairs: one number means nothing without the other.
        if told.memory.is_some() || told.memory_swap.is_some() {
            (told.memory, told.memory_swap) = (all.memory, all.memory_swap);
        }
        if told.cpu_quota.is_some() || told.cpu_period.is_some() {
            (told.cpu_quota, told.cpu_period) = (all.cpu_quota, all.cpu_period);
        }
        Ok((all, told))
    }

    /// Refuses limits that do not fit each other after `change`.
    fn check(&self, change: &Self) -> Result<(), LimitConflict> {
        let memory = self.memory.filter(|memory| *memory != 0);
        if let Some(both) =
            self.memory_swap.and_then(|both| u64::try_from(both).ok()).filter(|both| *both > 0)
        {
            match memory {
                None => return Err(LimitConflict::SwapWithoutMemory),
                Some(memory) if memory > both && change.memory_swap.is_none() => {
                    return Err(LimitConflict::MemoryAboveSwap);
                }
                Some(memory) if memory > both => return Err(LimitConflict::SwapBelowMemory),
                Some(_) => {}
            }
        }
        match (memory, self.memory_reservation) {
            (Some(memory), Some(reserved)) if reserved > memory => Err(LimitConflict::ReservationAboveMemory),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(memory: u64, both: i64) -> Limits {
        Limits {
            memory: Some(memory).filter(|memory| *memory > 0),
            memory_swap: Some(both).filter(|both| *both != 0),
            ..Limits::default()
        }
    }

    #[test]
    fn what_is_not_named_stays() {
        let before =
            Limits { cpu_shares: Some(512), pids: Some(9), cpu_period: Some(1000), ..memory(100, 300) };
        let change =
            Limits { pids: Some(-1), cpu_shares: Some(0), cpu_quota: Some(500), ..Limits::default() };
        let (all, told) = before.changed(&change).unwrap();
        assert_eq!(all, Limits { pids: Some(-1), cpu_quota: Some(500), ..before });
        let period = Some(1000);
        assert_eq!(
            told,
            Limits { pids: Some(-1), cpu_quota: Some(500), cpu_period: period, ..Limits::default() }
        );
    }

    #[test]
    fn memory_and_swap_space_have_to_fit() {
        let change = |before: Limits, change: Limits| before.changed(&change).map(|(all, _)| all);
        assert_eq!(change(memory(100, 200), memory(200, 0)), Ok(memory(200, 200)));
        assert_eq!(change(memory(100, 200), memory(201, 0)), Err(LimitConflict::MemoryAboveSwap));
        assert_eq!(change(memory(100, 200), memory(300, 400)), Ok(memory(300, 400)));
        assert_eq!(change(memory(100, 0), memory(300, 0)), Ok(memory(300, 0)));
        assert_eq!(change(memory(100, -1), memory(300, 0)), Ok(memory(300, -1)));
        assert_eq!(change(memory(100, 0), memory(0, 50)), Err(LimitConflict::SwapBelowMemory));
        assert_eq!(change(memory(0, 0), memory(0, 50)), Err(LimitConflict::SwapWithoutMemory));
        let reserved = Limits { memory_reservation: Some(70), ..memory(0, 0) };
        assert_eq!(change(memory(60, 0), reserved), Err(LimitConflict::ReservationAboveMemory));
    }
}
