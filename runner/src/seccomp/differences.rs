//! The default profile beside Docker's: the same answer to every call, asked of the programs that the kernel
//! would run.
//!
//! What Docker's profile says is recorded in `docker.facts`. A test makes a profile file of it, once for every set
//! of capabilities that matters, and asks its filter and ours about every number of every architecture, with
//! arguments where arguments decide. So it tests three things at once: our table of rules, our compiler of
//! profile files, and what they share.
//!
//! Where we differ, and why, is [`DIFFERENCES`].

use serde_json::{Value, json};
use sys::seccomp::Filter;

use super::compiler::ARCHITECTURES;
use super::file::ProfileFile;
use super::interpreter::{Call, ask};
use super::numbers::NUMBERS;
use super::{custom_filter, default_filter};
use crate::capabilities::CapabilitySet;

const FACTS: &str = include_str!("docker.facts");

/// A call that may be answered differently, and why that is right.
struct Difference {
    name: &'static str,
    /// Only where a set bit of the upper half of the first argument makes the difference.
    upper_half: bool,
    #[allow(dead_code, reason = "the reason is for readers")]
    reason: &'static str,
}

const DIFFERENCES: [Difference; 2] = [
    Difference {
        name: "socket",
        upper_half: true,
        reason: "the kernel takes the address family as a number of 32 bits, so we look at no more",
    },
    Difference {
        name: "personality",
        upper_half: true,
        reason: "the kernel takes the execution domain as a number of 32 bits, so we look at no more; \
                 programs pass -1 in 64 bits to ask for the current one",
    },
];

/// A line of facts as a rule of a profile file.
fn rule(line: &str) -> Value {
    let fields: Vec<&str> = line.split('|').map(str::trim).collect();
    let [action, conditions, names] = fields[..] else { panic!("{line}") };
    let mut rule = json!({ "names": names.split(' ').collect::<Vec<_>>(), "args": [] });
    match action.split_once(' ') {
        Some(("fail", number)) => {
            rule["action"] = json!("SCMP_ACT_ERRNO");
            rule["errnoRet"] = json!(number.parse::<u32>().unwrap());
        }
        _ => rule["action"] = json!("SCMP_ACT_ALLOW"),
    }
    for condition in conditions.split(',').map(str::trim).filter(|condition| !condition.is_empty()) {
        match condition.split(' ').collect::<Vec<_>>()[..] {
            ["kernel", version] => rule["includes"]["minKernel"] = json!(version),
            ["arch", name] => rule["includes"]["arches"] = json!([name]),
            ["with", name] => rule["includes"]["caps"] = json!([format!("CAP_{name}")]),
            ["without", name] => rule["excludes"]["caps"] = json!([format!("CAP_{name}")]),
            ["arg0", operator, value] => {
                let value = value.parse::<u64>().unwrap();
                rule["args"] = json!([{ "index": 0, "value": value, "op": format!("SCMP_CMP_{operator}") }]);
            }
            _ => panic!("{line}"),
        }
    }
    rule
}

/// Docker's profile as a file.
fn docker() -> ProfileFile {
    let lines = FACTS.lines().filter(|line| !line.starts_with('#'));
    let profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "archMap": [
            { "architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"] },
            { "architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"] },
            { "architecture": "SCMP_ARCH_RISCV64", "subArchitectures": null },
        ],
        "syscalls": lines.map(rule).collect::<Vec<_>>(),
    });
    ProfileFile::parse(profile.to_string().as_bytes(), "6.18.0").unwrap()
}

/// None, Docker's, all; and Docker's with one more or one less, for every capability.
fn capability_sets() -> Vec<CapabilitySet> {
    let default = CapabilitySet::docker_default();
    let mut sets = vec![CapabilitySet::EMPTY, default, CapabilitySet::ALL];
    for name in CapabilitySet::ALL.names() {
        let one = CapabilitySet::named(name).unwrap();
        sets.push(CapabilitySet::from_bits(default.bits() ^ one.bits()));
    }
    sets
}

/// First arguments: everything that a rule of either side compares with, its neighbours, and every bit.
fn arguments() -> Vec<u64> {
    let bits = (0..64).map(|bit| 1u64 << bit);
    let personas = [0x2_0008, 0x2_0000, 0xffff_ffff, u64::MAX, 0x7e02_0000, 0x003d_0f00, 0x7c02_0011];
    let near =
        personas.into_iter().flat_map(|value: u64| [value.wrapping_sub(1), value, value.wrapping_add(1)]);
    (0..64).chain(bits).chain(near).chain((0..64).map(|family| family | 1 << 32)).collect()
}

/// The calls of a number that may be answered differently: all with this first argument or not.
fn may_differ(names: &[&str], argument: u64) -> bool {
    DIFFERENCES
        .iter()
        .any(|difference| names.contains(&difference.name) && (!difference.upper_half || argument >> 32 != 0))
}

/// The calls to which two filters give different answers.
fn compare(ours: &Filter, theirs: &Filter, arguments: &[u64]) -> Vec<String> {
    let mut different = Vec::new();
    for architecture in &ARCHITECTURES {
        let private = 0xf_0000..0xf_0010;
        for number in (0..520).chain(private).chain([0x4000_0000, 0x4000_0001, u32::MAX]) {
            let called = |numbers: &[i32; 4]| i64::from(numbers[architecture.column]) == i64::from(number);
            let names: Vec<&str> =
                NUMBERS.iter().filter(|(_, numbers)| called(numbers)).map(|(name, _)| *name).collect();
            for &argument in arguments {
                let arguments = [argument, 0, 0, 0, 0, 0];
                let call = Call { architecture: architecture.audit, number, arguments };
                let (answer, expected) = (ask(ours, &call).0, ask(theirs, &call).0);
                if answer != expected && !may_differ(&names, argument) {
                    different.push(format!("{names:?} {call:x?}: {answer:#x}, in Docker {expected:#x}"));
                }
            }
        }
    }
    different
}

#[test]
fn the_default_profile_answers_every_call_as_docker_s() {
    let docker = docker();
    let (plain, thorough) = ([0, u64::MAX], arguments());
    for (number, capabilities) in capability_sets().into_iter().enumerate() {
        let ours = default_filter(capabilities).unwrap();
        let theirs = custom_filter(&docker.for_capabilities(capabilities)).unwrap();
        // What arguments decide depends on one capability only; the first three sets have it and have it not.
        let arguments = if number < 3 { &thorough[..] } else { &plain[..] };
        let different = compare(&ours, &theirs, arguments);
        assert!(different.is_empty(), "{capabilities:?}: {different:#?}");
    }
}

#[test]
fn the_facts_name_known_calls_and_nothing_twice() {
    let mut unconditional = Vec::new();
    for line in FACTS.lines().filter(|line| !line.starts_with('#')) {
        let names = line.rsplit('|').next().unwrap().split_whitespace();
        for name in names {
            let known = NUMBERS.iter().any(|(known, _)| *known == name);
            assert!(known || name == "riscv_hwprobe", "{name}");
            if line.starts_with("allow | | ") {
                assert!(!unconditional.contains(&name), "{name} is there twice");
                unconditional.push(name);
            }
        }
    }
    assert!(unconditional.len() > 300);
}

#[test]
fn a_difference_that_is_not_listed_is_found() {
    let ours = default_filter(CapabilitySet::docker_default()).unwrap();
    let theirs = custom_filter(&docker().for_capabilities(CapabilitySet::EMPTY)).unwrap();
    let different = compare(&ours, &theirs, &[0]);
    assert!(different.iter().all(|one| one.contains("chroot")) && !different.is_empty(), "{different:#?}");
}
