//! Does the target hold what was written to it? At the end of a copy that is to be verified; and before a resumed one
//! goes on, where nothing else says that the target is the one that was written to.

use std::sync::Arc;

use shared::range::{ByteRange, RangeSet};

use super::progress::Meter;
use super::resume::{Journal, Resume};
use super::{Error, Job, interrupted};
use crate::manifest::Manifest;
use crate::replica::{self, Cause};
use crate::target::Target;
use crate::verify::{self, Progress, verify_replica};

impl Job<'_> {
    /// Reads back past the page cache what this copy (and the runs it resumed) wrote.
    pub(super) async fn verify(
        &self,
        target: &Arc<dyn Target>,
        manifest: &Arc<Manifest>,
        written: &RangeSet,
        journal: &Journal,
    ) -> Result<u64, Error> {
        let report = self.compare("verified", target, manifest, written).await?;
        match report.different.iter().next() {
            None => Ok(report.compared_bytes),
            Some(first) => {
                let lost = lost(&report, written);
                let resumable = self.args.resume.is_some() && journal.lost(lost).await.is_ok();
                let (bytes, offset) = (report.different_bytes, first.start);
                Err(Error::Different { target: target.name(), bytes, offset, resumable })
            }
        }
    }

    /// Takes back what earlier runs called durable and the target does not hold: the server may have been started
    /// with another disk under the same address.
    pub(super) async fn look_for_durable(
        &self,
        target: &Arc<dyn Target>,
        manifest: &Arc<Manifest>,
        resume: &mut Resume,
        journal: &Journal,
    ) -> Result<(), Error> {
        let report = self.compare("found again", target, manifest, &resume.durable).await?;
        if report.different_bytes > 0 {
            let lost = lost(&report, &resume.durable).clone();
            tracing::warn!(target = %target.name(), bytes = lost.total(), "the target does not hold what was copied to it before: copying all of the disk but what it does hold");
            // Nothing is known of the rest of it, either: not that it reads as zeros, nor what a bitmap leaves out.
            let all: RangeSet = [ByteRange::new(0, manifest.disk_size())].into_iter().collect();
            let noted = match journal.lost(&lost).await {
                Ok(()) => replica::Journal::intend(journal, &all).await,
                failed => failed,
            };
            noted.map_err(|why| replica::Error::from(Cause::Intent(why)))?;
            resume.durable.subtract(&lost);
            resume.intended = all;
        }
        Ok(())
    }

    /// Compares what was `written` with the manifest.
    async fn compare(
        &self,
        verb: &'static str,
        target: &Arc<dyn Target>,
        manifest: &Arc<Manifest>,
        written: &RangeSet,
    ) -> Result<verify::Report, Error> {
        let size = manifest.disk_size();
        let mut skip: RangeSet = [ByteRange::new(0, size)].into_iter().collect();
        skip.subtract(written);
        let (target, manifest) = (Arc::clone(target), Arc::clone(manifest));
        let cancel = self.cancel.child_token();
        // Ends the threads if nobody waits any more.
        let _guard = cancel.clone().drop_guard();
        let meter = Meter::new(verb, size);
        let work = tokio::task::spawn_blocking(move || {
            let show = |progress: Progress| meter.set(progress.done_bytes);
            let report = verify_replica(target.as_ref(), &manifest, &skip, &show, &cancel);
            meter.finish();
            report
        });
        match work.await.map_err(|_| Error::Died { who: "verification" })? {
            Err(verify::Error::Cancelled) => Err(interrupted(self.args)),
            report => Ok(report?),
        }
    }
}

/// What has to be copied again: a report lists so many ranges and no more; then it is all that was `written`.
fn lost<'a>(report: &'a verify::Report, written: &'a RangeSet) -> &'a RangeSet {
    if report.different.total() == report.different_bytes { &report.different } else { written }
}
