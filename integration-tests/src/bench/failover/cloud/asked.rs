//! What both simulators were asked, by their own logs.

use super::super::super::report;
use crate::zone::Zone;
use anyhow::Context as _;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt;

const POLL: &str = "queryAsyncJobResult";

/// How many calls.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub(super) cloudstack: usize,
    /// Of those of CloudStack, questions how a job stands.
    polls: usize,
    linstor: usize,
    /// Of those of LINSTOR, which only look.
    gets: usize,
}

impl Asked {
    /// So far.
    pub(super) fn of(zone: &Zone) -> Self {
        let (cloudstack, linstor) = (zone.cloudstack().calls(), zone.linstor().calls());
        Self {
            cloudstack: cloudstack.len(),
            polls: cloudstack.iter().filter(|call| call["command"] == POLL).count(),
            linstor: linstor.len(),
            gets: linstor.iter().filter(|call| call.method == "GET").count(),
        }
    }

    pub(super) fn since(self, before: &Self) -> Self {
        Self {
            cloudstack: self.cloudstack - before.cloudstack,
            polls: self.polls - before.polls,
            linstor: self.linstor - before.linstor,
            gets: self.gets - before.gets,
        }
    }

    /// As many times as so many of `one`: to CloudStack, to LINSTOR.
    pub(super) fn times(&self, one: &Self, count: usize) -> (f64, f64) {
        let of = |all: usize, one: usize| report::float(all as u64) / report::float((one * count) as u64);
        (of(self.cloudstack, one.cloudstack), of(self.linstor, one.linstor))
    }

    pub(super) fn json(&self) -> Value {
        json!({ "cloudstack": self.cloudstack, "polls": self.polls, "linstor": self.linstor, "linstor_gets": self.gets })
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cloudstack, polls, linstor, gets } = self;
        write!(f, "{cloudstack} calls to CloudStack ({polls} about jobs), {linstor} to LINSTOR ({gets} GET)")
    }
}

/// Questions how jobs stand.
pub(super) struct Polls {
    jobs: usize,
    /// Of one job.
    pub(super) most: usize,
    /// A second, of the job that was asked about most densely: over the time from its beginning to the last question.
    pub(super) worst: f64,
}

impl Polls {
    /// Of the jobs that were begun after so many calls.
    pub(super) fn of(zone: &Zone, from: usize) -> anyhow::Result<Self> {
        let mut of_job: HashMap<String, (Option<i64>, Vec<i64>)> = HashMap::new();
        for call in zone.cloudstack().calls().iter().skip(from) {
            let Some(job) = call["job"].as_str() else { continue };
            let at = call["at"].as_i64().context("a call without a time")?;
            let (begun, polls) = of_job.entry(job.to_owned()).or_default();
            match call["command"] == POLL {
                true => polls.push(at),
                false => *begun = Some(at),
            }
        }
        let (mut most, mut worst) = (0, 0.0_f64);
        for (begun, polls) in of_job.values() {
            let (Some(begun), Some(last)) = (begun, polls.iter().max()) else { continue };
            let seconds = report::float(u64::try_from(last - begun)?) / 1e3;
            worst = worst.max(report::float(polls.len() as u64) / seconds);
            most = most.max(polls.len());
        }
        anyhow::ensure!(most > 0, "nobody asked about a job");
        Ok(Self { jobs: of_job.len(), most, worst })
    }
}

impl fmt::Display for Polls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { jobs, most, worst } = self;
        write!(f, "{jobs} jobs, each asked about {most} times at most, and {worst:.2} times a second at most")
    }
}
