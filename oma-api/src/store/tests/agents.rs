use super::*;
use shared::cycle::{Vm, VmDisk};
use shared::vm::Configuration;

/// Larger than some databases' short texts, and in all alphabets.
fn configuration() -> Configuration {
    let notes = Some("né 💾 ".repeat(800));
    let tags = vec!["ü".repeat(256); 40];
    Configuration { cpus: Some(4), notes, tags, change_tracking: Some(false), ..Configuration::default() }
}

fn hello(session: &str, vms: usize) -> AgentHello {
    let vm = |n: usize| Vm {
        uuid: vm(u8::try_from(n).expect("few")),
        name: format!("db-{n} ü"),
        disks: vec![VmDisk { key: "disk-0".parse().expect("a key"), size: 1 << 40 }],
        // The first is of an agent that does not tell it.
        configuration: (n > 0).then(configuration),
    };
    AgentHello {
        id: AgentId::parse("vma-01").expect("an id"),
        software_version: "0.1.0".into(),
        protocol_version: 1,
        address: "192.0.2.7:40312".into(),
        session_id: session.into(),
        inventory: (0..vms).map(vm).collect(),
    }
}

#[tokio::test]
async fn an_agent_is_known_by_its_last_word() {
    let mut f = Fixture::new().await;
    let first = hello("s1", 3);
    f.store.agent_connected(&first, at(0)).await.expect("connect");
    let unknown = AgentId::parse("vma-02").expect("an id");
    let seen = [(unknown, at(7)), (first.id.clone(), at(5))];
    f.store.agents_seen(&seen).await.expect("one that is not known is passed over");
    f.restart().await;
    let agent = f.store.agent_fetch(&first.id).await.expect("fetch");
    assert_eq!((agent.first_seen_at, agent.last_seen_at, agent.connected), (at(0), at(5), true));
    assert_eq!(agent.inventory, first.inventory);
    f.store.agent_inventory_set(&first.id, &first.inventory[1..], at(6)).await.expect("inventory");
    assert_eq!(f.store.agent_list().await.expect("list")[0].inventory, first.inventory[1..]);
    f.store.agent_disconnect_all().await.expect("start");
    assert!(!f.store.agent_fetch(&first.id).await.expect("fetch").connected);
}

#[tokio::test]
async fn the_end_of_an_old_session_does_not_end_the_new_one() {
    let f = Fixture::new().await;
    f.store.agent_connected(&hello("s1", 0), at(0)).await.expect("connect");
    f.store.agent_connected(&hello("s2", 1), at(1)).await.expect("connect anew");
    let id = hello("s1", 0).id;
    f.store.agent_disconnected(&id, "s1", at(2)).await.expect("late");
    assert!(f.store.agent_fetch(&id).await.expect("fetch").connected);
    f.store.agent_disconnected(&id, "s2", at(3)).await.expect("end");
    assert!(!f.store.agent_fetch(&id).await.expect("fetch").connected);
    let kinds: Vec<_> =
        f.store.event_list(0, None, 9).await.expect("events").into_iter().map(|e| e.kind).collect();
    assert_eq!(kinds, ["agent_connected", "agent_connected", "agent_disconnected"]);
}

#[tokio::test]
async fn a_migration_keeps_the_configuration_it_was_begun_with() {
    let mut f = Fixture::new().await;
    let begun = hello("s1", 2);
    f.store.agent_connected(&begun, at(0)).await.expect("connect");
    let recorded = begun.inventory[1].configuration.clone();
    let new = NewMigration { configuration: recorded.clone(), ..new_migration(1, 1) };
    f.store.migration_create(&new, at(1)).await.expect("create");
    let mut changed = begun.inventory;
    changed[1].configuration = Some(Configuration { cpus: Some(8), ..configuration() });
    f.store.agent_inventory_set(&begun.id, &changed, at(2)).await.expect("inventory");
    f.restart().await;
    assert_eq!(f.store.migration_configuration(&new.id).await.expect("read"), recorded);
    let bare = new_migration(2, 1);
    f.store.migration_create(&bare, at(1)).await.expect("create");
    assert_eq!(f.store.migration_configuration(&bare.id).await.expect("read"), None);
    let nobody = MigrationId::generate();
    assert!(matches!(f.store.migration_configuration(&nobody).await, Err(Error::NotFound { .. })));
    f.by_hand("UPDATE migrations SET configuration = '{'").await;
    let damaged = f.store.migration_configuration(&new.id).await;
    assert!(matches!(damaged, Err(Error::Corrupt { column: "configuration", .. })), "{damaged:?}");
}
