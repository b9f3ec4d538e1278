//! Every code is provoked by what it is about, and by nothing else.

mod fixture;
mod network;
mod plan;
mod room;

use super::*;
use fixture::{GIB, all_well, codes, configuration, disk, of_target};
use proptest::prelude::*;
use shared::ids::DeviceKey;
use shared::migration::Position;
use shared::profile::{MacPolicy, Settings};
use shared::vm::{Configuration, Controller, ControllerKind, DiskPlace, Firmware, Power, Tools};

type Spoil = fn(&mut Facts);

fn with(facts: &mut Facts, change: impl FnOnce(&mut Configuration)) {
    change(facts.vm.configuration.as_mut().expect("known"));
}

fn hang(facts: &mut Facts, kinds: &[ControllerKind]) {
    let key = |n: usize| -> DeviceKey { format!("100{n}").parse().expect("a key") };
    with(facts, |c| {
        c.controllers =
            kinds.iter().enumerate().map(|(n, kind)| Controller { key: key(n), kind: *kind }).collect();
        c.disks = (0..kinds.len())
            .map(|n| DiskPlace {
                key: format!("disk-{n}").parse().expect("a key"),
                controller: Some(key(n)),
                unit: Some(0),
            })
            .collect();
    });
    facts.vm.disks = (0..kinds.len()).map(|n| disk(&format!("disk-{n}"), GIB)).collect();
}

fn settings(facts: &mut Facts) -> &mut Settings {
    &mut facts.profile.as_mut().expect("named").settings
}

/// What spoils facts of which all is well, and the one code that it is told by.
const SPOILS: &[(Code, Spoil)] = &[
    (Code::AgentNotConnected, |f| f.agent.link = Link::Away),
    (Code::AgentProtocol, |f| f.agent.protocol_version = 99),
    (Code::AgentCapabilityMissing, |f| {
        f.agent.link = Link::Connected { capabilities: vec!["hash-diff".to_owned()] };
    }),
    (Code::AgentVersionDiffers, |f| f.agent.software_version = "0.0.1".to_owned()),
    (Code::MigrationUnfinished, |f| {
        f.unfinished = Some(Unfinished { id: fixture::id(9), position: Position::SyncPaused });
    }),
    (Code::ReplicaFound, |f| f.left = vec!["mk-1".to_owned()]),
    (Code::TargetRoomShort, |f| f.space = fixture::space(4 * GIB, 100 * GIB)),
    (Code::TargetRoomLow, |f| f.space = fixture::space(15 * GIB, 100 * GIB)),
    (Code::TargetRoomUnknown, |f| f.space = Space::Unknown { why: "it is away".to_owned() }),
    (Code::TargetCannotRun, |f| f.target = Target::Cannot { why: "no offering takes it".to_owned() }),
    (Code::TargetUnknown, |f| f.target = Target::Unknown { why: "CloudStack is away".to_owned() }),
    (Code::NoDisks, |f| f.vm.disks.clear()),
    (Code::DiskEmpty, |f| f.vm.disks[0].size = 0),
    (Code::DiskTooLarge, |f| {
        f.vm.disks[0].size = (1 << 50) + GIB;
        f.space = fixture::space(1 << 55, 1 << 55);
    }),
    (Code::DiskRoundedUp, |f| f.vm.disks[0].size = GIB + 512),
    (Code::TooManyDisks, |f| {
        f.vm.disks = (0..66).map(|n| disk(&format!("d{n}"), GIB)).collect();
        f.space = fixture::space(1 << 40, 1 << 40);
    }),
    (Code::ControllerReplaced, |f| hang(f, &[ControllerKind::ParaVirtual, ControllerKind::ParaVirtual])),
    (Code::ControllerUnsupported, |f| hang(f, &[ControllerKind::Nvme])),
    (Code::ControllersMixed, |f| hang(f, &[ControllerKind::VirtioBlk, ControllerKind::VirtioScsi])),
    (Code::NameInvalid, |f| f.vm.name = "Shop (old)".to_owned()),
    (Code::NameTaken, |f| f.others = vec![of_target(2, "WEB-1", None)]),
    (Code::MacTaken, |f| f.others = vec![of_target(2, "mail", Some(configuration("192.0.2.99")))]),
    (Code::MacDuplicate, |f| f.others = vec![fixture::of_source(2, "mail", configuration("192.0.2.99"))]),
    (Code::AddressTaken, |f| {
        settings(f).live_mac = MacPolicy::New;
        f.others = vec![of_target(2, "mail", Some(configuration("192.0.2.10")))];
    }),
    (Code::ProfileMissing, |f| f.profile = None),
    (Code::TargetMakesNoVm, |f| settings(f).backend = shared::profile::Backend::Local),
    (Code::NetworkUnmappedLive, |f| settings(f).networks[0].live = None),
    (Code::NetworkUnmappedTest, |f| settings(f).networks[0].test = None),
    (Code::ConfigurationUnknown, |f| f.vm.configuration = None),
    (Code::ConfigurationIncomplete, |f| with(f, |c| c.memory_bytes = None)),
    (Code::FirmwareVariablesLost, |f| with(f, |c| c.firmware = Firmware::Efi)),
    (Code::SecureBootLost, |f| with(f, |c| c.secure_boot = Some(true))),
    (Code::TpmLost, |f| with(f, |c| c.tpm = Some(true))),
    (Code::NoChangeTracking, |f| with(f, |c| c.change_tracking = Some(false))),
    (Code::ChangeTrackingUnknown, |f| with(f, |c| c.change_tracking = None)),
    (Code::PoweredOff, |f| with(f, |c| c.power = Power::Off)),
    (Code::Suspended, |f| with(f, |c| c.power = Power::Suspended)),
    (Code::ToolsAbsent, |f| with(f, |c| c.tools = Tools::NotInstalled)),
];

/// Red when a rule does not look, when it looks at something else, and when a code has no test.
#[test]
fn a_code_is_told_of_what_provokes_it_and_of_nothing_else() {
    assert_eq!(codes(&all_well()), [], "nothing is wrong");
    for (code, spoil) in SPOILS {
        let mut facts = all_well();
        spoil(&mut facts);
        assert_eq!(codes(&facts), [*code]);
    }
    for code in Code::ALL {
        assert_eq!(SPOILS.iter().filter(|(c, _)| c == code).count(), 1, "{code}");
    }
}

#[test]
fn a_finding_says_what_was_found_and_what_to_do() {
    for (code, spoil) in SPOILS {
        let mut facts = all_well();
        spoil(&mut facts);
        let [finding] = &report(&facts).findings[..] else { panic!("{code}") };
        assert!(
            !finding.subject.is_empty() && finding.found.len() > 10 && finding.action.len() > 10,
            "{finding}"
        );
        let text = finding.to_string();
        assert!(text.starts_with(code.as_str()) && text.contains(&finding.action), "{text}");
    }
    let spelled: std::collections::BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(spelled.len(), Code::ALL.len(), "one spelling each");
}

/// A VM that two agents see, or that is protected, does not stand in its own way.
#[test]
fn a_vm_takes_nothing_from_itself() {
    let mut facts = all_well();
    facts.others = vec![
        fixture::of_source(1, "web-1", configuration("192.0.2.10")),
        of_target(1, "web-1", Some(configuration("192.0.2.10"))),
    ];
    assert_eq!(codes(&facts), []);
}

#[test]
fn what_blocks_comes_first_and_a_free_name_is_offered() {
    let mut facts = all_well();
    with(&mut facts, |c| c.power = Power::Off);
    facts.vm.name = "web 1".to_owned();
    facts.others = vec![of_target(2, "web-1", None), of_target(3, "WEB-1-2", None)];
    let report = report(&facts);
    assert_eq!(codes(&facts), [Code::NameTaken, Code::NameInvalid, Code::PoweredOff]);
    assert_eq!(report.findings[0].alternative.as_deref(), Some("web-1-3"));
    assert_eq!(report.findings[1].alternative.as_deref(), Some("web-1"));
    assert_eq!(report.blocking().count(), 1);
}

proptest! {
    /// Of the same facts, in whatever order others are told, the same report comes.
    #[test]
    fn a_report_is_a_function_of_the_facts(
        spoils in proptest::sample::subsequence((0..SPOILS.len()).collect::<Vec<_>>(), 0..6),
        shuffle in any::<u64>(),
    ) {
        let mut facts = all_well();
        for index in spoils {
            // What a spoil takes for granted may be gone by another's.
            if facts.vm.configuration.is_some() && facts.profile.is_some() && !facts.vm.disks.is_empty() {
                (SPOILS[index].1)(&mut facts);
            }
        }
        facts.others.extend([
            of_target(4, "web-1", Some(configuration("192.0.2.10"))),
            of_target(5, "web-1", Some(configuration("192.0.2.10"))),
            fixture::of_source(6, "web-1", configuration("192.0.2.10")),
        ]);
        let first = report(&facts);
        let by = usize::try_from(shuffle % 3).expect("small");
        facts.others.rotate_left(by);
        facts.others.reverse();
        prop_assert_eq!(&first, &report(&facts));
        prop_assert_eq!(&first, &report(&facts.clone()));
        prop_assert!(first.findings.is_sorted_by_key(|finding| finding.severity));
    }
}
