//! Whether work goes on when another desired state comes.

use super::{Orders, Wanted};
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
    orders: &Orders,
) -> Option<Interruption> {
    loop {
        wanted.changed().await.ok()?;
        let newer = wanted.borrow_and_update().clone();
        let obeying = now.is_some_and(|now| orders.is_open(now));
        if let Some(interruption) = interrupts(now.map(|w| &w.vm), newer.as_ref().map(|w| &w.vm), obeying) {
            return Some(interruption);
        }
    }
}

/// Pure: whether work for `old` may go on under `new`. `obeying`: its order about power is not done with.
fn interrupts(old: Option<&DesiredVm>, new: Option<&DesiredVm>, obeying: bool) -> Option<Interruption> {
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
                // A new order goes before all else. One that was withdrawn ends what is done for it, and no cycle.
                _ if old.power != new.power && (new.power.is_some() || obeying) => Some(Interruption::Drop),
                _ => None,
            }
        }
        (Some(_), _) => Some(Interruption::Drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::cycle::{CycleKind, DesiredCycle, PowerOrder, PowerWish};
    use shared::ids::MigrationId;
    use std::time::Duration;

    fn vm(run: CycleRun, order: Option<&str>) -> DesiredVm {
        let cycle = DesiredCycle {
            job: "job-20261121-120000".parse().expect("an id"),
            kind: CycleKind::Sync,
            run,
            disks: vec![],
            snapshot: None,
            traceparent: None,
        };
        let power = order.map(|id| PowerOrder {
            id: id.to_owned(),
            wish: PowerWish::Off,
            graceful: Duration::ZERO,
            force: true,
        });
        DesiredVm {
            vm: "00000000-0000-4000-8000-000000000001".parse().expect("a uuid"),
            migration: MigrationId::generate(),
            release: false,
            keep: vec![],
            rate: 0,
            cycle: Some(cycle),
            power,
        }
    }

    #[test]
    fn orders_interrupt_and_what_is_done_with_does_not() {
        use CycleRun::{Pause, Run};
        use Interruption::{Drop, Pause as Stop};
        for (old, new, obeying, interruption) in [
            ((Run, None), (Run, None), false, None),
            ((Run, None), (Run, Some("a")), false, Some(Drop)),
            ((Run, Some("a")), (Run, Some("a")), true, None),
            ((Run, Some("a")), (Run, Some("b")), false, Some(Drop)),
            ((Run, Some("a")), (Run, Some("b")), true, Some(Drop)),
            // A cycle goes on when an order that was carried out is taken away.
            ((Run, Some("a")), (Run, None), false, None),
            ((Run, Some("a")), (Run, None), true, Some(Drop)),
            // What is under way becomes durable before the order's turn.
            ((Run, None), (Pause, Some("a")), false, Some(Stop)),
            ((Pause, Some("a")), (Run, Some("a")), true, None),
        ] {
            let (old, new) = (vm(old.0, old.1), vm(new.0, new.1));
            assert_eq!(interrupts(Some(&old), Some(&new), obeying), interruption, "{old:?} {new:?}");
        }
    }
}
