//! The cycles as the database has them, ended ones too: what `replication_jobs` says.

use super::progress::VOLUME;
use super::{App, Error};
use crate::store;
use crate::store::{Job, JobStatus, Migration};
use jiff::civil::DateTime;
use shared::ids::{DiskId, JobId, MigrationId};
use std::collections::HashMap;

/// Rows of a page when nobody says how many, and most of them.
const USUAL: u32 = 50;
const MOST: u32 = 500;

/// Which cycles are asked for.
#[derive(Clone, Debug)]
pub struct ReplicationFilter {
    limit: u32,
    /// Older than this one.
    before: Option<JobId>,
    status: Option<JobStatus>,
}

impl ReplicationFilter {
    /// As it was asked for; what is `None` or empty was left out.
    ///
    /// # Errors
    /// [`Error::Filter`].
    pub fn parse(limit: Option<u32>, before: &str, status: &str) -> Result<Self, Error> {
        let wrong = |what, why: String| Error::Filter { what, why };
        let said = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Ok(Self {
            limit: match limit {
                None => USUAL,
                Some(limit @ 1..=MOST) => limit,
                Some(_) => return Err(wrong("limit", format!("must be 1 to {MOST}"))),
            },
            before: said(before).map(cycle).transpose().map_err(|why| wrong("before", why))?,
            status: said(status)
                .map(|status| status.parse::<JobStatus>().map_err(|e| e.to_string()))
                .transpose()
                .map_err(|why| wrong("status", why))?,
        })
    }
}

/// The id of a cycle, whether there is one of that id or not: pages go by the order of ids.
fn cycle(id: String) -> Result<JobId, String> {
    match DateTime::strptime("job-%Y%m%d-%H%M%S", &id) {
        Ok(_) => JobId::parse(id).map_err(|error| error.to_string()),
        Err(_) => Err("must be the id of a cycle, such as job-20261121-144523".to_owned()),
    }
}

/// A cycle, and whose it is.
#[derive(Clone, Debug)]
pub struct ReplicationView {
    pub job: Job,
    pub migration: Migration,
}

/// Some cycles, newest first.
#[derive(Clone, Debug)]
pub struct ReplicationPage {
    pub replications: Vec<ReplicationView>,
    /// `before` of the next page; `None`: there is none.
    pub next_before: Option<JobId>,
}

impl App {
    /// One page.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn replication_list(&self, filter: &ReplicationFilter) -> Result<ReplicationPage, Error> {
        let ReplicationFilter { limit, before, status } = filter;
        // One more, to know whether there is a next page.
        let mut jobs = self.store.job_page(*status, before.as_ref(), limit.saturating_add(1)).await?;
        let more = jobs.len() > usize::try_from(*limit).unwrap_or(usize::MAX);
        if more {
            jobs.pop();
        }
        let next_before = jobs.last().filter(|_| more).map(|job| job.id.clone());
        let mut migrations: HashMap<MigrationId, Migration> = HashMap::new();
        let mut replications = Vec::with_capacity(jobs.len());
        for job in jobs {
            let migration = match migrations.get(&job.migration) {
                Some(known) => known.clone(),
                None => self.store.migration_fetch(&job.migration).await?,
            };
            migrations.insert(job.migration.clone(), migration.clone());
            replications.push(ReplicationView { job, migration });
        }
        Ok(ReplicationPage { replications, next_before })
    }

    /// The cycle of that id, or the newest of the disk whose job in the progress API it is.
    ///
    /// # Errors
    /// [`Error::JobUnknown`], [`Error::Store`].
    pub async fn replication_find(&self, id: &str) -> Result<ReplicationView, Error> {
        let job = self.job_find(id).await?;
        let migration = self.store.migration_fetch(&job.migration).await?;
        Ok(ReplicationView { job, migration })
    }

    pub(super) async fn job_find(&self, id: &str) -> Result<Job, Error> {
        let unknown = || Error::JobUnknown { asked: id.to_owned() };
        match id.strip_prefix(VOLUME) {
            Some(disk) => {
                let disk = DiskId::parse(disk).map_err(|_| unknown())?;
                self.store.job_last_of_disk(&disk).await?.ok_or_else(unknown)
            }
            None => match self.store.job_fetch(&JobId::parse(id).map_err(|_| unknown())?).await {
                Err(store::Error::NotFound { .. }) => Err(unknown()),
                other => Ok(other?),
            },
        }
    }
}
