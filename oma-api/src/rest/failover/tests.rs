//! The page to which refusals point has an entry for each code that a failover can have, and none of what is not.

use super::help::PAGE;
use std::collections::BTreeSet;
use std::path::Path;

/// Which sources have codes of failovers, from that word on.
const SOURCES: &[(&str, &str)] = &[
    ("failover", ""),
    ("conversion/error.rs", ""),
    ("workflow/drive.rs", ""),
    ("workflow/effect.rs", ""),
    ("workflow/policy.rs", ""),
    ("service/error.rs", "fn of_failover("),
    ("access/refusal.rs", "fn code("),
    ("rest/gate.rs", ""),
    ("rest/body.rs", ""),
];

/// Of what is shared with others.
const SHARED: &[&str] = &[
    "COMPUTE_FAILED",
    "TOO_MANY_FAILOVERS",
    "RATE_LIMITED",
    "DATABASE_UNAVAILABLE",
    "CHANGED_MEANWHILE",
    "MIGRATION_ENDED",
    "BUSY",
    "NO_COMMITTED_CYCLE",
    "NOT_SWITCHED",
    "SWITCHED",
    "SWITCH_FAILED",
    "MUST_REPEAT",
];

/// Of the document's table, whether anything gives it yet or not.
const TABLE: &[&str] = &[
    "VM_NOT_FOUND",
    "VALIDATION_FAILED",
    "SNAPSHOT_FAILED",
    "VIRTIO_FAILED",
    "VM_CREATE_FAILED",
    "VOLUME_ATTACH_FAILED",
];

/// Of those sources, what these routes never answer: gRPC's own, and what is INVALID_REQUEST here.
const ELSEWHERE: &[&str] = &["NO_SUCH_METHOD", "CERTIFICATE_NAMES_NOBODY", "INVALID_ARGUMENT"];

/// Texts that are written like codes.
fn codes(path: &Path, from: &str, found: &mut BTreeSet<String>) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).expect("a folder") {
            codes(&entry.expect("an entry").path(), from, found);
        }
        return;
    }
    if path.file_stem().is_some_and(|name| name == "tests") {
        return;
    }
    let text = std::fs::read_to_string(path).expect("a source");
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let text = &text[text.find(from).unwrap_or_else(|| panic!("{} has no {from}", path.display()))..];
    let is_code = |word: &&str| word.len() > 5 && word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    found.extend(text.split('"').skip(1).step_by(2).filter(is_code).map(str::to_owned));
}

#[test]
fn every_code_of_failovers_has_an_entry() {
    let mut all: BTreeSet<_> = SHARED.iter().chain(TABLE).map(|&code| code.to_owned()).collect();
    for (path, from) in SOURCES {
        codes(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(path), from, &mut all);
    }
    for code in ELSEWHERE {
        assert!(all.remove(*code), "nothing gives {code}");
    }
    assert!(all.len() > 40, "{all:?}");
    let entries: Vec<_> = PAGE.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let headings: BTreeSet<_> = entries.iter().map(|&code| code.to_owned()).collect();
    assert_eq!(entries.len(), headings.len(), "one twice");
    assert_eq!(headings.difference(&all).collect::<Vec<_>>(), [] as [&String; 0], "nothing gives this code");
    assert_eq!(all.difference(&headings).collect::<Vec<_>>(), [] as [&String; 0], "without an entry");
}

#[test]
fn what_is_suggested_is_of_that_code() {
    let of = super::super::refusal::suggestions;
    for code in ["VM_START_FAILED", "VM_NOT_READY", "INVALID_REQUEST", "JOB_ENDED", "NO_MACHINE"] {
        assert!(!of(code).is_empty(), "{code}");
    }
    // A machine that did not start has said nothing, and longer waiting does not help it.
    assert!(of("VM_START_FAILED").iter().all(|s| !s.contains("console") && !s.contains("timeout")));
}

/// Red when the document's table is answered without what it says that helps.
#[test]
fn the_documents_resolutions_are_suggested() {
    for (code, resolution) in [
        ("VM_NOT_FOUND", "Verify VM is replicated"),
        ("VALIDATION_FAILED", "Check validation details"),
        ("SNAPSHOT_FAILED", "Check Linstor connectivity"),
        ("VIRTIO_FAILED", "Check driver availability"),
        ("VM_CREATE_FAILED", "Check CloudStack config"),
        ("VOLUME_ATTACH_FAILED", "Check Volume Daemon"),
    ] {
        assert_eq!(super::super::refusal::suggestions(code).first(), Some(&resolution), "{code}");
    }
}
