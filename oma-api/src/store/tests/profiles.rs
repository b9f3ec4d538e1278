use super::*;
use shared::ids::ProfileName;
use shared::profile::{AddressPolicy, Backend, MacPolicy, NetworkMap, NicMap, Refused, Settings};

fn name(text: &str) -> ProfileName {
    text.parse().expect("a name")
}

fn maps(live: &str, test: &str) -> Settings {
    let said = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
    let map = NetworkMap { source: "VM Network".to_owned(), live: said(live), test: said(test) };
    Settings { networks: vec![map], ..Settings::new(Backend::Local) }
}

#[tokio::test]
async fn a_profile_comes_back_as_it_was_and_changes_only_under_its_generation() {
    let mut f = Fixture::new().await;
    let nic = NicMap { key: "4000".parse().expect("a key"), live: Some("é💾".to_owned()), test: None };
    let full = Settings {
        zone: Some("zone-1".to_owned()),
        compute_offering: Some("4 cores".to_owned()),
        disk_offering: Some("fast".to_owned()),
        storage_pool: Some("linstor-1".to_owned()),
        nics: vec![nic],
        live_mac: MacPolicy::New,
        addresses: AddressPolicy::Dhcp,
        notes: Some("né\n💾 ".repeat(900)),
        is_default: true,
        ..maps("production", "isolated")
    };
    let made = f.store.profile_create(&name("shop"), &full, at(1)).await.expect("made");
    assert_eq!((&made.settings, made.generation, made.created_at), (&full, 1, at(1)));
    f.restart().await;
    assert_eq!(f.store.profile_fetch(&name("shop")).await.expect("read"), made);
    let again = f.store.profile_create(&name("shop"), &maps("a", "b"), at(2)).await;
    assert!(matches!(again, Err(Error::ProfileExists { .. })), "{again:?}");

    let bare = Settings::new(Backend::Local);
    let changed = f.store.profile_update(&name("shop"), &bare, 1, at(3)).await.expect("changed");
    assert_eq!((changed.generation, changed.created_at, changed.updated_at), (2, at(1), at(3)));
    assert_eq!(f.store.profile_fetch(&name("shop")).await.expect("read"), changed);
    let late = f.store.profile_update(&name("shop"), &full, 1, at(4)).await;
    assert!(matches!(late, Err(Error::ProfileChanged { generation: 2, .. })), "{late:?}");
    let late = f.store.profile_delete(&name("shop"), Some(1), at(4)).await;
    assert!(matches!(late, Err(Error::ProfileChanged { .. })), "{late:?}");
    assert_eq!(f.store.profile_list().await.expect("list"), [changed]);
    f.store.profile_delete(&name("shop"), Some(2), at(5)).await.expect("removed");
    assert_eq!(f.store.profile_list().await.expect("list"), []);
    for gone in [
        f.store.profile_fetch(&name("shop")).await.map(drop),
        f.store.profile_delete(&name("shop"), None, at(6)).await,
        f.store.profile_update(&name("shop"), &bare, 2, at(6)).await.map(drop),
    ] {
        assert!(matches!(gone, Err(Error::ProfileUnknown { .. })), "{gone:?}");
    }
    let events = f.store.event_list(0, None, 9).await.expect("events");
    let kinds: Vec<_> = events.iter().map(|e| e.kind.as_str()).collect();
    assert_eq!(kinds, ["target_profile_created", "target_profile_changed", "target_profile_deleted"]);
}

/// Red when the others are not looked at, or only on one of the two ways in.
#[tokio::test]
async fn a_test_network_is_never_a_live_one_of_any_profile() {
    let f = Fixture::new().await;
    let create =
        async |text: &str, settings: Settings| f.store.profile_create(&name(text), &settings, at(1)).await;
    create("shop", maps("production", "isolated")).await.expect("made");
    let refused = |done: Result<Profile, Error>| {
        assert!(matches!(done, Err(Error::Profile(Refused::TestIsLive { .. }))), "{done:?}");
    };
    refused(create("lab", maps("", "Production")).await);
    refused(create("lab", maps("isolated", "")).await);
    refused(create("lab", maps("x", "x")).await);
    create("lab", maps("lab", "isolated")).await.expect("tests may share a network");
    let update = async |settings: Settings| f.store.profile_update(&name("lab"), &settings, 1, at(2)).await;
    refused(update(maps("", "production")).await);
    refused(update(maps("isolated", "")).await);
    refused(update(maps("x", "x")).await);
    assert_eq!(f.store.profile_fetch(&name("lab")).await.expect("read").settings, maps("lab", "isolated"));
    update(maps("isolated-2", "isolated")).await.expect("its own former networks do not count");
}

#[tokio::test]
async fn two_that_are_made_at_once_do_not_both_pass() {
    let f = Fixture::new().await;
    let (lab, shop) = (name("lab"), name("shop"));
    let (testing, living) = (maps("", "production"), maps("production", ""));
    let both = futures::future::join(
        f.store.profile_create(&lab, &testing, at(1)),
        f.store.profile_create(&shop, &living, at(1)),
    );
    let (one, other) = both.await;
    assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
}

#[tokio::test]
async fn one_profile_at_most_is_the_default() {
    let f = Fixture::new().await;
    let default = Settings { is_default: true, ..Settings::new(Backend::Local) };
    assert_eq!(f.store.profile_default().await.expect("read"), None);
    f.store.profile_create(&name("a"), &default, at(1)).await.expect("made");
    f.store.profile_create(&name("b"), &default, at(2)).await.expect("made");
    assert_eq!(f.store.profile_default().await.expect("read").map(|p| p.name), Some(name("b")));
    let a = f.store.profile_fetch(&name("a")).await.expect("read");
    assert_eq!((a.settings.is_default, a.generation), (false, 2), "whoever had read it learns of it");
    f.store.profile_update(&name("a"), &default, 2, at(3)).await.expect("changed");
    assert_eq!(f.store.profile_default().await.expect("read").map(|p| p.name), Some(name("a")));
    f.store
        .profile_update(&name("a"), &Settings { is_default: false, ..default }, 3, at(4))
        .await
        .expect("changed");
    assert_eq!(f.store.profile_default().await.expect("read"), None);
}

#[tokio::test]
async fn a_profile_stays_while_a_migration_that_goes_on_refers_to_it() {
    let f = Fixture::new().await;
    let shop = name("shop");
    let of = |profile: &str| NewMigration { target_profile: Some(name(profile)), ..new_migration(1, 1) };
    let early = f.store.migration_create(&of("shop"), at(0)).await;
    assert!(matches!(early, Err(Error::ProfileUnknown { .. })), "{early:?}");
    f.store.profile_create(&shop, &Settings::new(Backend::Local), at(1)).await.expect("made");
    let made = f.store.migration_create(&of("shop"), at(2)).await.expect("created");
    assert_eq!(f.store.migration_fetch(&made.id).await.expect("read").target_profile, Some(shop.clone()));
    let used = f.store.profile_delete(&shop, None, at(3)).await;
    assert!(matches!(&used, Err(Error::ProfileInUse { count: 1, vm, .. }) if vm == "vm-1"), "{used:?}");

    let bare = f.store.migration_profile_set(&made.id, None, at(4)).await.expect("set");
    assert_eq!((bare.target_profile.as_ref(), bare.generation), (None, made.generation + 1));
    let unknown = f.store.migration_profile_set(&made.id, Some(&name("lab")), at(4)).await;
    assert!(matches!(unknown, Err(Error::ProfileUnknown { .. })), "{unknown:?}");
    let again = f.store.migration_profile_set(&made.id, Some(&shop), at(4)).await.expect("set");
    assert_eq!(f.store.migration_fetch(&made.id).await.expect("read"), again);
    f.store.profile_delete(&shop, None, at(5)).await.expect_err("in use again");

    let ended = Migration { position: Position::AbortAborted, ..again };
    f.store.migration_transition(&ended, at(6)).await.expect("ended");
    f.store.profile_delete(&shop, None, at(7)).await.expect("history does not hold it");
    let kept = f.store.migration_fetch(&made.id).await.expect("read");
    assert_eq!(kept.target_profile, Some(shop), "history says by which");
    let late = f.store.migration_profile_set(&made.id, None, at(8)).await;
    assert!(matches!(late, Err(Error::MigrationEnded { .. })), "{late:?}");
}

#[tokio::test]
async fn a_damaged_profile_is_named() {
    let f = Fixture::new().await;
    f.store.profile_create(&name("shop"), &maps("a", "b"), at(1)).await.expect("made");
    for (sql, damaged) in [
        ("UPDATE target_profiles SET networks = '['", "networks"),
        ("UPDATE target_profiles SET networks = '[]', backend = 'vsphere'", "backend"),
        ("UPDATE target_profiles SET backend = 'local', live_mac = ''", "live_mac"),
    ] {
        f.by_hand(sql).await;
        match f.store.profile_fetch(&name("shop")).await {
            Err(Error::Corrupt { table: "target_profiles", column, .. }) => assert_eq!(column, damaged),
            other => panic!("{sql}: {other:?}"),
        }
    }
}
