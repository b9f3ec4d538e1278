//! Orders about power and their reports: messages ↔ [`crate::cycle`].

use super::Invalid;
use super::vm::{power_from, power_to};
use crate::cycle::{How, PowerFailure, PowerOrder, PowerReport, PowerWish};
use crate::ids::{MigrationId, VmUuid};
use proto::v1;
use std::time::Duration;

impl From<PowerOrder> for v1::PowerOrder {
    fn from(order: PowerOrder) -> Self {
        Self {
            order_id: order.id,
            wish: match order.wish {
                PowerWish::Off => v1::PowerWish::Off,
                PowerWish::On => v1::PowerWish::On,
                PowerWish::Report => v1::PowerWish::Report,
            }
            .into(),
            // Rounded up: a guest that may take half a second must not be cut off at once.
            graceful_seconds: u32::try_from(order.graceful.as_millis().div_ceil(1000)).unwrap_or(u32::MAX),
            force: order.force,
        }
    }
}

impl TryFrom<v1::PowerOrder> for PowerOrder {
    type Error = Invalid;
    fn try_from(order: v1::PowerOrder) -> Result<Self, Invalid> {
        Ok(Self {
            wish: match order.wish() {
                v1::PowerWish::Off => PowerWish::Off,
                v1::PowerWish::On => PowerWish::On,
                v1::PowerWish::Report => PowerWish::Report,
                v1::PowerWish::Unspecified => {
                    return Err(Invalid::new("power.wish", "is not one this agent knows"));
                }
            },
            id: Some(order.order_id).filter(|id| !id.is_empty()).ok_or(Invalid::missing("power.order_id"))?,
            graceful: Duration::from_secs(u64::from(order.graceful_seconds)),
            force: order.force,
        })
    }
}

impl From<PowerReport> for v1::VmPowerReport {
    fn from(report: PowerReport) -> Self {
        let (reason, message) = report.failure.map(|f| (f.reason, f.message)).unwrap_or_default();
        Self {
            vm_uuid: report.vm.into(),
            migration_id: report.migration.into(),
            order_id: report.order,
            state: power_to(report.state),
            how: report.how.map_or_else(String::new, |how| how.as_str().to_owned()),
            reason,
            message,
        }
    }
}

impl TryFrom<v1::VmPowerReport> for PowerReport {
    type Error = Invalid;
    fn try_from(report: v1::VmPowerReport) -> Result<Self, Invalid> {
        let failure = PowerFailure { reason: report.reason, message: report.message };
        if failure.reason.is_empty() && !failure.message.is_empty() {
            // Taken for carried out, it would be the opposite of what was meant.
            return Err(Invalid::missing("power.reason"));
        }
        if report.order_id.is_empty() {
            return Err(Invalid::missing("power.order_id"));
        }
        Ok(Self {
            vm: VmUuid::parse(report.vm_uuid).map_err(|e| Invalid::new("power.vm_uuid", e))?,
            migration: MigrationId::parse(report.migration_id)
                .map_err(|e| Invalid::new("power.migration_id", e))?,
            order: report.order_id,
            state: power_from(report.state),
            how: How::parse(&report.how),
            failure: Some(failure).filter(|failure| !failure.reason.is_empty()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cycle::{CAPABILITIES, DesiredVm};
    use crate::vm::Power;

    fn order() -> PowerOrder {
        PowerOrder {
            id: "job-20261121-144523/off".to_owned(),
            wish: PowerWish::Off,
            graceful: Duration::from_secs(300),
            force: true,
        }
    }

    fn report() -> PowerReport {
        PowerReport {
            vm: "564d1d3a-0000-4000-8000-000000000001".parse().expect("a uuid"),
            migration: MigrationId::generate(),
            order: order().id,
            state: Power::Off,
            how: Some(How::Forced),
            failure: None,
        }
    }

    #[test]
    fn orders_come_through_the_wire_as_they_were() {
        for wish in [PowerWish::Off, PowerWish::On, PowerWish::Report] {
            for (seconds, force) in [(0, true), (300, false), (u64::from(u32::MAX), true)] {
                let order = PowerOrder { wish, graceful: Duration::from_secs(seconds), force, ..order() };
                assert_eq!(PowerOrder::try_from(v1::PowerOrder::from(order.clone())), Ok(order));
            }
        }
        let short = PowerOrder { graceful: Duration::from_millis(1), ..order() };
        assert_eq!(v1::PowerOrder::from(short).graceful_seconds, 1, "never at once where a while was meant");
    }

    #[test]
    fn an_order_that_is_not_understood_is_refused() {
        let wire = || v1::PowerOrder::from(order());
        for wish in [0, 99] {
            let error = PowerOrder::try_from(v1::PowerOrder { wish, ..wire() }).expect_err("refused");
            assert_eq!(error.field, "power.wish");
        }
        let nameless = v1::PowerOrder { order_id: String::new(), ..wire() };
        assert_eq!(PowerOrder::try_from(nameless), Err(Invalid::missing("power.order_id")));
    }

    #[test]
    fn reports_come_through_the_wire_as_they_were() {
        let failure = Some(PowerFailure { reason: "POWER_OFF_TIMEOUT".into(), message: "why".into() });
        for state in Power::ALL.iter().copied().chain([Power::Unknown]) {
            for how in How::ALL.into_iter().map(Some).chain([None]) {
                for failure in [None, failure.clone()] {
                    let report = PowerReport { state, how, failure, ..report() };
                    assert_eq!(
                        PowerReport::try_from(v1::VmPowerReport::from(report.clone())),
                        Ok(report.clone())
                    );
                }
            }
        }
    }

    /// A newer agent's words: what is not known is never off, and never a success.
    #[test]
    fn what_a_report_says_beyond_us_is_not_known() {
        let wire = || v1::VmPowerReport::from(report());
        let newer = v1::VmPowerReport { state: 99, how: "by magic".into(), reason: "NEW".into(), ..wire() };
        let read = PowerReport::try_from(newer).expect("no failure");
        assert_eq!((read.state, read.how), (Power::Unknown, None));
        assert_eq!(read.failure.map(|f| f.reason).as_deref(), Some("NEW"));
        let vague = v1::VmPowerReport { message: "it did not work".into(), ..wire() };
        assert_eq!(PowerReport::try_from(vague), Err(Invalid::missing("power.reason")));
        for (field, wrong) in [
            ("power.vm_uuid", v1::VmPowerReport { vm_uuid: "x".into(), ..wire() }),
            ("power.migration_id", v1::VmPowerReport { migration_id: String::new(), ..wire() }),
            ("power.order_id", v1::VmPowerReport { order_id: String::new(), ..wire() }),
        ] {
            assert_eq!(PowerReport::try_from(wrong).expect_err("refused").field, field);
        }
    }

    /// An older control plane orders nothing, and an older agent reads past the order.
    #[test]
    fn who_does_not_know_of_orders_is_left_alone() {
        let desired = DesiredVm {
            vm: report().vm,
            migration: MigrationId::generate(),
            release: false,
            keep: vec![],
            rate: 7,
            cycle: None,
            power: Some(order()),
        };
        let mut wire = v1::DesiredVm::from(desired.clone());
        assert_eq!(DesiredVm::try_from(wire.clone()), Ok(desired.clone()));
        wire.power = None;
        assert_eq!(DesiredVm::try_from(wire), Ok(DesiredVm { power: None, ..desired }));
        assert!(CAPABILITIES.contains(&"power"), "or nobody would order anything");
    }
}
