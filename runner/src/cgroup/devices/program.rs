//! The device list of version 2: a program that decides about each access.
//!
//! The kernel hands it the kind of device, the two numbers and the kinds of access that are wanted
//! (`struct bpf_cgroup_dev_ctx`). It goes through the rules from the last to the first, and keeps count of
//! the kinds of access that no rule has decided about yet: a rule that allows takes its own away, and with
//! none left the answer is yes; a rule that refuses any that is left makes it no.
//!
//! Source: the kernel's `linux/bpf.h` and `bpf/standardization/instruction-set.rst`.

use sys::bpf::Instruction;

use super::{Kind, Rule};

/// Registers, by what the program keeps in them. The first two are given by the kernel.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const UNDECIDED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const COMMON: u8 = 6;

// Instruction codes: the class, and what is done.
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb4;
const MOVE_REGISTER: u8 = 0xbc;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const JUMP_IF_EQUAL: u8 = 0x16;
const JUMP_UNLESS_EQUAL: u8 = 0x56;
const EXIT: u8 = 0x95;

/// `BPF_DEVCG_DEV_BLOCK` and `BPF_DEVCG_DEV_CHAR`.
fn number_of(kind: Kind) -> i32 {
    match kind {
        Kind::Block => 1,
        Kind::Character => 2,
    }
}

/// The program of some rules.
pub(super) fn of(rules: &[Rule]) -> Vec<Instruction> {
    let mut program = vec![
        // The kind is in the lower half of the first word, the access in the upper one.
        load(KIND, 0),
        register(MOVE_REGISTER, UNDECIDED, KIND),
        number(SHIFT_RIGHT, UNDECIDED, 16),
        number(AND, KIND, 0xffff),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    for rule in rules.iter().rev() {
        program.extend(one(rule));
    }
    program.extend(answer(0));
    program
}

/// The part of one rule: what does not apply jumps behind it.
fn one(rule: &Rule) -> Vec<Instruction> {
    let decision = decision(rule);
    let conditions = [
        rule.kind.map(|kind| (KIND, number_of(kind))),
        // The upper half of the numbers cannot be told from negative ones, and is compared the same.
        rule.major.map(|major| (MAJOR, major as i32)),
        rule.minor.map(|minor| (MINOR, minor as i32)),
    ];
    let conditions: Vec<_> = conditions.into_iter().flatten().collect();
    let behind = |index: usize| conditions.len() - index - 1 + decision.len();
    let jumps = conditions.iter().enumerate();
    let jumps = jumps.map(|(index, &(from, value))| jump(JUMP_UNLESS_EQUAL, from, value, behind(index)));
    jumps.chain(decision.iter().copied()).collect()
}

fn decision(rule: &Rule) -> Vec<Instruction> {
    let bits = i32::from(rule.access.0);
    let test = match rule.allow {
        true => vec![number(AND, UNDECIDED, !bits), jump(JUMP_UNLESS_EQUAL, UNDECIDED, 0, 2)],
        false => vec![
            register(MOVE_REGISTER, COMMON, UNDECIDED),
            number(AND, COMMON, bits),
            jump(JUMP_IF_EQUAL, COMMON, 0, 2),
        ],
    };
    test.into_iter().chain(answer(i32::from(rule.allow))).collect()
}

fn answer(value: i32) -> [Instruction; 2] {
    [number(MOVE, ANSWER, value), number(EXIT, 0, 0)]
}

fn load(to: u8, offset: i16) -> Instruction {
    Instruction::new(LOAD_WORD, to, CONTEXT, offset, 0)
}

fn number(code: u8, register: u8, value: i32) -> Instruction {
    Instruction::new(code, register, 0, 0, value)
}

fn register(code: u8, to: u8, from: u8) -> Instruction {
    Instruction::new(code, to, from, 0, 0)
}

/// A jump over so many instructions. Those of one rule are few.
fn jump(code: u8, register: u8, value: i32, over: usize) -> Instruction {
    Instruction::new(code, register, 0, over as i16, value)
}

#[cfg(test)]
mod tests {
    use super::super::{Access, DEFAULTS};
    use super::*;

    /// Runs a program as the kernel does: the context is three words.
    fn run(program: &[Instruction], context: [u32; 3]) -> bool {
        let mut registers = [0u32; 11];
        let mut next = 0usize;
        loop {
            let instruction = program[next];
            next += 1;
            let (to, from) = (usize::from(instruction.destination()), usize::from(instruction.source()));
            let value = instruction.immediate as u32;
            let skip = usize::try_from(instruction.offset).unwrap();
            match instruction.code {
                LOAD_WORD => registers[to] = context[skip / 4],
                MOVE => registers[to] = value,
                MOVE_REGISTER => registers[to] = registers[from],
                AND => registers[to] &= value,
                SHIFT_RIGHT => registers[to] >>= value,
                JUMP_IF_EQUAL if registers[to] == value => next += skip,
                JUMP_UNLESS_EQUAL if registers[to] != value => next += skip,
                JUMP_IF_EQUAL | JUMP_UNLESS_EQUAL => {}
                EXIT => return registers[0] == 1,
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    fn allows(rules: &[Rule], kind: Kind, numbers: (u32, u32), access: &str) -> bool {
        let access = u32::from(Access::parse(access).unwrap().0);
        run(&of(rules), [access << 16 | number_of(kind) as u32, numbers.0, numbers.1])
    }

    fn rule(allow: bool, kind: Option<Kind>, numbers: (Option<u32>, Option<u32>), access: &str) -> Rule {
        let access = Access::parse(access).unwrap();
        Rule { allow, kind, major: numbers.0, minor: numbers.1, access, is_default: false }
    }

    #[test]
    fn the_devices_of_every_container_are_usable_and_others_can_only_be_made() {
        let character = |numbers, access| allows(&DEFAULTS, Kind::Character, numbers, access);
        assert!(character((1, 3), "rw") && character((136, 77), "rwm") && character((5, 2), "r"));
        assert!(character((10, 229), "m") && !character((10, 229), "r") && !character((10, 229), "rm"));
        assert!(!character((10, 200), "rw") && !character((1, 4), "r"));
        assert!(allows(&DEFAULTS, Kind::Block, (8, 0), "m") && !allows(&DEFAULTS, Kind::Block, (8, 0), "r"));
        assert!(!allows(&DEFAULTS, Kind::Block, (1, 3), "r"), "a block device with the number of /dev/null");
    }

    #[test]
    fn the_last_rule_about_an_access_decides() {
        let (any, disk) = ((None, None), (Some(8), Some(1)));
        let rules = [
            rule(false, None, any, "rwm"),
            rule(true, Some(Kind::Block), (Some(8), None), "rw"),
            rule(false, None, disk, "w"),
        ];
        let block = |numbers, access| allows(&rules, Kind::Block, numbers, access);
        assert!(block((8, 0), "rw") && block((8, 1), "r"));
        assert!(!block((8, 1), "w") && !block((8, 1), "rw"), "reading and writing is also writing");
        assert!(!block((8, 0), "m") && !block((9, 0), "r"));
        let again = [&rules[..], &[rule(true, Some(Kind::Block), disk, "w")]].concat();
        assert!(allows(&again, Kind::Block, (8, 1), "rw"));
    }

    #[test]
    fn two_rules_may_allow_an_access_together_and_all_is_all() {
        let both = [
            rule(true, Some(Kind::Character), (Some(10), None), "r"),
            rule(true, Some(Kind::Character), (None, Some(7)), "w"),
        ];
        assert!(allows(&both, Kind::Character, (10, 7), "rw"));
        assert!(!allows(&both, Kind::Character, (10, 8), "rw"));
        let all = [rule(true, None, (None, None), "rwm")];
        assert!(allows(&all, Kind::Block, (u32::MAX, 0), "rwm"));
        let high = [rule(true, None, (Some(u32::MAX), None), "r")];
        assert!(allows(&high, Kind::Block, (u32::MAX, 0), "r") && !allows(&high, Kind::Block, (0, 0), "r"));
        assert!(!allows(&[], Kind::Character, (1, 3), "r"));
    }
}
