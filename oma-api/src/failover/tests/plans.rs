//! What a plan makes of a VM, and the words of the API beside those of the database's view.

use super::world::World;
use crate::failover::plan::Unplannable;
use crate::failover::status::Status;
use crate::service::Error;
use crate::service::failovers::Refused;
use crate::store;
use crate::workflow::{Job, JobState};
use serde_json::{Map, json};

fn custom(value: serde_json::Value) -> Option<Map<String, serde_json::Value>> {
    value.as_object().cloned()
}

#[tokio::test]
async fn what_a_machine_is_made_of_can_be_said() {
    let world = World::sqlite().await;
    let mut request = world.request().await;
    let id = world.ask(&request).await.expect("taken");
    let usual = world.plant.app.failover_find(id.as_str()).await.expect("read");
    let params = &usual.failover.job.params["machine"];
    assert_eq!((&params["cpus"], &params["memory_bytes"]), (&json!(2), &json!(1 << 30)), "as the source's");
    request.custom_config =
        custom(json!({ "cpu_count": 4, "memory_mb": 512, "disk_bus": "sata", "note": "kept" }));
    let id = world.ask(&request).await.expect("taken");
    let said = world.plant.app.failover_find(id.as_str()).await.expect("read");
    let params = &said.failover.job.params["machine"];
    assert_eq!((&params["cpus"], &params["memory_bytes"]), (&json!(4), &json!(512 << 20)));
    assert_eq!(params["bus"], json!("sata"));
    assert_eq!(said.failover.record.custom_config, request.custom_config.clone().map(Into::into));
    for wrong in [json!({ "cpu_count": 0 }), json!({ "memory_mb": "much" }), json!({ "disk_bus": "floppy" })]
    {
        request.custom_config = custom(wrong.clone());
        let refused = world.ask(&request).await.expect_err("none");
        assert!(
            matches!(&refused, Error::Failover(Refused::Unplannable(Unplannable::Custom { .. }))),
            "{wrong}: {refused:?}"
        );
    }
}

/// The view `failover_jobs` is SQL, the table is Rust: they say the same of every state.
#[tokio::test]
async fn the_view_and_the_table_have_the_same_words() {
    for world in [World::sqlite().await, World::mariadb().await] {
        let id = world.begin().await;
        let store = &world.plant.app.store;
        for validated in [false, true] {
            let mut job = store.workflow_fetch(&id).await.expect("read");
            if validated {
                job = world.drive(&id).await;
            }
            for state in JobState::ALL {
                let changed = Job { state: *state, ..job.clone() };
                job = store.workflow_save(&job, &changed, world.plant.app.clock.now()).await.expect("saved");
                let of = store::FailoversOf {
                    status: Some(Status::of(&job).as_str()),
                    limit: 10,
                    ..store::FailoversOf::default()
                };
                let (found, total) = store.failover_page(&of).await.expect("read");
                assert_eq!((found.len(), total), (1, 1), "{state} after validation: {validated}");
            }
        }
    }
}
