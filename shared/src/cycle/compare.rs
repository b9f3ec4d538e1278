//! What a source says about its disks that a silent delta would hide (DESIGN §6 rule 5).

use super::{Finding, FindingKind, VmDisk};
use crate::ids::DiskKey;

/// Compares the disks that are replicated, with the sizes that were last committed or accepted, with what the source has. Findings
/// come in the order of `expected`, then of `found`.
pub fn compare_disks(expected: &[VmDisk], found: &[VmDisk]) -> Vec<Finding> {
    let finding = |kind, disk: &DiskKey, message| Finding { kind, disk: Some(disk.clone()), message };
    let mut findings = Vec::new();
    for VmDisk { key, size } in expected {
        match found.iter().find(|other| other.key == *key) {
            None => findings.push(finding(
                FindingKind::DiskRemoved,
                key,
                format!("disk {key} ({size} bytes) is replicated and the VM no longer has it"),
            )),
            Some(now) if now.size != *size => findings.push(finding(
                FindingKind::DiskResized,
                key,
                format!("disk {key} had {size} bytes and has {} now", now.size),
            )),
            Some(_) => {}
        }
    }
    for VmDisk { key, size } in found {
        if !expected.iter().any(|other| other.key == *key) {
            findings.push(finding(
                FindingKind::DiskAdded,
                key,
                format!("the VM has a disk {key} ({size} bytes) that is not replicated"),
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disks(of: &[(&str, u64)]) -> Vec<VmDisk> {
        of.iter().map(|&(key, size)| VmDisk { key: DiskKey::parse(key).unwrap(), size }).collect()
    }

    #[test]
    fn every_difference_is_a_finding_and_nothing_else_is() {
        let expected = disks(&[("root", 10), ("data", 20), ("gone", 5)]);
        let found = disks(&[("data", 21), ("root", 10), ("more", 1)]);
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
