//! What a source says about its disks that a silent delta would hide (DESIGN §6 rule 5).

use shared::cycle::{Finding, FindingKind};
use shared::ids::DiskKey;

use super::DiskDescription;

/// Compares the disks of the last commit (`expected`, with a size of 0 where none is known yet) with what the source
/// has (`found`). Findings come in the order of `expected`, then of `found`.
pub fn compare_disks(expected: &[DiskDescription], found: &[DiskDescription]) -> Vec<Finding> {
    let finding = |kind, disk: &DiskKey, message| Finding { kind, disk: Some(disk.clone()), message };
    let mut findings = Vec::new();
    for DiskDescription { key, size } in expected {
        match found.iter().find(|other| other.key == *key) {
            None => findings.push(finding(
                FindingKind::DiskRemoved,
                key,
                format!("disk {key} of {size} bytes is replicated, and the VM no longer has it: nothing is copied until it is back or the migration is begun again"),
            )),
            Some(now) if *size != 0 && now.size != *size => findings.push(finding(
                FindingKind::DiskResized,
                key,
                format!("disk {key} had {size} bytes at the last commit and has {} now: change tracking across a resize is not relied on", now.size),
            )),
            Some(_) => {}
        }
    }
    for DiskDescription { key, size } in found {
        if !expected.iter().any(|other| other.key == *key) {
            findings.push(finding(
                FindingKind::DiskAdded,
                key,
                format!("the VM has a disk {key} of {size} bytes that is not replicated: begin the migration again to take it in"),
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disks(of: &[(&str, u64)]) -> Vec<DiskDescription> {
        of.iter().map(|&(key, size)| DiskDescription { key: DiskKey::parse(key).unwrap(), size }).collect()
    }

    #[test]
    fn every_difference_is_a_finding_and_nothing_else_is() {
        let expected = disks(&[("root", 10), ("data", 20), ("new", 0), ("gone", 5)]);
        let found = disks(&[("data", 21), ("root", 10), ("new", 7), ("more", 1)]);
        let kinds: Vec<_> = compare_disks(&expected, &found)
            .into_iter()
            .map(|f| (f.kind, f.disk.map(String::from).unwrap_or_default()))
            .collect();
        assert_eq!(
            kinds,
            [
                (FindingKind::DiskResized, "data".to_owned()),
                (FindingKind::DiskRemoved, "gone".to_owned()),
                (FindingKind::DiskAdded, "more".to_owned()),
            ]
        );
        assert_eq!(compare_disks(&found, &found), []);
    }
}
