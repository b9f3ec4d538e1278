//! Orders about power, with a machine that does as a test says. The clock stands still but for what is waited for.

use super::*;
use shared::cycle::{How, PowerOrder, PowerReport, PowerWish};
use shared::vm::Power;
use std::sync::Mutex;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, timeout};
use tonic::transport::{Channel, Endpoint};

const HOUR: Duration = Duration::from_secs(3600);

/// The machine of the VM, and what was done to it.
#[derive(Default)]
pub(super) struct Machine(Mutex<State>);

#[derive(Default)]
struct State {
    /// `None`: there is no switch.
    power: Option<PowerState>,
    away: bool,
    /// The guest hears this press of its button, and no earlier one; 0: none.
    hears: usize,
    /// Being cut, or switched on, has no effect.
    stuck: bool,
    done: Vec<&'static str>,
}

impl Machine {
    fn new(power: PowerState) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { power: Some(power), ..State::default() })))
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().expect("no test panics in it"))
    }

    fn done(&self) -> Vec<&'static str> {
        self.with(|state| std::mem::take(&mut state.done))
    }

    fn switch(&self, what: &'static str, to: impl FnOnce(&State) -> Option<PowerState>) -> Result<(), Error> {
        self.with(|state| match state.power {
            _ if state.away => Err(Error::ShuttingDown),
            None => Err(Error::PowerUnsupported { why: "there is no switch".to_owned() }),
            Some(_) => {
                state.done.push(what);
                state.power = to(state).or(state.power);
                Ok(())
            }
        })
    }

    pub(super) fn looked_for_snapshots(&self) -> Result<Vec<SnapshotName>, Error> {
        self.with(|state| {
            state.done.push("clean up");
            if state.away || state.power.is_none() { Err(Error::ShuttingDown) } else { Ok(vec![]) }
        })
    }

    pub(super) fn power(&self) -> Result<PowerState, Error> {
        self.with(|state| match state.away {
            true => Err(Error::ShuttingDown),
            false => Ok(state.power.unwrap_or(PowerState::Unknown)),
        })
    }

    pub(super) fn shut_down(&self) -> Result<(), Error> {
        self.switch("press", |state| {
            let presses = state.done.iter().filter(|done| **done == "press").count();
            (presses == state.hears).then_some(PowerState::Off)
        })
    }

    pub(super) fn power_off(&self) -> Result<(), Error> {
        self.switch("cut", |state| (!state.stuck).then_some(PowerState::Off))
    }

    pub(super) fn power_on(&self) -> Result<(), Error> {
        self.switch("on", |state| (!state.stuck).then_some(PowerState::Running))
    }
}

/// An agent with that machine, connected.
struct World {
    manager: Manager,
    outgoing: Receiver<Outgoing>,
    machine: Arc<Machine>,
    wanted: DesiredVm,
    begun: Instant,
}

fn channel() -> Channel {
    Endpoint::from_static("http://127.0.0.1:1").connect_lazy()
}

fn world(machine: &Arc<Machine>) -> World {
    let (manager, outgoing, vm, _) = start_with(Arc::clone(machine));
    manager.connected(channel());
    let wanted = DesiredVm {
        vm: vm.uuid,
        migration: MigrationId::generate(),
        release: false,
        keep: vec![],
        rate: 0,
        cycle: None,
        power: None,
    };
    World { manager, outgoing, machine: Arc::clone(machine), wanted, begun: Instant::now() }
}

fn order(wish: PowerWish, graceful: u64, force: bool) -> PowerOrder {
    PowerOrder { id: "order-1".to_owned(), wish, graceful: Duration::from_secs(graceful), force }
}

fn off(graceful: u64, force: bool) -> PowerOrder {
    order(PowerWish::Off, graceful, force)
}

fn cycle(run: CycleRun) -> DesiredCycle {
    DesiredCycle {
        traceparent: None,
        job: "job-20261121-120000".parse().expect("an id"),
        kind: CycleKind::Sync,
        run,
        disks: vec![],
        snapshot: None,
    }
}

impl World {
    fn desire(&mut self, change: impl FnOnce(&mut DesiredVm)) {
        change(&mut self.wanted);
        self.manager.desire(DesiredState { revision: 1, vms: vec![self.wanted.clone()] });
        self.begun = Instant::now();
    }

    fn order(&mut self, order: PowerOrder) {
        self.desire(|vm| vm.power = Some(order));
    }

    async fn said(&mut self) -> Outgoing {
        timeout(HOUR, self.outgoing.recv()).await.expect("within an hour").expect("a manager")
    }

    /// The next report on power, and after how many seconds it came.
    async fn report(&mut self) -> (PowerReport, u64) {
        match self.said().await {
            Outgoing::Power(report) => (report, self.begun.elapsed().as_secs()),
            other => panic!("{other:?}"),
        }
    }

    /// Carried out: the state, how, and after how many seconds.
    async fn reached(&mut self) -> (Power, Option<How>, u64) {
        let (report, seconds) = self.report().await;
        assert_eq!(report.failure, None);
        assert_eq!((report.order.as_str(), &report.migration), ("order-1", &self.wanted.migration));
        (report.state, report.how, seconds)
    }

    /// Not carried out: the state, the reason, and after how many seconds.
    async fn failed(&mut self) -> (Power, String, String, u64) {
        let (report, seconds) = self.report().await;
        let failure = report.failure.expect("a failure");
        assert_eq!(report.how, None);
        (report.state, failure.reason, failure.message, seconds)
    }

    async fn says_nothing(&mut self, during: Duration) {
        if let Ok(said) = timeout(during, self.outgoing.recv()).await {
            panic!("{said:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_off_is_left_so_and_only_then_the_rest_is_done() {
    let mut world = world(&Machine::new(PowerState::Off));
    world.order(off(300, true));
    assert_eq!(world.reached().await, (Power::Off, Some(How::Already), 0));
    world.says_nothing(HOUR).await;
    assert_eq!(world.machine.done(), ["clean up"]);
}

#[tokio::test(start_paused = true)]
async fn a_guest_is_asked_until_it_hears() {
    let mut world = world(&Machine::new(PowerState::Running));
    world.machine.with(|state| state.hears = 3);
    world.order(off(300, true));
    assert_eq!(world.reached().await, (Power::Off, Some(How::Graceful), 10));
    // The inventory is looked at again, as its power is another.
    timeout(HOUR, world.manager.may_have_changed()).await.expect("at once");
    world.says_nothing(HOUR).await;
    assert_eq!(
        world.machine.done(),
        ["press", "press", "press", "clean up"],
        "nothing before it was reported"
    );
}

#[tokio::test(start_paused = true)]
async fn a_deaf_guest_keeps_its_power_without_leave_to_cut_it() {
    let mut world = world(&Machine::new(PowerState::Running));
    world.order(off(12, false));
    let (state, reason, message, seconds) = world.failed().await;
    assert_eq!((state, reason.as_str(), seconds), (Power::On, "POWER_OFF_TIMEOUT", 12));
    assert!(message.contains("within 12 s") && message.contains("allow a forced power-off"), "{message}");
    // It is not tried again by itself.
    world.says_nothing(HOUR).await;
    assert_eq!(world.machine.done(), ["press", "press", "press", "clean up"]);
    // Leave is another order.
    world.order(PowerOrder { id: "order-2".to_owned(), ..off(0, true) });
    let (report, seconds) = world.report().await;
    assert_eq!((report.order.as_str(), report.how, seconds), ("order-2", Some(How::Forced), 0));
}

#[tokio::test(start_paused = true)]
async fn a_deaf_guest_loses_its_power_where_that_is_allowed() {
    let mut world = world(&Machine::new(PowerState::Running));
    world.order(off(12, true));
    assert_eq!(world.reached().await, (Power::Off, Some(How::Forced), 12));
    world.says_nothing(HOUR).await;
    assert_eq!(world.machine.done(), ["press", "press", "press", "cut", "clean up"]);
}

#[tokio::test(start_paused = true)]
async fn without_time_for_the_guest_it_is_not_asked() {
    let mut world = world(&Machine::new(PowerState::Running));
    world.order(off(0, true));
    assert_eq!(world.reached().await, (Power::Off, Some(How::Forced), 0));
    assert!(!world.machine.done().contains(&"press"));
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_does_not_stop_is_told_of() {
    let mut world = world(&Machine::new(PowerState::Running));
    world.machine.with(|state| state.stuck = true);
    world.order(off(0, true));
    let (state, reason, message, seconds) = world.failed().await;
    assert_eq!((state, reason.as_str(), seconds), (Power::On, "POWER_OFF_TIMEOUT", 60));
    assert!(message.contains("60 s after its power was cut"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn the_power_is_switched_on_once() {
    let mut world = world(&Machine::new(PowerState::Off));
    world.order(order(PowerWish::On, 0, false));
    assert_eq!(world.reached().await, (Power::On, Some(How::Graceful), 0));
    world.manager.connected(channel());
    world.desire(|_| {});
    assert_eq!(world.reached().await, (Power::On, Some(How::Already), 0));
    world.says_nothing(HOUR).await;
    assert_eq!(world.machine.done().iter().filter(|done| **done == "on").count(), 1);
    world.machine.with(|state| (state.power, state.stuck) = (Some(PowerState::Off), true));
    world.order(PowerOrder { id: "order-2".to_owned(), ..order(PowerWish::On, 0, false) });
    let (state, reason, message, seconds) = world.failed().await;
    assert_eq!((state, reason.as_str(), seconds), (Power::Off, "POWER_ON_FAILED", 60));
    assert!(message.contains("not on 60 s after"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_report_changes_nothing() {
    for (now, state) in [(PowerState::Off, Power::Off), (PowerState::Running, Power::On)] {
        let mut world = world(&Machine::new(now));
        world.order(order(PowerWish::Report, 0, true));
        assert_eq!(world.reached().await, (state, None, 0));
        world.says_nothing(HOUR).await;
        assert_eq!(world.machine.done(), ["clean up"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_without_a_switch_says_so() {
    for wish in [off(300, true), off(0, true), off(0, false), order(PowerWish::On, 0, false)] {
        let mut world = world(&Arc::default());
        world.order(wish);
        let (state, reason, message, seconds) = world.failed().await;
        assert_eq!((state, reason.as_str(), seconds), (Power::Unknown, "POWER_UNSUPPORTED", 0));
        assert!(message.contains("there is no switch; switch it by hand"), "{message}");
        world.says_nothing(HOUR).await;
    }
    let mut world = world(&Arc::default());
    world.order(order(PowerWish::Report, 0, false));
    assert_eq!(world.reached().await, (Power::Unknown, None, 0), "never off");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_cannot_be_asked_is_told_of_and_a_moment_of_silence_is_not() {
    let mut world = world(&Machine::new(PowerState::Running));
    world.machine.with(|state| state.away = true);
    world.order(off(300, true));
    let (state, reason, _, seconds) = world.failed().await;
    assert_eq!((state, reason.as_str(), seconds), (Power::Unknown, "SOURCE_UNAVAILABLE", 5));
    world.machine.with(|state| (state.away, state.hears) = (false, 2));
    world.machine.done();
    world.order(PowerOrder { id: "order-2".to_owned(), ..off(300, true) });
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.machine.with(|state| state.away = true);
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.machine.with(|state| state.away = false);
    let (report, seconds) = world.report().await;
    assert_eq!((report.state, report.how, seconds), (Power::Off, Some(How::Graceful), 5));
}

#[tokio::test(start_paused = true)]
async fn an_order_is_over_when_it_is_withdrawn() {
    let mut world = world(&Machine::new(PowerState::Running));
    world.order(off(60, true));
    world.says_nothing(Duration::from_secs(7)).await;
    world.desire(|vm| vm.power = None);
    world.says_nothing(HOUR).await;
    assert_eq!(world.machine.done(), ["press", "press", "clean up"]);
    // Given again, it is a new one, with all its time.
    world.order(off(60, true));
    assert_eq!(world.reached().await, (Power::Off, Some(How::Forced), 60));
    // And one that is another word takes its place at once.
    world.machine.with(|state| state.power = Some(PowerState::Running));
    world.order(PowerOrder { id: "order-2".to_owned(), ..off(60, true) });
    world.says_nothing(Duration::from_secs(7)).await;
    world.order(PowerOrder { id: "order-3".to_owned(), ..order(PowerWish::Report, 0, false) });
    let (report, seconds) = world.report().await;
    assert_eq!((report.order.as_str(), report.state, seconds), ("order-3", Power::On, 0));
}

#[tokio::test(start_paused = true)]
async fn over_another_connection_it_is_carried_out_and_reported_again() {
    let mut world = world(&Machine::new(PowerState::Running));
    world.machine.with(|state| state.hears = 1);
    world.order(off(60, true));
    assert_eq!(world.reached().await, (Power::Off, Some(How::Graceful), 0));
    world.desire(|vm| vm.rate = 7);
    world.says_nothing(HOUR).await;
    world.manager.disconnected();
    world.manager.connected(channel());
    world.desire(|_| {});
    assert_eq!(world.reached().await, (Power::Off, Some(How::Already), 0));
    world.says_nothing(HOUR).await;
}

/// What else changes does not give the guest more time, and does not forget that it was asked.
#[tokio::test(start_paused = true)]
async fn an_order_that_is_interrupted_is_taken_up_again() {
    let mut world = world(&Machine::new(PowerState::Running));
    world.order(off(12, true));
    let begun = world.begun;
    world.says_nothing(Duration::from_secs(7)).await;
    world.manager.connected(channel());
    world.desire(|vm| vm.cycle = Some(cycle(CycleRun::Committing)));
    let (power, how, _) = world.reached().await;
    assert_eq!((power, how, begun.elapsed().as_secs()), (Power::Off, Some(How::Forced), 12));
    assert_eq!(world.machine.done()[..4], ["press", "press", "press", "cut"]);
}

#[tokio::test(start_paused = true)]
async fn a_pause_waits_for_no_guest() {
    let mut world = world(&Machine::new(PowerState::Running));
    world.desire(|vm| (vm.cycle, vm.power) = (Some(cycle(CycleRun::Run)), Some(off(12, true))));
    let begun = world.begun;
    world.says_nothing(Duration::from_secs(7)).await;
    assert_eq!(world.manager.running(), [], "the cycle has not begun");
    world.desire(|vm| vm.cycle = Some(cycle(CycleRun::Pause)));
    match world.said().await {
        Outgoing::Report(report) => assert_eq!(report.event, CycleEvent::Paused),
        other => panic!("{other:?}"),
    }
    assert!(world.begun.elapsed() < Duration::from_secs(1), "{:?}", world.begun.elapsed());
    let (power, how, _) = world.reached().await;
    assert_eq!((power, how, begun.elapsed().as_secs()), (Power::Off, Some(How::Forced), 12));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_protection_waits_for_no_guest() {
    let mut world = world(&Machine::new(PowerState::Running));
    world.order(off(60, true));
    world.says_nothing(Duration::from_secs(7)).await;
    world.desire(|vm| vm.release = true);
    match world.said().await {
        Outgoing::Released { migration, .. } => assert_eq!(migration, world.wanted.migration),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.begun.elapsed().as_secs(), 0);
    // Then the order, which was not withdrawn.
    assert_eq!(world.reached().await, (Power::Off, Some(How::Forced), 53));
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_is_not_in_the_inventory_has_no_power_to_switch() {
    let mut world = world(&Machine::new(PowerState::Running));
    world.wanted.vm = "00000000-0000-4000-8000-000000000002".parse().expect("a uuid");
    world.order(off(60, true));
    let (state, reason, message, _) = world.failed().await;
    assert_eq!((state, reason.as_str()), (Power::Unknown, "VM_UNKNOWN"));
    assert!(message.contains("not in the inventory"), "{message}");
    assert_eq!(world.machine.done(), [""; 0]);
}
