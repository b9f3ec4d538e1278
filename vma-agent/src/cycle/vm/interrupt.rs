//! Whether work goes on when another desired state comes.

use super::Wanted;
use shared::cycle::{CycleRun, DesiredVm};
use tokio::sync::watch;

/// What a newer desired state does to the work for an older one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Interruption {
    Pause,
    Drop,
}

/// Waits for a desired state that the work for `now` must not outlive; `None` when the manager is gone.
pub(super) async fn interrupted(
    wanted: &mut watch::Receiver<Option<Wanted>>,
    now: Option<&Wanted>,
) -> Option<Interruption> {
    loop {
        wanted.changed().await.ok()?;
        let newer = wanted.borrow_and_update().clone();
        if let Some(interruption) = interrupts(now.map(|w| &w.vm), newer.as_ref().map(|w| &w.vm)) {
            return Some(interruption);
        }
    }
}

/// Pure: whether work for `old` may go on under `new`.
fn interrupts(old: Option<&DesiredVm>, new: Option<&DesiredVm>) -> Option<Interruption> {
    let key = |vm: &DesiredVm| {
        let cycle = vm.cycle.as_ref()?;
        let disks: Vec<_> =
            cycle.disks.iter().map(|d| (d.disk.clone(), d.epoch, d.strategy.clone())).collect();
        Some((cycle.job.clone(), cycle.kind, disks))
    };
    let run = |vm: &DesiredVm| vm.cycle.as_ref().map(|cycle| cycle.run);
    match (old, new) {
        (None, _) => None,
        (Some(old), Some(new)) if key(old) == key(new) && old.release == new.release => {
            match (run(old), run(new)) {
                (Some(CycleRun::Run), Some(CycleRun::Pause)) => Some(Interruption::Pause),
                (Some(CycleRun::Run), Some(CycleRun::Committing)) => Some(Interruption::Drop),
                _ => None,
            }
        }
        (Some(_), _) => Some(Interruption::Drop),
    }
}
