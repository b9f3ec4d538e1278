//! Whether a machine such as the VM could be made on the target now: what the target itself said.

use super::{Code, Facts, Finding, Target};

pub(super) fn look(facts: &Facts, found: &mut Vec<Finding>) {
    let (code, what, action) = match &facts.target {
        Target::Well => return,
        Target::Cannot { why } => (
            Code::TargetCannotRun,
            why,
            "its disks are protected all the same; put the target or the profile right before a failover (`oma-api \
             --check-targets` shows more)",
        ),
        Target::Unknown { why } => {
            (Code::TargetUnknown, why, "see whether the target answers; its disks are protected all the same")
        }
    };
    found.push(Finding::new(code, "target", what.clone(), action));
}
