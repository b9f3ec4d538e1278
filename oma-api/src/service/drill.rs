//! The report of a failover: what is recorded, with what its machine shows while that is there.

use super::{App, Error};
use crate::failover::report::{Facts, Report};
use crate::failover::{Evidence, FailoverView, names};
use tracing::warn;

impl App {
    /// As of now.
    ///
    /// # Errors
    /// [`Refused::JobNotFound`](super::failovers::Refused::JobNotFound), [`Error::Store`].
    pub async fn failover_report(&self, asked: &str) -> Result<Report, Error> {
        let view = self.failover_find(asked).await?;
        let record = &view.failover.record;
        let disks = self.store.disk_list(&record.migration).await?;
        let points = self.store.restore_point_list(&record.migration).await?;
        let committed_at = points.into_iter().find(|p| p.id == record.restore_point).map(|p| p.committed_at);
        let machine = self.evidence(&view).await;
        let facts = Facts { disks: &disks, committed_at, machine: machine.as_ref(), now: self.clock.now() };
        Ok(Report::make(&view, facts))
    }

    /// Of the machine, if it is there; a backend that does not answer is no reason to have no report.
    async fn evidence(&self, view: &FailoverView) -> Option<Evidence> {
        let (compute, name) = (self.compute.as_ref()?, names::machine_name(view.machine()?));
        match compute.find(&name).await {
            Ok(found) => {
                found?;
                Some(Evidence::of(&**compute, &name).await)
            }
            Err(error) => {
                warn!(machine = %name, error = %shared::error::chain(&error), "a report is made without its machine");
                None
            }
        }
    }
}
