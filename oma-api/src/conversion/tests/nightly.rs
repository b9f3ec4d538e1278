//! A real Linux, converted for real: without KVM, update-initramfs in the appliance alone takes minutes.
//! `make test-nightly` runs it, as root.

use super::super::*;
use super::slow::{Place, say, scratch};
use integration_tests::convertible::debian::{self, Booted};
use std::time::Instant;

#[tokio::test]
#[ignore = "a quarter of an hour: make test-nightly"]
async fn a_debian_without_virtio_boots_on_it_after_the_conversion_and_not_before() {
    let place = Place::new();
    let disk = place.path("a.raw");
    let began = Instant::now();
    debian::make(&disk, &scratch()).expect("a Debian");
    say("the Debian is made", began);
    let boot = |disk: &Path| {
        let began = Instant::now();
        let booted = debian::boot(disk, &scratch()).expect("it is started");
        say(&format!("on virtio: {booted:?}"), began);
        booted
    };
    assert_eq!(boot(&disk), Booted::NoDisk);

    let outcome = place.convert(&CancellationToken::new()).await.expect("it is converted");
    let Outcome::Converted { before, after, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!((before.system, before.boot_disk), (System::Linux, Some(0)));
    assert_eq!(before.name, "Debian GNU/Linux 12 (bookworm)");
    assert!(before.virtio.why().ends_with("has no virtio_pci and no virtio_blk"), "{}", before.virtio);
    assert!(matches!(after.virtio, Virtio::Ready { .. }), "{}", after.virtio);
    assert_eq!(boot(&disk), Booted::Up);

    let hash = place.hash();
    let again = place.convert(&CancellationToken::new()).await.expect("it is looked at");
    assert!(matches!(again, Outcome::NotNeeded(_)), "{again:?}");
    assert_eq!(place.hash(), hash, "nothing was written");
}
