//! Addresses that are taken, and free ones in their place.

use super::fixture::{all_well, codes, configuration, of_source, of_target};
use super::*;
use shared::profile::AddressPolicy;
use shared::vm::Mac;

fn alternative(facts: &Facts, code: Code) -> String {
    let found = report(facts).findings.into_iter().find(|finding| finding.code == code);
    found.and_then(|finding| finding.alternative).expect("an alternative")
}

#[test]
fn a_free_mac_is_of_nobody_and_always_the_same() {
    let mut facts = all_well();
    facts.others = vec![of_target(2, "mail", Some(configuration("192.0.2.99")))];
    let free = alternative(&facts, Code::MacTaken);
    assert!(free.starts_with("02:"), "locally administered: {free}");
    assert_eq!(free, alternative(&facts, Code::MacTaken));
    let mut another = configuration("192.0.2.98");
    another.nics[0].mac = Some(free.parse::<Mac>().expect("a MAC"));
    facts.others.push(of_source(3, "other", another));
    let next = alternative(&facts, Code::MacTaken);
    assert!(next != free && next.starts_with("02:"), "{next}");
}

#[test]
fn a_free_address_is_the_next_one_of_its_network() {
    let mut facts = all_well();
    settings(&mut facts).live_mac = MacPolicy::New;
    facts.others = vec![
        of_target(2, "mail", Some(configuration("192.0.2.10"))),
        of_source(3, "other", configuration("192.0.2.11")),
    ];
    assert_eq!(alternative(&facts, Code::AddressTaken), "192.0.2.12");
    for (taken, free) in [("192.0.2.254", "192.0.2.2"), ("2001:db8::ff", "2001:db8::100")] {
        facts.vm.configuration = Some(configuration(taken));
        facts.others = vec![of_target(2, "mail", Some(configuration(taken)))];
        assert_eq!(alternative(&facts, Code::AddressTaken), free);
    }
    // A whole network is taken: nothing is offered.
    facts.others =
        (2..255).map(|n| of_target(2, "mail", Some(configuration(&format!("192.0.2.{n}"))))).collect();
    facts.vm.configuration = Some(configuration("192.0.2.10"));
    assert_eq!(
        report(&facts).findings.iter().find(|f| f.code == Code::AddressTaken).expect("taken").alternative,
        None
    );
}

#[test]
fn addresses_that_are_not_kept_are_nobodys_trouble() {
    let mut facts = all_well();
    facts.others = vec![of_target(2, "mail", Some(configuration("192.0.2.10")))];
    assert_eq!(codes(&facts), [Code::MacTaken, Code::AddressTaken]);
    settings(&mut facts).live_mac = MacPolicy::New;
    settings(&mut facts).addresses = AddressPolicy::Dhcp;
    assert_eq!(codes(&facts), []);
    // Every network has these.
    let mut facts = all_well();
    settings(&mut facts).live_mac = MacPolicy::New;
    facts.vm.configuration = Some(configuration("169.254.1.1"));
    facts.others = vec![of_target(2, "mail", Some(configuration("169.254.1.1")))];
    assert_eq!(codes(&facts), []);
}

/// One that gets new addresses there leaves the old ones to others.
#[test]
fn a_mac_that_another_does_not_take_along_is_free_on_the_target() {
    let mut facts = all_well();
    let mut other = of_target(2, "mail", Some(configuration("192.0.2.99")));
    other.place = Place::Target { migration: super::fixture::id(2), macs: MacPolicy::New };
    facts.others = vec![other];
    assert_eq!(codes(&facts), [Code::MacDuplicate]);
}
