//! What else goes wrong while daemons are killed: connections cut or reset at a message, messages twice and late, a
//! clock that jumps, a source that is slow, and in a soak connections that fall silent.

use super::driver::Attack;
use integration_tests::harness::{Clock, World};
use integration_tests::middle::{self, Fault, How, Kind, Middle, Moment, Rule};
use integration_tests::nbd_tap::Tap;
use rand::Rng as _;
use rand::seq::IndexedRandom as _;

const DAY: i64 = 24 * 60 * 60;

/// Of a slow source, in bytes a second: a disk of the tests takes seconds.
const SLOW: u64 = 24 << 20;

/// Between a world's daemons, and above them.
pub(super) struct Weather {
    middle: Middle,
    clock: Option<Clock>,
    kinds: Vec<Kind>,
}

impl Weather {
    /// Both daemons are started again, under it.
    pub(super) async fn over(world: &mut World) -> anyhow::Result<Self> {
        let clock = Clock::over(world)?;
        if clock.is_none() {
            eprintln!("libfaketime is not installed: the clocks do not jump");
        }
        Ok(Self { middle: Middle::between(world).await?, clock, kinds: middle::kinds()? })
    }

    /// What comes next, of the attack's seed. What has not come to pass never does.
    pub(super) fn change(&self, attack: &mut Attack, tap: &Tap) -> anyhow::Result<()> {
        self.middle.disarm();
        tap.set_rate(None);
        let soak = attack.is_soak();
        let random = &mut attack.random;
        let how = if random.random() { How::Close } else { How::Reset };
        let moment = if random.random() { Moment::Before } else { Moment::After };
        let fault = match random.random_range(0..20) {
            0..8 => Some(Fault::Cut(moment, how)),
            8..10 => Some(Fault::Twice),
            10..12 => Some(Fault::Late),
            // Found by pings, after 20 s: nothing for every day.
            12 if soak => Some(Fault::Stall(moment)),
            _ => None,
        };
        let said = match (fault, random.random_range(0..4)) {
            (Some(fault), _) => {
                let kind = self.kinds.choose(random).cloned().unwrap_or_else(|| Kind::new("none"));
                // A hello is said once: the second one is refused, and tried again only after 15 s.
                let kind = match fault {
                    Fault::Twice | Fault::Late if kind.as_str() == "ConnectRequest.hello" => {
                        Kind::new("PushRequest.chunk")
                    }
                    _ => kind,
                };
                let rule = Rule { kind, nth: random.random_range(1..4), fault };
                let said = format!("{rule:?}");
                self.middle.arm([rule]);
                said
            }
            (None, 0) => {
                self.middle.cut(how);
                format!("cut now: {how:?}")
            }
            (None, 1) => {
                let to = *[-DAY, 0, DAY].choose(random).unwrap_or(&0);
                if let Some(clock) = &self.clock {
                    clock.jump(to)?;
                }
                format!("the clock at {to:+} s")
            }
            (None, 2) => {
                tap.set_rate(Some(SLOW));
                "a slow source".to_owned()
            }
            (None, _) => return Ok(()),
        };
        attack.note(said);
        Ok(())
    }

    /// Faults at a message that came to pass.
    pub(super) fn fired(&self) -> u64 {
        self.middle.fired()
    }
}
