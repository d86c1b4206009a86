//! Documents in Docker's format, good and bad.

use super::*;

/// The calls of the rules that hold on a kernel for a container with Docker's capabilities.
fn calls(rules: &str, kernel: &str) -> Vec<String> {
    let text = format!(r#"{{ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{rules}] }}"#);
    let profile = ProfileFile::parse(text.as_bytes(), kernel).unwrap();
    let profile = profile.for_capabilities(CapabilitySet::docker_default());
    profile.syscalls().iter().flatten().flat_map(|rule| rule.names().clone()).collect()
}

fn rule(name: &str, conditions: &str) -> String {
    format!(r#"{{ "names": ["{name}"], "action": "SCMP_ACT_ALLOW", {conditions} }}"#)
}

#[test]
fn rules_hold_as_their_conditions_say() {
    let (ours, _) = OURS;
    let rules = [
        rule("always", r#""comment": "", "args": null, "includes": {}, "excludes": {}"#),
        rule("with", r#""includes": { "caps": ["CAP_CHOWN"] }"#),
        rule("with-both", r#""includes": { "caps": ["CAP_CHOWN", "CAP_SYS_ADMIN"] }"#),
        rule("without", r#""excludes": { "caps": ["CAP_SYS_ADMIN"] }"#),
        rule("not-without", r#""excludes": { "caps": ["CAP_SYS_ADMIN", "CAP_CHOWN"] }"#),
        rule("here", &format!(r#""includes": {{ "arches": ["s390x", "{ours}"] }}"#)),
        rule("elsewhere", r#""includes": { "arches": ["s390x"] }"#),
        rule("not-here", &format!(r#""excludes": {{ "arches": ["{ours}"] }}"#)),
        rule("old", r#""includes": { "minKernel": "4.8" }"#),
        rule("new", r#""includes": { "minKernel": "6.10" }"#),
        rule("not-old", r#""excludes": { "minKernel": "4.8" }"#),
        rule("unknown", r#""includes": { "caps": ["CAP_FLY"] }"#),
    ];
    assert_eq!(calls(&rules.join(","), "6.9.3-amd64"), ["always", "with", "without", "here", "old"]);
}

#[test]
fn a_rule_may_have_one_name() {
    let rules = r#"{ "name": "read", "action": "SCMP_ACT_ALLOW", "args": [] }"#;
    assert_eq!(calls(rules, "6.1"), ["read"]);
}

#[test]
fn architectures_come_from_either_list() {
    let architectures = |text: &str| {
        let text = format!(r#"{{ "defaultAction": "SCMP_ACT_ALLOW", {text} }}"#);
        ProfileFile::parse(text.as_bytes(), "6.1").map(|profile| profile.common.architectures().clone())
    };
    let map = r#""archMap": [
        { "architecture": "SCMP_ARCH_S390X", "subArchitectures": ["SCMP_ARCH_S390"] },
        { "architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"] },
        { "architecture": "SCMP_ARCH_AARCH64", "subArchitectures": null } ]"#;
    let found = architectures(map).unwrap().unwrap();
    assert_eq!(found[0], OURS.1);
    assert!(!found.contains(&Arch::ScmpArchS390));
    let list = r#""architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_ARM"]"#;
    assert_eq!(architectures(list).unwrap().unwrap(), [Arch::ScmpArchX86, Arch::ScmpArchArm]);
    let both = architectures(&format!("{map}, {list}")).unwrap_err();
    assert!(matches!(both, SeccompError::Both("architectures", "archMap")), "{both}");
}

#[test]
fn what_is_no_profile_is_refused() {
    let parse = |text: &str| ProfileFile::parse(text.as_bytes(), "6.1").unwrap_err().to_string();
    assert!(parse("").contains("not of the form"));
    assert!(parse(r#"{ "syscalls": [] }"#).contains("defaultAction"));
    assert!(parse(r#"{ "defaultAction": "SCMP_ACT_DANCE" }"#).contains("SCMP_ACT_DANCE"));
    let rule =
        |rule: &str| parse(&format!(r#"{{ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{rule}] }}"#));
    assert!(rule(r#"{ "name": "a", "names": ["b"], "action": "SCMP_ACT_ALLOW" }"#).contains("\"name\""));
    let new = r#"{ "names": ["a"], "action": "SCMP_ACT_ALLOW", "includes": { "minKernel": "new" } }"#;
    assert!(rule(new).contains("\"new\""));
}

/// The profile that Debian installs for podman, which uses every part of the format.
#[test]
fn the_profile_of_another_program_is_read() {
    let Ok(text) = std::fs::read("/usr/share/containers/seccomp.json") else {
        eprintln!("skipped: install the package golang-github-containers-common");
        return;
    };
    let profile = ProfileFile::parse(&text, "6.1").unwrap().for_capabilities(CapabilitySet::EMPTY);
    let filter = super::super::custom_filter(&profile).unwrap();
    assert!(filter.instructions().len() > 100);
}
