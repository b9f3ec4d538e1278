//! Who would copy it, and whether somebody does.

use super::{Code, Facts, Finding, Link};
use shared::cycle::{CAPABILITIES, PROTOCOL_VERSIONS};

pub(super) fn look(facts: &Facts, found: &mut Vec<Finding>) {
    let agent = &facts.agent;
    let mut add = |code, what: String, action: &str| found.push(Finding::new(code, "agent", what, action));
    if !PROTOCOL_VERSIONS.contains(&agent.protocol_version) {
        add(
            Code::AgentProtocol,
            format!(
                "agent {} speaks version {} of the protocol, this control plane {PROTOCOL_VERSIONS:?}",
                agent.id, agent.protocol_version
            ),
            "update the older of the two",
        );
    }
    match &agent.link {
        Link::Away => add(
            Code::AgentNotConnected,
            format!("agent {} is not connected", agent.id),
            "start vma-agent there and look at its log",
        ),
        Link::Connected { capabilities } => {
            let missing: Vec<_> = CAPABILITIES
                .iter()
                .filter(|ours| !capabilities.iter().any(|c| c == *ours))
                .copied()
                .collect();
            if !missing.is_empty() {
                add(
                    Code::AgentCapabilityMissing,
                    format!("agent {} cannot do {}", agent.id, missing.join(", ")),
                    "update vma-agent: without it what the source lost track of cannot be made good",
                );
            }
        }
    }
    if agent.software_version != agent.our_version {
        add(
            Code::AgentVersionDiffers,
            format!(
                "agent {} is of version {}, the control plane of {}",
                agent.id, agent.software_version, agent.our_version
            ),
            "nothing, as long as both speak the same protocol; update the older when it suits you",
        );
    }
    if let Some(unfinished) = &facts.unfinished {
        let what = format!("migration {} of it is at {}", unfinished.id, unfinished.position);
        let action = "go on with that one, or end it: `migratekit migration abort`";
        found.push(Finding::new(Code::MigrationUnfinished, "vm", what, action));
    }
    if !facts.left.is_empty() {
        let what = format!(
            "volumes of it are on the target, and no migration knows them: {}",
            facts.left.join(", ")
        );
        let action = "take them back without copying all of it: `migratekit migration adopt`; or remove them";
        found.push(Finding::new(Code::ReplicaFound, "target", what, action));
    }
}
