use crate::reconcile::one;
use crate::testing::Plant;
use shared::migration::{Action, Position};

/// Volumes that were being made when the operator gave up go with the abort.
#[tokio::test]
async fn an_abort_during_begin_leaves_no_volume() {
    let plant = Plant::new().await;
    plant.act(Action::Begin).await;
    let beginning = plant.migration().await;
    plant.act(Action::Abort).await;
    // The work for begin/running was under way.
    let _ = one(&plant.app, &beginning).await;
    assert_eq!(plant.migration().await.position, Position::AbortRunning);
    plant.step().await;
    let aborted = plant.migration().await;
    assert_eq!((aborted.position, aborted.release_pending), (Position::AbortAborted, true));
    let volumes = std::fs::read_dir(plant.folder.path().join("storage/volumes")).expect("there");
    assert_eq!(volumes.count(), 0);
}
