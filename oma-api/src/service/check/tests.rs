//! What begin makes of a preflight.

use super::*;
use crate::service::act::{Acted, Ask, Key};
use crate::service::{Caller, Role};
use crate::testing::Plant;
use shared::cycle::{Vm, VmDisk};
use shared::migration::Action;
use shared::profile::{Backend, Settings};
use shared::vm::Configuration;

fn vm(number: u8, name: &str, size: u64) -> Vm {
    Vm {
        uuid: format!("00000000-0000-4000-8000-0000000000{number:02x}").parse().expect("a uuid"),
        name: name.to_owned(),
        disks: vec![VmDisk { key: "root".parse().expect("a key"), size }],
        configuration: Some(Configuration { cpus: Some(2), ..Configuration::default() }),
    }
}

async fn offer(plant: &Plant, vms: &[Vm]) {
    plant.app.agent_inventory(&plant.agent, vms).await.expect("taken");
}

async fn begin(plant: &Plant, vm: &str, ask: &Ask) -> Result<Acted, Error> {
    plant.app.act(&Caller { name: "tester".to_owned(), role: Role::Operator }, vm, ask).await
}

fn forced(reason: &str) -> Ask {
    Ask { force: Some(reason.to_owned()), ..Ask::new(Action::Begin) }
}

/// Bodies of the events of begun migrations' preflights.
async fn recorded(plant: &Plant) -> Vec<Value> {
    let all = plant.app.store.event_list(0, None, 1000).await.expect("read");
    all.into_iter().filter(|event| event.kind == "preflight").map(|event| event.body).collect()
}

/// Red when begin goes on over what blocks, when a reason does not let it, and when it is not kept.
#[tokio::test]
async fn what_blocks_stops_begin_unless_it_is_forced_and_that_is_recorded() {
    let plant = Plant::new().await;
    offer(&plant, &[vm(1, "web-1", 0)]).await;
    let refused = begin(&plant, "web-1", &Ask::new(Action::Begin)).await.expect_err("a disk of 0 bytes");
    assert_eq!(refused.code(), (tonic::Code::FailedPrecondition, "PREFLIGHT_BLOCKED"));
    let said = refused.to_string();
    assert!(
        said.contains("begin of web-1 is stopped") && said.contains("DISK_EMPTY (disks): root: 0 bytes"),
        "{said}"
    );
    assert!(matches!(plant.app.migration_find("web-1").await, Err(Error::NotProtected { .. })));
    assert_eq!(recorded(&plant).await, [] as [Value; 0], "nothing was begun");
    let automatic = begin(&plant, "web-1", &Ask::new(Action::Automatic)).await.expect_err("the same");
    assert_eq!(automatic.reason(), "PREFLIGHT_BLOCKED");

    begin(&plant, "web-1", &forced("it is being filled")).await.expect("forced");
    let migration = plant.app.migration_find("web-1").await.expect("begun");
    assert_eq!(migration.wishes.forced.as_deref(), Some("it is being filled"));
    let [event] = &recorded(&plant).await[..] else { panic!("one event") };
    assert_eq!(
        (&event["forced"], &event["findings"][0]["code"]),
        (&json!("it is being filled"), &json!("DISK_EMPTY"))
    );
}

/// Red when what failed is begun again over what blocks now.
#[tokio::test]
async fn a_begin_that_failed_is_checked_again() {
    let plant = Plant::new().await;
    let volumes = plant.folder.path().join("storage/volumes");
    std::fs::remove_dir(&volumes).expect("empty");
    plant.act(Action::Begin).await;
    let _ = crate::reconcile::one(&plant.app, &plant.migration().await).await;
    assert_eq!(plant.migration().await.position, Position::BeginFailed);
    std::fs::create_dir(&volumes).expect("made again");
    offer(&plant, &[vm(1, "web-1", 0)]).await;
    for action in [Action::Begin, Action::Automatic] {
        let refused = begin(&plant, "web-1", &Ask::new(action)).await.expect_err("a disk of 0 bytes");
        assert_eq!(refused.reason(), "PREFLIGHT_BLOCKED", "{refused}");
    }
    begin(&plant, "web-1", &forced("on purpose")).await.expect("forced");
    assert_eq!(plant.migration().await.wishes.forced.as_deref(), Some("on purpose"));
}

#[tokio::test]
async fn warnings_are_recorded_and_what_is_only_told_is_not() {
    let plant = Plant::begun().await;
    let checked = plant.app.check("web-1", None).await.expect("known");
    let codes: Vec<_> = checked.report.findings.iter().map(|f| f.code).collect();
    assert!(codes.contains(&Code::MigrationUnfinished) && codes.contains(&Code::DiskRoundedUp), "{codes:?}");
    let [event] = &recorded(&plant).await[..] else { panic!("one event") };
    let kept: Vec<_> = event["findings"].as_array().expect("a list").iter().map(|f| &f["code"]).collect();
    assert!(
        kept.contains(&&json!("PROFILE_MISSING")) && kept.contains(&&json!("CONFIGURATION_INCOMPLETE")),
        "{kept:?}"
    );
    assert!(!kept.contains(&&json!("DISK_ROUNDED_UP")), "{kept:?}");
    assert_eq!((&event["forced"], &event["left_out"]), (&Value::Null, &json!(0)));
}

/// A second begin of the same VM is refused as it always was: by its migration.
#[tokio::test]
async fn an_unfinished_migration_is_named_by_who_stores_it() {
    let plant = Plant::begun().await;
    let refused = begin(&plant, "web-1", &Ask::new(Action::Begin)).await.expect_err("it has one");
    assert!(matches!(refused, Error::NotNow { .. }), "{refused:?}");
}

/// Red when what the first reserves is not counted, and when the second looks before the first is stored.
#[tokio::test]
async fn two_that_begin_at_once_do_not_get_the_same_room() {
    const PROBE: u64 = 1 << 30;
    let plant = Plant::new().await;
    offer(&plant, &[vm(1, "web-1", PROBE)]).await;
    let room = plant.app.check("web-1", None).await.expect("known").report.room.expect("known");
    let spare = room.free_bytes.saturating_sub(room.total_bytes / 100 * 5);
    if spare < 64 << 20 {
        eprintln!("skipped: this machine has less than 5 % free");
        return;
    }
    // One takes 70 % of what may be taken.
    let size = spare / 10 * 7 / (room.needed_bytes / (PROBE / 10)).max(1) * 10;
    offer(&plant, &[vm(1, "web-1", size), vm(2, "web-2", size)]).await;
    let ask = Ask::new(Action::Begin);
    let (one, two) = tokio::join!(begin(&plant, "web-1", &ask), begin(&plant, "web-2", &ask));
    let refused: Vec<_> = [one, two].into_iter().filter_map(Result::err).collect();
    let [Error::Preflight { findings, .. }] = &refused[..] else { panic!("{refused:?}") };
    assert_eq!(findings.iter().map(|f| f.code).collect::<Vec<_>>(), [Code::TargetRoomShort], "{findings:?}");
    assert_eq!(plant.app.store.migration_list(Which::All).await.expect("read").len(), 1);
}

/// A name is the first one's, until its migration is given up.
#[tokio::test]
async fn a_name_is_taken_by_a_migration_and_freed_by_its_abort() {
    let plant = Plant::new().await;
    offer(&plant, &[vm(1, "web", 1 << 20), vm(2, "WEB", 1 << 20)]).await;
    begin(&plant, "web", &Ask::new(Action::Begin)).await.expect("free");
    let refused = begin(&plant, "WEB", &Ask::new(Action::Begin)).await.expect_err("taken");
    let Error::Preflight { findings, .. } = &refused else { panic!("{refused:?}") };
    assert_eq!((findings[0].code, findings[0].alternative.as_deref()), (Code::NameTaken, Some("WEB-2")));
    begin(&plant, "web", &Ask::new(Action::Abort)).await.expect("given up");
    begin(&plant, "WEB", &Ask::new(Action::Begin)).await.expect("free again");
}

#[tokio::test]
async fn a_profile_is_named_by_begin_or_is_the_default() {
    let plant = Plant::new().await;
    let named = |name: &str| Ask { target_profile: Some(name.to_owned()), ..Ask::new(Action::Begin) };
    for name in ["shop", "no name"] {
        let refused = begin(&plant, "web-1", &named(name)).await.expect_err("none");
        assert_eq!(refused.reason(), "PROFILE_UNKNOWN");
    }
    let name = |name: &str| name.parse::<ProfileName>().expect("a name");
    let default = Settings { is_default: true, ..Settings::new(Backend::Local) };
    plant.app.profile_create(&name("usual"), default).await.expect("made");
    plant.app.profile_create(&name("shop"), Settings::new(Backend::Local)).await.expect("made");
    let checked = plant.app.check("web-1", None).await.expect("known");
    assert_eq!(checked.target_profile, Some(name("usual")));
    begin(&plant, "web-1", &named("shop")).await.expect("begun");
    assert_eq!(plant.migration().await.target_profile, Some(name("shop")));
    let checked = plant.app.check("web-1", None).await.expect("known");
    assert_eq!(checked.target_profile, Some(name("shop")), "its migration's");
    let other = plant.app.check("web-1", Some("usual")).await.expect("known");
    assert_eq!(other.target_profile, Some(name("usual")));

    let hold = Ask { target_profile: Some("usual".to_owned()), ..Ask::new(Action::Hold) };
    let refused = begin(&plant, "web-1", &hold).await.expect_err("no meaning");
    assert!(matches!(refused, Error::Argument { what: "target_profile", .. }), "{refused:?}");
    // What is refused changes nothing; what goes on is made by the new one.
    let refused = begin(&plant, "web-1", &named("usual")).await.expect_err("begun already");
    assert!(matches!(refused, Error::NotNow { .. }), "{refused:?}");
    assert_eq!(plant.migration().await.target_profile, Some(name("shop")));
    plant.step().await;
    let automatic = Ask { target_profile: Some("usual".to_owned()), ..Ask::new(Action::Automatic) };
    begin(&plant, "web-1", &automatic).await.expect("goes on");
    assert_eq!(plant.migration().await.target_profile, Some(name("usual")));
}

/// Red when the profile is no part of what was asked under a key.
#[tokio::test]
async fn the_same_key_for_another_profile_is_refused() {
    let plant = Plant::new().await;
    for name in ["shop", "lab"] {
        let settings = Settings::new(Backend::Local);
        plant.app.profile_create(&name.parse().expect("a name"), settings).await.expect("made");
    }
    let ask = |name: &str| Ask {
        target_profile: Some(name.to_owned()),
        key: Some(Key::parse("grpc", "k-1").expect("a key")),
        ..Ask::new(Action::Begin)
    };
    begin(&plant, "web-1", &ask("shop")).await.expect("begun");
    begin(&plant, "web-1", &ask("shop")).await.expect("the same again");
    let refused = begin(&plant, "web-1", &ask("lab")).await.expect_err("another");
    assert!(matches!(refused, Error::KeyReused), "{refused:?}");
}

#[test]
fn an_event_keeps_what_fits() {
    let finding = |n: usize| Finding {
        code: Code::NetworkUnmappedLive,
        severity: Severity::Warn,
        subject: format!("nic {n}"),
        found: "x".repeat(1000),
        action: "map it".to_owned(),
        alternative: None,
    };
    let all: Vec<_> = (0..64).map(finding).collect();
    let body = record(&all, None).expect("something");
    let kept = body["findings"].as_array().expect("a list").len();
    assert!((20..32).contains(&kept) && body["left_out"] == json!(64 - kept), "{kept}");
    assert!(body.to_string().len() < 40 << 10);
    assert_eq!(record(&[], None), None);
}
