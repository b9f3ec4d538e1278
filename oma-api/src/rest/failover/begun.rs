//! The answers to requests for a test and for a live failover: the document's, word for word.

use crate::failover::FailoverView;
use crate::failover::status::Status;
use serde::Serialize;
use utoipa::ToSchema;

/// What protects the machine that a request asks for.
#[derive(Clone, Copy)]
pub(super) struct Protection {
    snapshot: bool,
    virtio: bool,
}

impl Protection {
    pub(super) const fn of(skip_snapshot: bool, skip_virtio: bool) -> Self {
        Self { snapshot: !skip_snapshot, virtio: !skip_virtio }
    }

    /// The document's text where nothing is left out.
    const fn message(self) -> &'static str {
        match (self.snapshot, self.virtio) {
            (true, true) => {
                "Test failover initiated successfully with snapshot protection and VirtIO injection"
            }
            (true, false) => {
                "Test failover initiated successfully with snapshot protection, without VirtIO injection"
            }
            (false, true) => {
                "Test failover initiated successfully with VirtIO injection, without snapshot protection"
            }
            (false, false) => {
                "Test failover initiated successfully without snapshot protection and VirtIO injection"
            }
        }
    }
}

/// A test failover has begun.
#[derive(Serialize, ToSchema)]
#[schema(as = FailoverTestBegun)]
pub(in crate::rest) struct Begun {
    success: bool,
    message: &'static str,
    job_id: String,
    estimated_duration: String,
    data: BegunData,
}

/// What was understood.
#[derive(Serialize, ToSchema)]
#[schema(as = FailoverTestBegunData)]
struct BegunData {
    auto_cleanup: bool,
    correlation_id: String,
    job_type: &'static str,
    snapshot_protection: bool,
    status: &'static str,
    test_duration: String,
    virtio_injection: bool,
    vm_id: String,
    vm_name: String,
}

impl Begun {
    pub(super) fn new(view: &FailoverView, asked: Protection) -> Self {
        let record = &view.failover.record;
        Self {
            success: true,
            message: asked.message(),
            job_id: record.job.to_string(),
            estimated_duration: view.test_duration().unwrap_or_default(),
            data: BegunData {
                auto_cleanup: record.auto_cleanup,
                correlation_id: view.failover.job.correlation.clone(),
                job_type: record.kind.as_str(),
                snapshot_protection: asked.snapshot,
                // The document's word for a job that was taken; the job itself tells pending and validating apart.
                status: Status::Executing.as_str(),
                test_duration: view.test_duration().unwrap_or_default(),
                virtio_injection: asked.virtio,
                vm_id: record.vm.to_string(),
                vm_name: record.vm_name.clone(),
            },
        }
    }
}

/// A live failover has begun.
#[derive(Serialize, ToSchema)]
#[schema(as = FailoverLiveBegun)]
pub(in crate::rest) struct LiveBegun {
    success: bool,
    /// The document's, whatever is left out: `data` says what protects it.
    message: &'static str,
    job_id: String,
    data: LiveBegunData,
}

/// What was understood.
#[derive(Serialize, ToSchema)]
#[schema(as = FailoverLiveBegunData)]
struct LiveBegunData {
    correlation_id: String,
    job_type: &'static str,
    snapshot_protection: bool,
    status: &'static str,
    virtio_injection: bool,
    vm_id: String,
    vm_name: String,
}

impl LiveBegun {
    pub(super) fn new(view: &FailoverView, asked: Protection) -> Self {
        let record = &view.failover.record;
        Self {
            success: true,
            message: "Live failover initiated successfully",
            job_id: record.job.to_string(),
            data: LiveBegunData {
                correlation_id: view.failover.job.correlation.clone(),
                job_type: record.kind.as_str(),
                snapshot_protection: asked.snapshot,
                // As of a test.
                status: Status::Executing.as_str(),
                virtio_injection: asked.virtio,
                vm_id: record.vm.to_string(),
                vm_name: record.vm_name.clone(),
            },
        }
    }
}
