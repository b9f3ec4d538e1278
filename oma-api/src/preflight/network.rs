//! Where its cards would be, and whose addresses they have.
//!
//! What is taken is what is known: VMs of all agents' inventories, and VMs that other migrations recorded. An address that
//! is called free is so as far as that goes.

use super::{Code, Facts, Finding, Other, Place};
use shared::profile::{AddressPolicy, Backend, MacPolicy, Purpose};
use shared::vm::{Mac, Nic};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses that are tried in the place of one that is taken.
const TRIES: u64 = 1024;

pub(super) fn look(facts: &Facts, found: &mut Vec<Finding>) {
    profile(facts, found);
    let Some(configuration) = &facts.vm.configuration else { return };
    let addresses = facts.profile.as_ref().map_or(AddressPolicy::default(), |p| p.settings.addresses);
    for nic in &configuration.nics {
        if facts.macs() == MacPolicy::Keep {
            mac(facts, nic, found);
        }
        if addresses == AddressPolicy::Keep {
            address(facts, nic, found);
        }
    }
}

/// Whether every card has its networks.
fn profile(facts: &Facts, found: &mut Vec<Finding>) {
    let Some(profile) = &facts.profile else {
        let what =
            "no target profile was named, and none is the default: where the VM would be made is not known";
        let action =
            "name one (`--target`), or make one: `migratekit target create NAME --default`; cycles need none";
        found.push(Finding::new(Code::ProfileMissing, "target", what, action));
        return;
    };
    if profile.settings.backend == Backend::Local {
        let what = format!(
            "profile {} is of backend local, which keeps replicas and makes VMs for test failovers only",
            profile.name
        );
        let action =
            "nothing as long as it is only to be protected; the plan shows what CloudStack would make";
        found.push(Finding::new(Code::TargetMakesNoVm, "target", what, action));
    }
    let nics = facts.vm.configuration.iter().flat_map(|configuration| &configuration.nics);
    for nic in nics {
        let network = nic.network.as_deref().unwrap_or("a network that is not known");
        let of = [
            (Purpose::Live, Code::NetworkUnmappedLive, "live"),
            (Purpose::Test, Code::NetworkUnmappedTest, "test"),
        ];
        for (purpose, code, word) in of {
            if profile.settings.network_of(nic, purpose).is_none() {
                let what = format!("{network:?} has no {word} network in profile {}", profile.name);
                let action =
                    format!("say where it goes: `migratekit target update {} --{word} ", profile.name)
                        + &match &nic.network {
                            Some(network) => format!("{:?}`", format!("{network}=NETWORK")),
                            None => format!("…`, or --nic-{word} {}=NETWORK", nic.key),
                        };
                found.push(Finding::new(code, format!("nic {}", nic.key), what, action));
            }
        }
    }
}

/// The first of them, in an order that does not depend on theirs: on the target before at a source.
fn holder(facts: &Facts, has: impl Fn(&Nic) -> bool) -> Option<&Other> {
    let holds = |other: &&Other| other.configuration.iter().flat_map(|c| &c.nics).any(&has);
    facts
        .others()
        .filter(holds)
        .min_by_key(|other| (!other.is_on_target(), &other.name, &other.vm, of(other)))
}

fn of(other: &Other) -> String {
    match &other.place {
        Place::Source { agent } => format!("{} at agent {agent}", other.name),
        Place::Target { migration, .. } => format!("{}, which migration {migration} moves", other.name),
    }
}

fn mac(facts: &Facts, nic: &Nic, found: &mut Vec<Finding>) {
    let Some(mac) = nic.mac else { return };
    let Some(other) = holder(facts, |nic| nic.mac == Some(mac)) else { return };
    let (code, action) = match &other.place {
        Place::Target { macs: MacPolicy::Keep, .. } => (
            Code::MacTaken,
            "let the profile make new ones (`migratekit target update NAME --live-mac new`), or change one of the two",
        ),
        Place::Target { macs: MacPolicy::New, .. } | Place::Source { .. } => {
            (Code::MacDuplicate, "see to it that the two never meet in one network, or change one of them")
        }
    };
    let what = format!("{mac} is the address of {}, too", of(other));
    found.push(Finding::new(code, format!("nic {}", nic.key), what, action).or(free_mac(facts, nic)));
}

/// Locally administered, made of VM and card: the same each time it is asked for.
fn free_mac(facts: &Facts, nic: &Nic) -> Option<String> {
    let known = facts.others().flat_map(|other| &other.configuration).chain(&facts.vm.configuration);
    let taken: BTreeSet<Mac> = known.flat_map(|c| &c.nics).filter_map(|nic| nic.mac).collect();
    (0..TRIES).find_map(|number| {
        let seed = format!("{} {} {number}", facts.vm.uuid, nic.key);
        let [a, b, c, d, e, ..] = *blake3::hash(seed.as_bytes()).as_bytes();
        let mac: Mac = format!("02:{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}").parse().ok()?;
        (!taken.contains(&mac)).then(|| mac.to_string())
    })
}

fn address(facts: &Facts, nic: &Nic, found: &mut Vec<Finding>) {
    for address in nic.addresses.iter().filter(|address| is_routed(**address)) {
        let Some(other) = holder(facts, |nic| nic.addresses.contains(address)) else { continue };
        let what = format!("{address} is the address of {}, too", of(other));
        let action = "let the profile give others (`--addresses dhcp` or `new`), or change one of the two";
        let finding = Finding::new(Code::AddressTaken, format!("nic {}", nic.key), what, action);
        found.push(finding.or(free_address(facts, *address)));
    }
}

/// Those that every network has again are nobody's.
fn is_routed(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local() && !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local() && !v6.is_unspecified(),
    }
}

/// The next one that nobody is known to have: of an IPv4 address within its /24, of an IPv6 one within its /64.
fn free_address(facts: &Facts, address: IpAddr) -> Option<String> {
    let known = facts.others().flat_map(|other| &other.configuration).chain(&facts.vm.configuration);
    let taken: BTreeSet<IpAddr> =
        known.flat_map(|c| &c.nics).flat_map(|nic| &nic.addresses).copied().collect();
    (1..TRIES).map(|step| next(address, step)).find(|next| !taken.contains(next)).map(|free| free.to_string())
}

fn next(address: IpAddr, step: u64) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            // 2 to 254: the first is most often the router's.
            let host = (u64::from(d).max(2) - 2 + step) % 253 + 2;
            IpAddr::V4(Ipv4Addr::new(a, b, c, u8::try_from(host).unwrap_or(2)))
        }
        IpAddr::V6(v6) => {
            const HOST: u128 = u64::MAX as u128;
            let bits = v6.to_bits();
            IpAddr::V6(Ipv6Addr::from_bits(bits & !HOST | bits.wrapping_add(step.into()) & HOST))
        }
    }
}
