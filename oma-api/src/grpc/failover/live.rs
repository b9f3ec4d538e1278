//! `FailoverService.StartLive`: what is asked, as the wire has it.

use super::{invalid, object, ready, said};
use crate::failover::Request;
use crate::failover::live::{Asked, Live, Mode, PowerOff};
use proto::v1;
use tonic::Status;

/// What was left out is empty.
pub(super) fn asked(request: v1::FailoverServiceStartLiveRequest) -> Result<Request, Status> {
    let power_off = |asked: v1::FailoverPowerOff| {
        let v1::FailoverPowerOff { timeout, force } = asked;
        PowerOff { timeout: said(timeout), force }
    };
    let live = Live::try_from(Asked {
        mode: Some(if request.unplanned { Mode::Unplanned } else { Mode::Planned }),
        accept_loss: said(request.accept_loss),
        power_off: request.power_off.map(power_off),
        commit_policy: said(request.commit_policy),
        commit_timeout: said(request.commit_timeout),
        override_reason: said(request.override_reason),
    });
    Ok(Request {
        vm_id: request.vm_id,
        vm_name: request.vm_name,
        restore_point: said(request.restore_point),
        skip_validation: request.skip_validation,
        skip_snapshot: request.skip_snapshot,
        skip_virtio_injection: request.skip_virtio_injection,
        network_mappings: request.network_mappings.into_iter().collect(),
        custom_config: object("custom_config", request.custom_config)?,
        notification_config: object("notification_config", request.notification_config)?,
        ready: request.wait_for_ready.map(ready).transpose()?,
        live: Some(live.map_err(|wrong| invalid(wrong.field, wrong.why))?),
        // Of tests.
        auto_cleanup: false,
        test_duration: None,
    })
}
