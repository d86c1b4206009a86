//! From rules to a program of classic BPF.
//!
//! The program first looks at the architecture of the call, then finds the rule for its number by binary
//! search over ranges of numbers with the same rule: about eight comparisons instead of four hundred, and
//! a program of some hundred instructions that the kernel checks and compiles in microseconds. Source for
//! layout and codes: `seccomp(2)`, `linux/filter.h`.

use sys::seccomp::{Filter, FilterSizeError, Instruction};

use super::numbers::NUMBERS;
use super::profile::{GROUPS, NOT_IMPLEMENTED, NOT_PERMITTED, Rule};
use crate::capabilities::CapabilitySet;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const JUMP_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

const ALLOW: u32 = 0x7fff_0000;
/// Fails with the error number in the low bits.
pub(super) const FAIL: u32 = 0x0005_0000;
const KILL_PROCESS: u32 = 0x8000_0000;

/// An architecture whose calls a filter sees: `AUDIT_ARCH_…` and the column of [`NUMBERS`].
pub(super) struct Architecture {
    pub(super) audit: u32,
    pub(super) column: usize,
}

/// The architectures of programs that this machine runs: its own, then the 32-bit one. The x32 variant of
/// x86-64 has numbers far above all others and so fails with `ENOSYS`, as on kernels without it.
#[cfg(target_arch = "x86_64")]
pub(super) const ARCHITECTURES: [Architecture; 2] =
    [Architecture { audit: 0xc000_003e, column: 0 }, Architecture { audit: 0x4000_0003, column: 1 }];
#[cfg(target_arch = "aarch64")]
pub(super) const ARCHITECTURES: [Architecture; 2] =
    [Architecture { audit: 0xc000_00b7, column: 2 }, Architecture { audit: 0x4000_0028, column: 3 }];

/// Compiles the default profile for a container with these capabilities.
pub(super) fn compile(capabilities: CapabilitySet) -> Result<Filter, FilterSizeError> {
    assemble(&ARCHITECTURES, |architecture| ranges(&rules(capabilities, architecture.column)), apply)
}

/// A program that decides by architecture, then by number. `ranges` gives what holds for calls of an
/// architecture: each entry from its number up to the next entry's, never empty. `apply` appends the
/// instructions of a rule, which end the program.
pub(super) fn assemble<R>(
    architectures: &[Architecture],
    ranges: impl Fn(&Architecture) -> Vec<(u32, R)>,
    apply: impl Fn(&R, &mut Vec<Instruction>),
) -> Result<Filter, FilterSizeError> {
    let mut program = vec![load(ARCHITECTURE)];
    for architecture in architectures {
        let mut body = vec![load(NUMBER)];
        search(&ranges(architecture), &apply, &mut body);
        // Another architecture: go on after this one's body.
        program.push(jump_if(JUMP_EQUAL, architecture.audit, 1, 0));
        program.push(jump(body.len()));
        program.extend(body);
    }
    // A call of an architecture that the machine cannot run, or that nobody allowed: somebody plays tricks.
    program.push(finish(KILL_PROCESS));
    Filter::new(program)
}

/// The number of a call by name, where the architecture has such a call.
pub(super) fn number(name: &str, column: usize) -> Option<u32> {
    let found = NUMBERS.binary_search_by_key(&name, |(known, _)| known).ok()?;
    let (_, numbers) = NUMBERS.get(found)?;
    u32::try_from(*numbers.get(column)?).ok()
}

/// The rules by number, sorted, each number once.
fn rules(capabilities: CapabilitySet, column: usize) -> Vec<(u32, Rule)> {
    let groups = GROUPS.iter().filter(|group| group.when.holds_for(capabilities));
    let named = groups.flat_map(|group| group.names.iter().map(|name| (*name, group.rule)));
    let mut rules: Vec<(u32, Rule)> =
        named.filter_map(|(name, rule)| Some((number(name, column)?, rule))).collect();
    // The sort is stable: of several rules for a number, the first group's stays.
    rules.sort_by_key(|(number, _)| *number);
    rules.dedup_by_key(|(number, _)| *number);
    rules
}

/// Covers all numbers: each entry holds from its number up to the next entry's.
fn ranges(rules: &[(u32, Rule)]) -> Vec<(u32, Rule)> {
    cover(rules.iter().copied(), Rule::Fail(NOT_PERMITTED), Rule::Fail(NOT_IMPLEMENTED))
}

/// Covers all numbers with sorted rules: `between` holds for the numbers that have none, and `above` for those
/// above all that have one.
pub(super) fn cover<R: PartialEq + Clone>(
    rules: impl IntoIterator<Item = (u32, R)>,
    between: R,
    above: R,
) -> Vec<(u32, R)> {
    let mut ranges = Vec::new();
    let mut next = 0;
    for (number, rule) in rules {
        if next < number {
            push_range(&mut ranges, next, between.clone());
        }
        push_range(&mut ranges, number, rule);
        next = number + 1;
    }
    push_range(&mut ranges, next, above);
    ranges
}

fn push_range<R: PartialEq>(ranges: &mut Vec<(u32, R)>, start: u32, rule: R) {
    if ranges.last().is_none_or(|(_, last)| *last != rule) {
        ranges.push((start, rule));
    }
}

/// Appends a binary search for the loaded number. The ranges are never empty.
fn search<R>(
    ranges: &[(u32, R)],
    apply: &impl Fn(&R, &mut Vec<Instruction>),
    program: &mut Vec<Instruction>,
) {
    let (low, high) = ranges.split_at(ranges.len() / 2);
    match (low, high) {
        ([], [(_, rule)]) => apply(rule, program),
        (_, [(start, _), ..]) => {
            let mut body = Vec::new();
            search(low, apply, &mut body);
            match u8::try_from(body.len()) {
                Ok(distance) => program.push(jump_if(JUMP_GREATER_EQUAL, *start, distance, 0)),
                Err(_) => {
                    program.push(jump_if(JUMP_GREATER_EQUAL, *start, 0, 1));
                    program.push(jump(body.len()));
                }
            }
            program.extend(body);
            search(high, apply, program);
        }
        (_, []) => {}
    }
}

fn apply(rule: &Rule, program: &mut Vec<Instruction>) {
    match *rule {
        Rule::Allow => program.push(finish(ALLOW)),
        Rule::Fail(errno) => program.push(finish(FAIL | u32::from(errno))),
        Rule::AllowIfClear { argument, bits } => {
            program.push(load(low_word(argument)));
            program.push(jump_if(JUMP_ANY_BIT, bits, 1, 0));
            program.push(finish(ALLOW));
            program.push(finish(FAIL | u32::from(NOT_PERMITTED)));
        }
        Rule::AllowIfIn { argument, ranges } => {
            program.push(load(low_word(argument)));
            for (first, last) in ranges {
                program.push(jump_if(JUMP_GREATER_EQUAL, *first, 0, 2));
                program.push(jump_if(JUMP_GREATER, *last, 1, 0));
                program.push(finish(ALLOW));
            }
            program.push(finish(FAIL | u32::from(NOT_PERMITTED)));
        }
    }
}

/// Where the low half of an argument is. The calls with argument rules take 32-bit arguments, of which
/// the kernel ignores the high half, so it must not decide here either.
fn low_word(argument: u8) -> u32 {
    ARGUMENTS + 8 * u32::from(argument)
}

/// Where the low and the high half of an argument are.
pub(super) fn argument_words(argument: u8) -> (u32, u32) {
    (low_word(argument), low_word(argument) + 4)
}

pub(super) fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD, jump_true: 0, jump_false: 0, operand: offset }
}

fn jump(distance: usize) -> Instruction {
    // Programs are limited to 4096 instructions, which Filter::new checks.
    let operand = u32::try_from(distance).unwrap_or(u32::MAX);
    Instruction { code: JUMP, jump_true: 0, jump_false: 0, operand }
}

fn jump_if(code: u16, operand: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code, jump_true, jump_false, operand }
}

pub(super) fn finish(action: u32) -> Instruction {
    Instruction { code: RETURN, jump_true: 0, jump_false: 0, operand: action }
}

#[cfg(test)]
mod tests {
    use super::super::interpreter::{Call, ask, fails};
    use super::super::profile::GROUPS;
    use super::*;

    fn evaluate(filter: &Filter, architecture: u32, number: u32, arguments: [u64; 6]) -> (u32, usize) {
        ask(filter, &Call { architecture, number, arguments })
    }

    fn native(filter: &Filter, name: &str, first: u64) -> u32 {
        let (_, numbers) = NUMBERS.iter().find(|(known, _)| *known == name).unwrap();
        let number = u32::try_from(numbers[ARCHITECTURES[0].column]).unwrap();
        evaluate(filter, ARCHITECTURES[0].audit, number, [first, 0, 0, 0, 0, 0]).0
    }

    fn default() -> Filter {
        compile(CapabilitySet::docker_default()).unwrap()
    }

    const EPERM: u32 = fails(1);
    const ENOSYS: u32 = fails(38);

    #[test]
    fn every_number_gets_the_rule_of_its_group() {
        let filter = default();
        for architecture in &ARCHITECTURES {
            let rules = rules(CapabilitySet::docker_default(), architecture.column);
            let highest = rules.last().unwrap().0;
            for number in 0..highest + 50 {
                let expected = match rules.iter().find(|(known, _)| *known == number) {
                    Some((_, Rule::Allow)) => ALLOW,
                    Some((_, Rule::Fail(errno))) => FAIL | u32::from(*errno),
                    Some(_) => continue,
                    None if number > highest => ENOSYS,
                    None => EPERM,
                };
                let (found, steps) = evaluate(&filter, architecture.audit, number, [0; 6]);
                assert_eq!(found, expected, "call {number} of {:#x}", architecture.audit);
                assert!(steps < 25, "call {number} takes {steps} instructions");
            }
        }
    }

    #[test]
    fn dangerous_calls_depend_on_capabilities() {
        let filter = default();
        for name in ["mount", "unshare", "setns", "bpf", "reboot", "open_by_handle_at", "perf_event_open"] {
            assert_eq!(native(&filter, name, 0), EPERM, "{name}");
        }
        assert_eq!(native(&filter, "chroot", 0), ALLOW);
        let all = compile(CapabilitySet::ALL).unwrap();
        for name in ["mount", "unshare", "setns", "bpf", "reboot", "clone3", "clone"] {
            assert_eq!(native(&all, name, u64::MAX), ALLOW, "{name}");
        }
    }

    #[test]
    fn clone_makes_no_namespaces() {
        let filter = default();
        let (thread, new_user, new_pid) = (0x003d_0f00, 0x1000_0000, 0x2000_0000);
        assert_eq!(native(&filter, "clone", thread), ALLOW);
        assert_eq!(native(&filter, "clone", thread | new_user), EPERM);
        assert_eq!(native(&filter, "clone", new_pid | 17), EPERM);
        assert_eq!(native(&filter, "clone3", 0), ENOSYS);
    }

    #[test]
    fn address_families_are_limited() {
        let filter = default();
        let (unix, inet, inet6, netlink, xdp) = (1, 2, 10, 16, 44);
        for family in [unix, inet, inet6, netlink, xdp] {
            assert_eq!(native(&filter, "socket", family), ALLOW, "family {family}");
        }
        let (decnet, alg, vsock) = (12, 38, 40);
        for family in [decnet, alg, vsock, 46, u64::from(u32::MAX)] {
            assert_eq!(native(&filter, "socket", family), EPERM, "family {family}");
        }
    }

    #[test]
    fn personality_allows_what_is_in_use() {
        let filter = default();
        for (persona, expected) in
            [(0, ALLOW), (8, ALLOW), (0x2_0008, ALLOW), (u64::from(u32::MAX), ALLOW), (0x004_0000, EPERM)]
        {
            assert_eq!(native(&filter, "personality", persona), expected, "{persona:#x}");
        }
    }

    #[test]
    fn foreign_architectures_are_killed() {
        assert_eq!(evaluate(&default(), 0xdead_beef, 0, [0; 6]).0, KILL_PROCESS);
    }

    #[test]
    fn the_profile_is_well_formed() {
        assert!(NUMBERS.is_sorted_by_key(|(name, _)| name), "the table of numbers is sorted by name");
        for group in GROUPS {
            assert!(!group.reason.is_empty() && !group.names.is_empty());
            for name in group.names {
                assert!(NUMBERS.iter().any(|(known, _)| known == name), "{name} has no number");
            }
        }
    }

    #[test]
    fn programs_are_small() {
        for capabilities in [CapabilitySet::EMPTY, CapabilitySet::docker_default(), CapabilitySet::ALL] {
            let length = compile(capabilities).unwrap().instructions().len();
            assert!(length < 1000, "{length} instructions");
        }
    }
}
