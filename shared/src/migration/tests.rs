use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn inputs() -> Vec<Input> {
    let actions = Action::ALL.iter().map(|&a| Input::Action(a));
    actions.chain(Event::ALL.iter().map(|&e| Input::Event(e))).collect()
}

fn facts() -> Vec<Facts> {
    let bit = |n: u8, i: u8| n >> i & 1 == 1;
    let of = |n| Facts {
        has_committed: bit(n, 0),
        held: bit(n, 1),
        past_no_return: bit(n, 2),
        has_target: bit(n, 3),
    };
    (0..16).map(of).collect()
}

#[test]
fn every_word_is_spelled_one_way() {
    macro_rules! both_ways {
        ($($name:ident),*) => {$(
            for &word in $name::ALL {
                assert_eq!(word.as_str().parse(), Ok(word));
                assert_eq!(word.to_string(), word.as_str());
            }
            let spellings: BTreeSet<_> = $name::ALL.iter().map(|w| w.as_str()).collect();
            assert_eq!(spellings.len(), $name::ALL.len());
            assert!("Begin".parse::<$name>().is_err(), "case matters");
        )*};
    }
    both_ways!(Phase, State, Action, Event);
    let error = "synk".parse::<Phase>().expect_err("no such phase").to_string();
    assert_eq!(error, r#""synk" is no phase: expected one of begin sync switch finalize abort rollback"#);
    assert_eq!(Event::CycleCommitted.as_str(), "cycle_committed");
}

#[test]
fn pairs_that_cannot_be_are_named() {
    let impossible: Vec<String> = Phase::ALL
        .iter()
        .flat_map(|&phase| State::ALL.iter().map(move |&state| (phase, state)))
        .filter_map(|(phase, state)| Position::of(phase, state).err())
        .map(|i| format!("{}/{}", i.phase, i.state))
        .collect();
    let expected = "begin/successful begin/aborted sync/successful sync/aborted switch/paused switch/aborted \
        finalize/paused finalize/aborted abort/paused abort/successful rollback/paused rollback/successful rollback/aborted";
    assert_eq!(impossible.join(" "), expected);
    for &at in Position::ALL {
        assert_eq!(Position::of(at.phase(), at.state()), Ok(at));
    }
}

/// The table of DESIGN §7 written a second time, as text: rows are positions, columns are inputs.
/// `.` refused; `=` stays; else the position it leads to. Facts: [`USUAL`].
const ROWS: &str = "
at                  begin sync switch automatic pause hold release abort finalize rollback | started progressed cycle_committed interrupted failed done
none                BR    .    .      BR        .     .    .       .     .        .        | .       .          .               .           .      .
begin/running       .     .    .      .         .     =    =       AR    .        .        | =       =          .               =           BF     BP
begin/paused        .     SR   WR     SR        .     =    =       AR    .        .        | .       .          .               .           .      .
begin/failed        BR    .    WR     BR        .     =    =       AR    .        .        | .       .          .               .           .      .
sync/running        .     .    .      .         =     =    =       AR    .        .        | =       =          SP              =           SF     SP
sync/paused         .     SR   WR     SR        .     =    =       AR    .        .        | .       .          .               .           .      .
sync/failed         .     SR   WR     SR        .     =    =       AR    .        .        | .       .          .               .           .      .
switch/running      .     .    .      .         .     =    =       AR    .        .        | =       =          =               =           WF     WS
switch/successful   .     .    .      .         .     =    =       .     FR       RR       | .       .          .               .           .      .
switch/failed       .     .    .      .         .     =    =       AR    .        RR       | WR      .          .               .           .      .
rollback/running    .     .    .      .         .     =    =       .     .        .        | =       =          .               =           RF     SP
rollback/failed     .     .    .      .         .     =    =       .     .        RR       | RR      .          .               .           .      .
finalize/running    .     .    .      .         .     =    =       .     .        .        | =       =          .               =           FF     FS
finalize/failed     .     .    .      .         .     =    =       .     FR       .        | .       .          .               .           .      .
finalize/successful .     .    .      .         .     .    .       .     .        .        | .       .          .               .           .      .
abort/running       .     .    .      .         .     =    =       .     .        .        | =       =          .               =           AF     AA
abort/failed        .     .    .      .         .     =    =       AR    .        .        | .       .          .               .           .      .
abort/aborted       .     .    .      .         .     .    .       .     .        .        | .       .          .               .           .      .
";

fn position(word: &str) -> Option<Position> {
    let (phase, state) = word.split_once('/')?;
    Some(Position::of(phase.parse().expect("a phase"), state.parse().expect("a state")).expect("possible"))
}

fn short(at: Position) -> &'static str {
    match at {
        Position::BeginRunning => "BR",
        Position::BeginPaused => "BP",
        Position::BeginFailed => "BF",
        Position::SyncRunning => "SR",
        Position::SyncPaused => "SP",
        Position::SyncFailed => "SF",
        Position::SwitchRunning => "WR",
        Position::SwitchSuccessful => "WS",
        Position::SwitchFailed => "WF",
        Position::RollbackRunning => "RR",
        Position::RollbackFailed => "RF",
        Position::FinalizeRunning => "FR",
        Position::FinalizeFailed => "FF",
        Position::FinalizeSuccessful => "FS",
        Position::AbortRunning => "AR",
        Position::AbortFailed => "AF",
        Position::AbortAborted => "AA",
    }
}

/// A committed cycle, no hold, before the point of no return, and a target.
const USUAL: Facts = Facts { has_committed: true, held: false, past_no_return: false, has_target: true };

#[test]
fn the_table_row_by_row() {
    let mut lines = ROWS.trim().lines().map(|line| line.split_whitespace().filter(|w| *w != "|"));
    let inputs = inputs();
    let head: Vec<_> = lines.next().expect("a head").skip(1).collect();
    let names: Vec<_> = inputs.iter().map(|i| i.to_string().replace("the event ", "")).collect();
    assert_eq!(head, names);
    let mut seen = BTreeSet::new();
    for mut line in lines {
        let at = position(line.next().expect("a row's name"));
        assert!(seen.insert(at), "{at:?} twice");
        let cells: Vec<_> = line.collect();
        assert_eq!(cells.len(), inputs.len(), "{at:?}");
        for (&input, cell) in inputs.iter().zip(cells) {
            let got = match apply(at, input, USUAL) {
                Err(_) => ".",
                Ok(next) if Some(next.to) == at => "=",
                Ok(next) => short(next.to),
            };
            assert_eq!(got, cell, "{at:?} {input}");
        }
    }
    assert_eq!(seen.len(), Position::ALL.len() + 1);
}

#[test]
fn facts_change_only_what_they_are_for() {
    for current in Position::ALL.iter().map(|&p| Some(p)).chain([None]) {
        for input in inputs() {
            for f in facts() {
                let refused_by = apply(current, input, f).err().map(|d| d.why);
                let usually = apply(current, input, USUAL).err().map(|d| d.why);
                let expected = match (input, current.map(Position::phase), usually) {
                    (Input::Action(Action::Switch), _, None) if !f.has_committed => {
                        Some(Refusal::NoCommittedCycle)
                    }
                    (Input::Action(Action::Switch | Action::Rollback | Action::Finalize), _, None)
                        if !f.has_target =>
                    {
                        Some(Refusal::NoTarget)
                    }
                    (Input::Action(Action::Automatic), Some(_), None) if f.held => Some(Refusal::Held),
                    (Input::Action(Action::Abort), Some(Phase::Switch), None) if f.past_no_return => {
                        Some(Refusal::PointOfNoReturn)
                    }
                    (_, _, usually) => usually,
                };
                assert_eq!(refused_by, expected, "{current:?} {input} {f:?}");
            }
        }
    }
}

#[test]
fn effects_say_what_to_do() {
    let f = USUAL;
    let effect = |at, action| apply(at, action, f).map(|n: Next| n.effect);
    assert_eq!(effect(None, Action::Begin), Ok(Effect::Prepare));
    assert_eq!(effect(Some(Position::BeginPaused), Action::Sync), Ok(Effect::RunCycle));
    assert_eq!(effect(Some(Position::SyncRunning), Action::Pause), Ok(Effect::StopCycle));
    assert_eq!(effect(Some(Position::SyncRunning), Action::Abort), Ok(Effect::TearDown));
    assert_eq!(effect(Some(Position::SyncPaused), Action::Switch), Ok(Effect::RunSwitch));
    assert_eq!(effect(Some(Position::SwitchFailed), Action::Rollback), Ok(Effect::RunRollback));
    assert_eq!(effect(Some(Position::SwitchSuccessful), Action::Finalize), Ok(Effect::RunFinalize));
    assert_eq!(effect(Some(Position::SyncRunning), Action::Hold), Ok(Effect::Hold));
    assert_eq!(effect(Some(Position::SyncRunning), Action::Release), Ok(Effect::Release));
}

#[test]
fn a_refusal_names_what_was_asked_where_it_is_and_what_instead() {
    let denied = apply(Some(Position::BeginPaused), Action::Pause, Facts::default()).expect_err("no cycle");
    assert_eq!(denied.reason(), "NOTHING_TO_PAUSE");
    assert_eq!(
        denied.to_string(),
        "pause is not possible while the migration is begin/paused: no cycle is running; \
         possible now: sync, automatic, hold, release, abort"
    );
    let denied = apply(None, Action::Sync, Facts::default()).expect_err("not protected");
    assert_eq!(
        denied.to_string(),
        "sync is not possible: this VM has no unfinished migration; possible now: begin, automatic"
    );
    let denied = apply(Some(Position::AbortAborted), Event::Done, Facts::default()).expect_err("history");
    assert!(denied.to_string().ends_with("nothing can be asked of it now"), "{denied}");
    assert_eq!(denied.instead, []);
}

#[test]
fn every_reason_can_be_reached_and_is_spelled_once() {
    let reached: std::collections::HashSet<_> = Position::ALL
        .iter()
        .map(|&p| Some(p))
        .chain([None])
        .flat_map(|at| inputs().into_iter().flat_map(move |i| facts().into_iter().map(move |f| (at, i, f))))
        .filter_map(|(at, i, f)| apply(at, i, f).err())
        .map(|d| d.why)
        .collect();
    for why in Refusal::ALL {
        assert!(reached.contains(why), "{why:?} cannot happen");
        assert!(why.reason().chars().all(|c| c.is_ascii_uppercase() || c == '_'), "{why:?}");
    }
    let reasons: BTreeSet<_> = Refusal::ALL.iter().map(|w| w.reason()).collect();
    assert_eq!(reasons.len(), Refusal::ALL.len());
}

/// What must hold whatever the table says in detail; written without looking at positions one by one.
#[derive(Default)]
struct Model {
    on_target: bool,
    volumes: bool,
    ended: bool,
}

proptest! {
    /// Random lives: the VM is on one side at a time, the replica goes only by abort or finalize, history stays.
    #[test]
    fn random_lives_keep_the_promises(steps in prop::collection::vec((0usize..16, any::<bool>()), 1..200)) {
        let inputs = inputs();
        let (mut at, mut model) = (None, Model::default());
        let mut f = Facts { has_target: true, ..Facts::default() };
        for (index, past) in steps {
            let input = inputs[index];
            if matches!(at, Some(Position::SwitchRunning)) {
                f.past_no_return |= past;
            }
            let before = at;
            let listed = allowed(at, f);
            let outcome = apply(at, input, f);
            if let Input::Action(action) = input {
                prop_assert_eq!(outcome.is_ok(), listed.contains(&action));
            }
            let Ok(next) = outcome else {
                let denied = apply(at, input, f).expect_err("the same answer again");
                prop_assert_eq!(denied.instead, listed);
                continue;
            };
            prop_assert!(!model.ended, "{:?} moved history", input);
            at = Some(next.to);
            match next.effect {
                Effect::Prepare => model.volumes = true,
                Effect::Hold => f.held = true,
                Effect::Release => f.held = false,
                Effect::RunSwitch => {
                    prop_assert!(f.has_committed && !model.on_target);
                    f.past_no_return = false;
                }
                Effect::RunCycle | Effect::StopCycle => prop_assert!(!model.on_target && model.volumes),
                Effect::TearDown => prop_assert!(!model.on_target && !f.past_no_return),
                Effect::Nothing | Effect::RunRollback | Effect::RunFinalize => {}
            }
            if input == Input::Event(Event::CycleCommitted) {
                f.has_committed = true;
            }
            if next.to == Position::SwitchSuccessful {
                model.on_target = true;
            }
            if before == Some(Position::RollbackRunning) && next.to == Position::SyncPaused {
                model.on_target = false;
                f.past_no_return = false;
            }
            if next.to.ended() {
                prop_assert_eq!(model.on_target, next.to == Position::FinalizeSuccessful);
                prop_assert_eq!(allowed(at, f), vec![]);
                model.ended = true;
            }
            // Only events end work; only actions start it, and what failed goes on when it is tried again.
            match input {
                Input::Action(_) => prop_assert!(Some(next.to) == before || next.to.state() == State::Running),
                Input::Event(Event::Started) if before.map(Position::state) == Some(State::Failed) => {
                    prop_assert_eq!(next.to.state(), State::Running);
                    prop_assert_eq!(before.map(Position::phase), Some(next.to.phase()));
                }
                Input::Event(_) => prop_assert_eq!(before.map(Position::state), Some(State::Running)),
            }
        }
    }
}
