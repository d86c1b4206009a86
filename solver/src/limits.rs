//! How much runs at once, and what goes first. Pure.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use llb::Op;

/// What kind of resource an action mostly waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// A user's process: it may wait for anything, so many may run.
    Process,
    /// Files of this machine: more than the disk and the cores can feed only slows all down.
    Files,
    /// The network.
    Network,
}

impl Class {
    /// The class of running `op`.
    pub fn of(op: &Op) -> Self {
        match op {
            Op::Exec(_) => Self::Process,
            Op::File(_) | Op::Merge | Op::Diff => Self::Files,
            Op::Source(_) => Self::Network,
        }
    }
}

/// How many actions of each class may run at once; at least one each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of [`Class::Process`].
    pub process: usize,
    /// Of [`Class::Files`].
    pub files: usize,
    /// Of [`Class::Network`].
    pub network: usize,
}

impl Limits {
    /// Sensible limits for a machine with `cores` cores. Steps often sleep or wait for the network, so
    /// processes get eight at least. `docs/design/0015` says why these.
    pub fn for_cores(cores: usize) -> Self {
        Self { process: (cores * 4).max(8), files: cores.max(2) * 2, network: 8 }
    }

    /// The same with another number of processes.
    #[must_use]
    pub fn with_processes(self, process: usize) -> Self {
        Self { process, ..self }
    }

    fn of(&self, class: Class) -> usize {
        match class {
            Class::Process => self.process.max(1),
            Class::Files => self.files.max(1),
            Class::Network => self.network.max(1),
        }
    }
}

/// Actions that are ready, given out by class limit and priority.
pub struct ReadyQueue<A> {
    limits: Limits,
    running: [usize; 3],
    waiting: [BinaryHeap<Entry<A>>; 3],
    sequence: u64,
}

struct Entry<A> {
    priority: u64,
    sequence: Reverse<u64>,
    action: A,
}

impl<A> ReadyQueue<A> {
    /// An empty queue.
    pub fn new(limits: Limits) -> Self {
        Self { limits, running: [0; 3], waiting: std::array::from_fn(|_| BinaryHeap::new()), sequence: 0 }
    }

    /// Adds an action; a higher priority goes first, equals in order of arrival.
    pub fn push(&mut self, class: Class, priority: u64, action: A) {
        self.sequence += 1;
        let entry = Entry { priority, sequence: Reverse(self.sequence), action };
        self.waiting[class as usize].push(entry);
    }

    /// Takes the next action that may start now.
    pub fn pop(&mut self) -> Option<(Class, A)> {
        for class in [Class::Process, Class::Network, Class::Files] {
            let slot = class as usize;
            if self.running[slot] < self.limits.of(class)
                && let Some(entry) = self.waiting[slot].pop()
            {
                self.running[slot] += 1;
                return Some((class, entry.action));
            }
        }
        None
    }

    /// An action of `class` has ended.
    pub fn finished(&mut self, class: Class) {
        self.running[class as usize] -= 1;
    }

    /// Forgets everything that has not started.
    pub fn clear(&mut self) {
        self.waiting.iter_mut().for_each(BinaryHeap::clear);
    }

    /// How many actions run now.
    pub fn running(&self) -> usize {
        self.running.iter().sum()
    }
}

impl<A> Entry<A> {
    fn rank(&self) -> (u64, Reverse<u64>) {
        (self.priority, self.sequence)
    }
}

impl<A> PartialEq for Entry<A> {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl<A> Eq for Entry<A> {}

impl<A> PartialOrd for Entry<A> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<A> Ord for Entry<A> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

/// For every vertex, how many vertices lie on the longest way from it to a target, itself included. A vertex
/// with a long way to go starts first, because the build cannot end before it.
pub fn distances(graph: &llb::Graph) -> Vec<u64> {
    longest_ways(graph, &[])
}

/// The same with the cost of each vertex by its index, in any unit, as far as it is known. What is not known
/// counts as the mean of what is.
pub fn longest_ways(graph: &llb::Graph, costs: &[Option<u64>]) -> Vec<u64> {
    let known = || costs.iter().flatten();
    let sum = known().fold(0u64, |sum, cost| sum.saturating_add(*cost));
    let mean = sum.checked_div(known().count() as u64).unwrap_or(0).max(1);
    let mut ways = vec![0u64; graph.len()];
    for vertex in graph.topological().iter().rev() {
        let onward =
            graph.consumers(*vertex).iter().map(|consumer| ways[consumer.index()]).max().unwrap_or(0);
        // Equal vertices still count: of two ways that cost nothing, the one with more to do goes first.
        let cost = costs.get(vertex.index()).copied().flatten().unwrap_or(mean).max(1);
        ways[vertex.index()] = onward.saturating_add(cost);
    }
    ways
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_machines_have_room_for_steps_that_wait() {
        let processes = |cores| Limits::for_cores(cores).process;
        assert_eq!([1, 2, 3, 64].map(processes), [8, 8, 12, 256]);
        let one = Limits::for_cores(4).with_processes(1);
        assert_eq!((one.process, one.files, one.network), (1, 8, 8));
    }

    #[test]
    fn limits_hold_and_priority_then_arrival_decide() {
        let mut queue = ReadyQueue::new(Limits { process: 2, files: 1, network: 1 });
        queue.push(Class::Process, 1, "low");
        queue.push(Class::Process, 5, "high");
        queue.push(Class::Process, 1, "later");
        assert_eq!(queue.pop(), Some((Class::Process, "high")));
        assert_eq!(queue.pop(), Some((Class::Process, "low")));
        assert_eq!(queue.pop(), None);
        queue.finished(Class::Process);
        assert_eq!(queue.pop(), Some((Class::Process, "later")));
    }
}
