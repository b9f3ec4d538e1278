//! Which service offering a machine gets, and how a machine's parts are said to CloudStack. Pure.

use super::super::{Bus, Definition, Firmware};
use super::model::Offering;

/// MHz of a processor where the offering leaves that open: CloudStack plans its hosts' load with it.
const SPEED: &str = "1000";

/// What a machine is deployed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fitted {
    pub(super) offering: String,
    /// Sizes that the offering leaves open.
    pub(super) details: Vec<(&'static str, String)>,
}

/// The offering that was named, or the one that fits best: of exactly these sizes, of any size, the smallest that is large
/// enough.
///
/// # Errors
/// What the matter is, for people.
pub(super) fn offering(
    all: &[Offering],
    named: Option<&str>,
    machine: &Definition,
) -> Result<Fitted, String> {
    let (cpus, memory) = (machine.cpus, machine.memory_bytes.div_ceil(1 << 20));
    if let Some(named) = named {
        return fitted(self::named(all, named)?, cpus, memory).ok_or_else(|| {
            format!("service offering {named:?} does not take {cpus} processors and {memory} MiB")
        });
    }
    let rank = |offering: &&Offering| {
        let exact = offering.cpunumber == Some(cpus) && offering.memory == Some(memory);
        (!exact, !offering.iscustomized, offering.memory, offering.cpunumber, offering.name.clone())
    };
    let mut fitting: Vec<_> =
        usable(all).filter(|offering| fitted(offering, cpus, memory).is_some()).collect();
    fitting.sort_by_key(rank);
    let best = fitting.first().and_then(|offering| fitted(offering, cpus, memory));
    best.ok_or_else(|| {
        format!(
            "no service offering takes {cpus} processors and {memory} MiB: make one of any size (\"custom\"), or one that is \
             large enough"
        )
    })
}

/// The one of that name or id.
///
/// # Errors
/// There is none that may be used.
pub(super) fn named<'a>(all: &'a [Offering], name: &str) -> Result<&'a Offering, String> {
    let found = usable(all).find(|offering| offering.id == name || offering.name == name);
    found.ok_or_else(|| format!("there is no service offering {name:?}"))
}

pub(super) fn usable(all: &[Offering]) -> impl Iterator<Item = &Offering> {
    all.iter().filter(|offering| offering.state.as_deref().is_none_or(|state| state == "Active"))
}

fn fitted(offering: &Offering, cpus: u32, memory: u64) -> Option<Fitted> {
    let mut details = Vec::new();
    // What it fixes has to be enough; what it leaves open is said, within its limits.
    match offering.cpunumber {
        Some(fixed) if fixed < cpus => return None,
        Some(_) => {}
        None if !within(offering, "cpunumber", u64::from(cpus)) => return None,
        None => {
            details.push(("cpuNumber", cpus.to_string()));
            if offering.cpuspeed.is_none() {
                details.push(("cpuSpeed", SPEED.to_owned()));
            }
        }
    }
    match offering.memory {
        Some(fixed) if fixed < memory => return None,
        Some(_) => {}
        None if !within(offering, "memory", memory) => return None,
        None => details.push(("memory", memory.to_string())),
    }
    let open = offering.cpunumber.is_none() || offering.memory.is_none();
    (open == offering.iscustomized).then(|| Fitted { offering: offering.id.clone(), details })
}

fn within(offering: &Offering, what: &str, size: u64) -> bool {
    let limit = |end: &str| offering.serviceofferingdetails.get(&format!("{end}{what}"))?.parse::<u64>().ok();
    limit("min").is_none_or(|least| size >= least) && limit("max").is_none_or(|most| size <= most)
}

/// The detail `rootDiskController`.
pub(super) fn controller(bus: Bus) -> &'static str {
    match bus {
        Bus::VirtioBlk => "virtio",
        Bus::VirtioScsi => "scsi",
        Bus::Sata => "sata",
        Bus::Ide => "ide",
    }
}

/// Parameters `boottype` and `bootmode`. Whether the source's firmware insisted on signatures is not known; a guest that boots
/// with them boots without.
pub(super) fn boot(firmware: Firmware) -> Option<(&'static str, &'static str)> {
    match firmware {
        Firmware::Bios => None,
        Firmware::Efi => Some(("UEFI", "LEGACY")),
    }
}

/// The device of the n-th disk: 3 is the CD-ROM's.
pub(super) fn device(position: usize) -> usize {
    if position < 3 { position } else { position + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn fixed(name: &str, cpus: u32, memory: u64) -> Offering {
        Offering {
            id: name.to_owned(),
            name: name.to_owned(),
            iscustomized: false,
            cpunumber: Some(cpus),
            cpuspeed: Some(1000),
            memory: Some(memory),
            state: Some("Active".to_owned()),
            serviceofferingdetails: BTreeMap::new(),
        }
    }

    fn custom(name: &str, limits: &[(&str, &str)]) -> Offering {
        let limits = limits.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Offering {
            iscustomized: true,
            cpunumber: None,
            cpuspeed: None,
            memory: None,
            serviceofferingdetails: limits,
            ..fixed(name, 0, 0)
        }
    }

    fn machine(cpus: u32, mib: u64) -> Definition {
        Definition {
            uuid: uuid::Uuid::nil(),
            title: "web".to_owned(),
            cpus,
            memory_bytes: mib << 20,
            firmware: Firmware::Bios,
            bus: Bus::VirtioBlk,
            nics: vec![],
            guest_id: None,
        }
    }

    #[test]
    fn an_offering_of_the_very_size_goes_before_one_of_any_size_and_that_before_a_larger_one() {
        let (small, large) = (fixed("small", 1, 512), fixed("large", 4, 8192));
        let any = custom("any", &[]);
        let all = [large.clone(), any.clone(), small.clone()];
        let chosen =
            |all: &[Offering], cpus, mib| offering(all, None, &machine(cpus, mib)).map(|f| f.offering);
        assert_eq!(chosen(&all, 1, 512).as_deref(), Ok("small"));
        assert_eq!(chosen(&all, 2, 2048).as_deref(), Ok("any"));
        assert_eq!(chosen(&[large, small], 2, 2048).as_deref(), Ok("large"));
        let sizes = offering(&[any], None, &machine(2, 2048)).map(|f| f.details);
        let said = [("cpuNumber", "2"), ("cpuSpeed", "1000"), ("memory", "2048")];
        assert_eq!(sizes, Ok(said.map(|(k, v)| (k, v.to_owned())).to_vec()));
    }

    #[test]
    fn no_machine_gets_less_than_it_had() {
        let all =
            [fixed("small", 1, 512), custom("up-to-4", &[("maxcpunumber", "4"), ("maxmemory", "4096")])];
        assert!(offering(&all, None, &machine(8, 1024)).is_err());
        assert!(offering(&all, None, &machine(2, 8192)).is_err());
        assert!(offering(&all, Some("small"), &machine(1, 513)).is_err_and(|why| why.contains("513 MiB")));
        assert!(
            offering(&all, Some("none"), &machine(1, 1))
                .is_err_and(|why| why.contains("no service offering"))
        );
        assert_eq!(
            offering(&all, Some("small"), &machine(1, 256)).map(|f| f.offering).as_deref(),
            Ok("small")
        );
        let gone = [Offering { state: Some("Inactive".to_owned()), ..fixed("gone", 1, 512) }];
        assert!(offering(&gone, None, &machine(1, 512)).is_err());
    }

    #[test]
    fn disks_go_round_the_cd_rom() {
        assert_eq!((0..5).map(device).collect::<Vec<_>>(), [0, 1, 2, 4, 5]);
    }
}
