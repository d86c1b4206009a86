//! Every operator and action of profiles, as the compiled programs answer.

use super::super::file::ProfileFile;
use super::super::interpreter::{ALLOW, Call, KILL_PROCESS, ask, fails};
use super::*;
use crate::capabilities::CapabilitySet;

const EPERM: u32 = fails(1);
const ENOSYS: u32 = fails(38);

fn profile(text: &str) -> LinuxSeccomp {
    let file = ProfileFile::parse(text.as_bytes(), "6.1").unwrap();
    file.for_capabilities(CapabilitySet::docker_default())
}

fn answer(filter: &Filter, name: &str, arguments: [u64; 6]) -> u32 {
    let number = number(name, ARCHITECTURES[0].column).unwrap();
    ask(filter, &Call { architecture: ARCHITECTURES[0].audit, number, arguments }).0
}

/// The filter of a profile with one rule for `mkdir`-like calls that compares arguments.
fn comparing(args: &str) -> Arc<Filter> {
    filter(&profile(&format!(
        r#"{{ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {{ "names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [{args}] }} ] }}"#
    )))
    .unwrap()
}

#[test]
fn operators_compare_all_64_bits() {
    type Operator = (&'static str, fn(u64, u64) -> bool);
    let operators: [Operator; 6] = [
        ("EQ", |a, b| a == b),
        ("NE", |a, b| a != b),
        ("LT", |a, b| a < b),
        ("LE", |a, b| a <= b),
        ("GT", |a, b| a > b),
        ("GE", |a, b| a >= b),
    ];
    let values = [0, 1, 7, 0xffff_ffff, 1 << 32, (1 << 32) + 7, (7 << 32) + 1, u64::MAX - 1, u64::MAX];
    for (name, holds) in operators {
        for value in values {
            let filter = comparing(&format!(r#"{{"index": 1, "op": "SCMP_CMP_{name}", "value": {value}}}"#));
            for given in values {
                let expected = if holds(given, value) { ALLOW } else { EPERM };
                let found = answer(&filter, "ioctl", [0, given, 0, 0, 0, 0]);
                assert_eq!(found, expected, "{given:#x} {name} {value:#x}");
            }
        }
    }
}

#[test]
fn masked_bits_are_compared_with_the_second_value() {
    let mask = 0xf000_0000_0000_00f0u64;
    let wanted = 0x1000_0000_0000_0020u64;
    let args =
        format!(r#"{{"index": 5, "op": "SCMP_CMP_MASKED_EQ", "value": {mask}, "valueTwo": {wanted}}}"#);
    let filter = comparing(&args);
    for (given, expected) in [
        (wanted, ALLOW),
        (wanted | 0x0fff_0000_0000_000f, ALLOW),
        (wanted | 0x10, EPERM),
        (wanted & u64::from(u32::MAX), EPERM),
        (0, EPERM),
    ] {
        assert_eq!(answer(&filter, "ioctl", [0, 0, 0, 0, 0, given]), expected, "{given:#x}");
    }
}

#[test]
fn all_comparisons_of_a_rule_must_hold() {
    let filter = comparing(
        r#"{"index": 0, "op": "SCMP_CMP_GE", "value": 10}, {"index": 0, "op": "SCMP_CMP_LT", "value": 20},
           {"index": 2, "op": "SCMP_CMP_NE", "value": 3}"#,
    );
    for (arguments, expected) in [
        ([10, 0, 0, 0, 0, 0], ALLOW),
        ([19, 0, 4, 0, 0, 0], ALLOW),
        ([9, 0, 0, 0, 0, 0], EPERM),
        ([20, 0, 0, 0, 0, 0], EPERM),
        ([15, 0, 3, 0, 0, 0], EPERM),
    ] {
        assert_eq!(answer(&filter, "ioctl", arguments), expected, "{arguments:?}");
    }
}

#[test]
fn the_first_rule_that_holds_decides_and_actions_are_the_kernel_s() {
    let filter = filter(&profile(
        r#"{ "defaultAction": "SCMP_ACT_KILL_PROCESS", "syscalls": [
            { "names": ["mkdir", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28,
              "args": [{ "index": 1, "value": 448, "op": "SCMP_CMP_EQ" }] },
            { "names": ["mkdir"], "action": "SCMP_ACT_ALLOW" },
            { "names": ["mkdir"], "action": "SCMP_ACT_KILL" },
            { "name": "rmdir", "action": "SCMP_ACT_LOG" },
            { "names": ["chdir"], "action": "SCMP_ACT_TRAP" },
            { "names": ["chmod"], "action": "SCMP_ACT_TRACE", "errnoRet": 7 } ] }"#,
    ))
    .unwrap();
    assert_eq!(answer(&filter, "mkdir", [0, 448, 0, 0, 0, 0]), fails(28));
    assert_eq!(answer(&filter, "mkdir", [0; 6]), ALLOW);
    assert_eq!(answer(&filter, "rmdir", [0; 6]), 0x7ffc_0000);
    assert_eq!(answer(&filter, "chdir", [0; 6]) & 0xffff_0000, 0x0003_0000);
    assert_eq!(answer(&filter, "chmod", [0; 6]), 0x7ff0_0007);
    assert_eq!(answer(&filter, "read", [0; 6]), KILL_PROCESS);
}

#[test]
fn what_a_profile_could_not_know_fails_as_if_it_did_not_exist() {
    let filter = comparing("");
    let native = ARCHITECTURES[0].audit;
    let ask = |architecture, number| ask(&filter, &Call { architecture, number, arguments: [0; 6] }).0;
    assert_eq!(ask(native, 9999), ENOSYS);
    assert_eq!(ask(native, X32 + 1), ENOSYS);
    assert_eq!(ask(ARCHITECTURES[1].audit, 1), KILL_PROCESS, "an architecture that is not listed");
    // A profile that forbids a few calls: newer ones are allowed, but not by the back door of x32.
    let open = super::filter(&profile(r#"{ "defaultAction": "SCMP_ACT_ALLOW" }"#)).unwrap();
    let call = |number| Call { architecture: native, number, arguments: [0; 6] };
    assert_eq!(super::super::interpreter::ask(&open, &call(9999)).0, ALLOW);
    assert_eq!(super::super::interpreter::ask(&open, &call(X32 + 1)).0, ENOSYS);
}

#[test]
fn profiles_that_no_filter_can_be_made_of_are_refused() {
    let refused = |rest: &str, said: &str| {
        let text = format!(r#"{{ "defaultAction": "SCMP_ACT_ERRNO", {rest} }}"#);
        let error = filter(&profile(&text)).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    };
    // Above the error numbers are the actions: this one would be "allow".
    refused(r#""defaultErrnoRet": 2147418112"#, "2147418112");
    let rule = |action: &str| format!(r#""syscalls": [{{ "names": ["read"], {action} }}]"#);
    refused(&rule(r#""action": "SCMP_ACT_NOTIFY""#), "SCMP_ACT_NOTIFY");
    refused(&rule(r#""action": "SCMP_ACT_ERRNO", "errnoRet": 4096"#), "4096");
    let args = r#""action": "SCMP_ACT_ALLOW", "args": [{ "index": 6, "value": 0, "op": "SCMP_CMP_EQ" }]"#;
    refused(&rule(args), "argument 6");
    let many = vec![r#"{ "index": 0, "value": 0, "op": "SCMP_CMP_EQ" }"#; 60].join(",");
    refused(&rule(&format!(r#""action": "SCMP_ACT_ALLOW", "args": [{many}]"#)), "60 comparisons");
}
