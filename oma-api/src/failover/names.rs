//! The names of all that a failover makes: from its job's id alone, the same each time they are asked for.

use super::Kind;
use crate::compute::MachineName;
use crate::storage::{SnapshotName, VolumeId};
use crate::workflow::WorkflowId;
use shared::ids::{DeviceKey, DiskId, VmUuid};
use shared::vm::Mac;
use uuid::Uuid;

/// In which our names are unlike anybody's.
const SPACE: Uuid = Uuid::from_u128(0x6d69_6772_6174_656b_6974_0000_0000_0001);

/// `enhanced-test-failover-<vm uuid>-<unix seconds>`: 70 characters, as the failover API's document shows it.
pub fn job(kind: Kind, vm: &VmUuid, seconds: i64) -> WorkflowId {
    let id = format!("enhanced-{kind}-failover-{}-{seconds:010}", vm.as_str().to_lowercase());
    WorkflowId::parse(id).expect("a uuid, words and digits")
}

/// `cleanup-test-<vm uuid>-<unix seconds>` of the failover that it is of; later ones, after one that was cancelled, have a
/// number behind it.
pub fn cleanup(of: &WorkflowId, before: Option<&WorkflowId>) -> WorkflowId {
    after("cleanup", of, before)
}

/// `rollback-live-<vm uuid>-<unix seconds>` of the failover that it takes back; numbered in the same way.
pub fn rollback(of: &WorkflowId, before: Option<&WorkflowId>) -> WorkflowId {
    after("rollback", of, before)
}

fn after(what: &str, of: &WorkflowId, before: Option<&WorkflowId>) -> WorkflowId {
    let rest = of.as_str().strip_prefix("enhanced-").unwrap_or(of.as_str()).replacen("-failover-", "-", 1);
    let first = format!("{what}-{rest}");
    let id = match before.and_then(|id| id.as_str().strip_prefix(&first)) {
        None => first,
        Some(number) => {
            let number = number.trim_start_matches('-').parse().unwrap_or(1u32);
            format!("{first}-{}", number.saturating_add(1))
        }
    };
    WorkflowId::parse(id).expect("shorter than what it is made of")
}

/// `test-<first 8 of the vm's uuid>-<unix seconds>`: of the machine, and of the snapshot of its clones.
pub fn name(kind: Kind, vm: &VmUuid, seconds: i64) -> String {
    format!("{kind}-{}-{seconds:010}", &vm.as_str().to_lowercase()[..8])
}

/// Of the snapshot that keeps what a live failover's machine wrote, after it was rolled back; from its [`name`].
pub fn kept(name: &str) -> String {
    format!("{name}-kept")
}

/// Of what kind of failover a name of that form would be: `test-<8 hex digits>-<10 or more digits>`.
pub fn kind_of(name: &str) -> Option<Kind> {
    let (kind, rest) = name.split_once('-')?;
    let (vm, seconds) = rest.split_once('-')?;
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    let ours = vm.len() == 8
        && vm.chars().all(hex)
        && seconds.len() >= 10
        && seconds.chars().all(|c| c.is_ascii_digit());
    kind.parse().ok().filter(|_| ours)
}

/// The name that a disk's clone has where CloudStack is to take it over: `cs-<uuid>`. Ours are `mk-…`.
pub fn clone_of(job: &WorkflowId, disk: &DiskId) -> VolumeId {
    VolumeId::parse(format!("cs-{}", derived(job, disk.as_str()))).expect("a uuid and a prefix")
}

/// A card's address that is nobody else's: locally administered.
pub fn mac(job: &WorkflowId, nic: &DeviceKey) -> Mac {
    let [a, b, c, ..] = derived(job, &format!("nic/{nic}")).into_bytes();
    format!("52:54:00:{a:02x}:{b:02x}:{c:02x}").parse().expect("an address of a card")
}

/// What [`name`] gave, for the storage.
///
/// # Panics
/// Never on what [`name`] gave.
pub fn snapshot(name: &str) -> SnapshotName {
    SnapshotName::parse(name).expect("a word, digits and dashes")
}

/// The same for the compute backend.
///
/// # Panics
/// Never on what [`name`] gave.
pub fn machine_name(name: &str) -> MachineName {
    MachineName::parse(name).expect("a word, digits and dashes")
}

fn derived(job: &WorkflowId, what: &str) -> Uuid {
    Uuid::new_v5(&SPACE, format!("{job}/{what}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_document() {
        let vm = VmUuid::parse("420570C7-f61f-a930-77c5-1e876786cb3c").expect("a uuid");
        let job = job(Kind::Test, &vm, 1_756_882_765);
        assert_eq!(job.as_str(), "enhanced-test-failover-420570c7-f61f-a930-77c5-1e876786cb3c-1756882765");
        assert_eq!(job.as_str().len(), 70);
        assert_eq!(name(Kind::Test, &vm, 1_756_882_765), "test-420570c7-1756882765");
        assert_eq!(kind_of(&name(Kind::Test, &vm, 1_756_882_765)), Some(Kind::Test));
        assert_eq!(kind_of(&name(Kind::Live, &vm, 1)), Some(Kind::Live));
        for other in [
            "test-db",
            "test-420570c7",
            "test-420570c7-12",
            "test-420570cg-1756882765",
            "rp-420570c7-1756882765",
        ] {
            assert_eq!(kind_of(other), None, "{other}");
        }
        let first = cleanup(&job, None);
        assert_eq!(first.as_str(), "cleanup-test-420570c7-f61f-a930-77c5-1e876786cb3c-1756882765");
        let second = cleanup(&job, Some(&first));
        assert_eq!(second.as_str(), format!("{first}-2"));
        assert_eq!(cleanup(&job, Some(&second)).as_str(), format!("{first}-3"));
    }

    #[test]
    fn names_follow_from_the_job_and_differ_between_jobs_and_disks() {
        let vm = VmUuid::parse("420570c7-f61f-a930-77c5-1e876786cb3c").expect("a uuid");
        let (one, other) = (job(Kind::Test, &vm, 1), job(Kind::Test, &vm, 2));
        let (root, data) = (DiskId::generate(), DiskId::generate());
        assert_eq!(clone_of(&one, &root), clone_of(&one, &root));
        assert_ne!(clone_of(&one, &root), clone_of(&one, &data));
        assert_ne!(clone_of(&one, &root), clone_of(&other, &root));
        assert!(clone_of(&one, &root).as_str().len() <= 48, "LINSTOR's longest");
        let machine = |seconds| machine_name(&name(Kind::Test, &vm, seconds)).uuid(0);
        assert_ne!(machine(1), machine(2));
        let nic = |key: &str| key.parse().expect("a key");
        assert_ne!(mac(&one, &nic("4000")), mac(&one, &nic("4001")));
        assert_ne!(mac(&one, &nic("4000")), mac(&other, &nic("4000")));
    }
}
