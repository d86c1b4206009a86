//! Filters for profiles that somebody wrote: the `seccomp` of an OCI runtime spec (`config-linux.md`).
//!
//! Of the rules for a call the first decides whose comparisons all hold, and the default action where none does.
//! As in other runtimes, calls that are newer than all that a profile names fail with `ENOSYS` where the default
//! action is an error, so that programs fall back to what they did before the call existed. Names that no
//! architecture has are passed over: a profile may be newer than we are.
//!
//! Not here: filters that ask another process (`SCMP_ACT_NOTIFY`), and the flags, which change logging and
//! speculation but nothing of what is allowed.

use std::collections::BTreeMap;
use std::sync::Arc;

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall,
};
use sys::seccomp::{Filter, Instruction};

use super::compiler::{ARCHITECTURES, Architecture, FAIL, assemble, cover, number};
use super::compiler::{argument_words, finish, load};
use super::error::SeccompError;
use super::profile::NOT_IMPLEMENTED;

/// Numbers from here on are of the x32 variant of x86-64. It is told that it does not exist.
const X32: u32 = 0x4000_0000;

/// The largest error number that the kernel hands out (`MAX_ERRNO`).
const LARGEST_ERRNO: u32 = 4095;
/// The largest number that a tracing process can be told.
const LARGEST_MESSAGE: u32 = 0xffff;

const AND: u16 = 0x54;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;

/// What happens to the calls of one number.
#[derive(Clone, PartialEq)]
struct Decision {
    cases: Vec<Case>,
    otherwise: u32,
}

/// What happens to calls for which all comparisons hold: the instructions that find out and, if so, end the
/// program.
type Case = Vec<Instruction>;

/// The filter of a profile.
pub(crate) fn filter(profile: &LinuxSeccomp) -> Result<Arc<Filter>, SeccompError> {
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let rules = profile.syscalls().iter().flatten().map(Rule::of).collect::<Result<Vec<_>, _>>()?;
    let above = match profile.default_action() {
        LinuxSeccompAction::ScmpActErrno => FAIL | u32::from(NOT_IMPLEMENTED),
        _ => default,
    };
    let ranges = |architecture: &Architecture| ranges(&rules, architecture, default, above);
    let filter = assemble(architectures(profile), ranges, |decision, program| {
        decision.cases.iter().for_each(|case| program.extend(case));
        program.push(finish(decision.otherwise));
    })?;
    Ok(Arc::new(filter))
}

/// A rule of the profile, ready to be used for any architecture.
struct Rule<'p> {
    names: &'p [String],
    case: Case,
    unconditional: bool,
}

impl<'p> Rule<'p> {
    fn of(syscall: &'p LinuxSyscall) -> Result<Self, SeccompError> {
        let comparisons = syscall.args().as_deref().unwrap_or_default();
        let case = case(comparisons, action(syscall.action(), syscall.errno_ret())?)?;
        Ok(Self { names: syscall.names(), case, unconditional: comparisons.is_empty() })
    }
}

fn ranges(rules: &[Rule<'_>], architecture: &Architecture, default: u32, above: u32) -> Vec<(u32, Decision)> {
    let mut calls: BTreeMap<u32, (Vec<Case>, bool)> = BTreeMap::new();
    for rule in rules {
        for number in rule.names.iter().filter_map(|name| number(name, architecture.column)) {
            let (cases, decided) = calls.entry(number).or_default();
            if !*decided {
                cases.push(rule.case.clone());
                *decided = rule.unconditional;
            }
        }
    }
    let plain = |otherwise| Decision { cases: Vec::new(), otherwise };
    let decisions =
        calls.into_iter().map(|(number, (cases, _))| (number, Decision { cases, otherwise: default }));
    let mut ranges = cover(decisions, plain(default), plain(above));
    ranges.push((X32, plain(FAIL | u32::from(NOT_IMPLEMENTED))));
    ranges
}

/// The architectures of this machine whose calls a profile judges; all others' are fatal.
fn architectures(profile: &LinuxSeccomp) -> &'static [Architecture] {
    let [native, compatible] = &ARCHITECTURES;
    let named = |one: &Architecture| {
        profile.architectures().iter().flatten().any(|arch: &Arch| *arch as u32 == one.audit)
    };
    if named(compatible) { &ARCHITECTURES } else { std::slice::from_ref(native) }
}

/// What a filter returns for an action (`seccomp(2)`).
fn action(action: LinuxSeccompAction, number: Option<u32>) -> Result<u32, SeccompError> {
    let largest = match action {
        LinuxSeccompAction::ScmpActNotify => return Err(SeccompError::Action(action)),
        LinuxSeccompAction::ScmpActTrace => LARGEST_MESSAGE,
        _ => LARGEST_ERRNO,
    };
    match number {
        Some(number) if number > largest => Err(SeccompError::ErrorNumber(number, largest)),
        number => Ok(action.as_u32(number)),
    }
}

/// The instructions of a case. When a comparison does not hold they jump behind the last one.
fn case(comparisons: &[LinuxSeccompArg], action: u32) -> Result<Case, SeccompError> {
    let mut case = vec![finish(action)];
    for one in comparisons.iter().rev() {
        let tests = tests(one)?;
        let mut body = Vec::with_capacity(tests.len() + case.len());
        for (at, test) in tests.iter().enumerate() {
            let holds = tests.len() - at - 1;
            let distance = |target: Target| match target {
                Target::Next => Ok(0),
                Target::Holds => u8::try_from(holds),
                Target::Fails => u8::try_from(holds + case.len()),
            };
            let too_many = |_| SeccompError::Comparisons(comparisons.len());
            body.push(Instruction {
                jump_true: distance(test.if_true).map_err(too_many)?,
                jump_false: distance(test.if_false).map_err(too_many)?,
                ..test.instruction
            });
        }
        body.append(&mut case);
        case = body;
    }
    Ok(case)
}

/// Where the program goes on after an instruction of a comparison.
#[derive(Clone, Copy)]
enum Target {
    /// At the next instruction.
    Next,
    /// After the comparison, which holds.
    Holds,
    /// After the case, which does not.
    Fails,
}

/// An instruction of a comparison and where it leads.
struct Test {
    instruction: Instruction,
    if_true: Target,
    if_false: Target,
}

/// The instructions that compare an argument, which has 64 bits, with a value: the high half, then the low one.
fn tests(comparison: &LinuxSeccompArg) -> Result<Vec<Test>, SeccompError> {
    use LinuxSeccompOperator as Operator;
    use Target::{Fails, Holds, Next};
    let index = u8::try_from(comparison.index()).ok().filter(|index| *index < 6);
    let (low, high) = argument_words(index.ok_or(SeccompError::Argument(comparison.index()))?);
    let halves = |value: u64| (value as u32, (value >> 32) as u32);
    let (low_value, high_value) = halves(comparison.value());
    let plain = |instruction| Test { instruction, if_true: Next, if_false: Next };
    let jump = |code, operand, if_true, if_false| Test {
        instruction: Instruction { code, jump_true: 0, jump_false: 0, operand },
        if_true,
        if_false,
    };
    // Larger, by the high halves alone or by the low ones; and its opposite.
    let order = |code, above, below| {
        vec![
            plain(load(high)),
            jump(JUMP_GREATER, high_value, above, Next),
            jump(JUMP_EQUAL, high_value, Next, below),
            plain(load(low)),
            jump(code, low_value, above, below),
        ]
    };
    let equal = |(low_mask, low_value), (high_mask, high_value), same, other| {
        let mask = |mask| plain(Instruction { code: AND, jump_true: 0, jump_false: 0, operand: mask });
        vec![
            plain(load(high)),
            mask(high_mask),
            jump(JUMP_EQUAL, high_value, Next, other),
            plain(load(low)),
            mask(low_mask),
            jump(JUMP_EQUAL, low_value, same, other),
        ]
    };
    let (low_whole, high_whole) = ((u32::MAX, low_value), (u32::MAX, high_value));
    Ok(match comparison.op() {
        Operator::ScmpCmpGt => order(JUMP_GREATER, Holds, Fails),
        Operator::ScmpCmpGe => order(JUMP_GREATER_EQUAL, Holds, Fails),
        Operator::ScmpCmpLe => order(JUMP_GREATER, Fails, Holds),
        Operator::ScmpCmpLt => order(JUMP_GREATER_EQUAL, Fails, Holds),
        Operator::ScmpCmpEq => equal(low_whole, high_whole, Holds, Fails),
        Operator::ScmpCmpNe => equal(low_whole, high_whole, Fails, Holds),
        Operator::ScmpCmpMaskedEq => {
            let (low_wanted, high_wanted) = halves(comparison.value_two().unwrap_or(0));
            equal((low_value, low_wanted), (high_value, high_wanted), Holds, Fails)
        }
    })
}

#[cfg(test)]
mod tests;
