//! `oma-api --check-targets`: asks the storage and what makes machines whether they are as the configuration has them.
//!
//! ```text
//!  Config ──► storage: LINSTOR? its survey ──┐
//!        └──► compute: CloudStack? its survey ┴──► Findings, a line each ──► exit code 0, or 1: something is missing
//! ```
//!
//! It only asks: nothing is made, and neither folders nor the database are opened or claimed, so that it may be run beside a daemon.
//! The rules are the backends' own, by which they refuse machines as well. Not here: what a VM needs of its target (`preflight`).

mod finding;
mod secret;
#[cfg(test)]
mod tests;

pub use finding::{Finding, Standing};
pub(crate) use secret::secret;

use crate::compute::CloudStackCompute;
use crate::config::{Compute, Config, Storage};
use crate::storage::LinstorStorage;
use anyhow::bail;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;

/// Prints what is found, on stdout.
///
/// # Errors
/// How many things are missing.
pub async fn check(config: Config) -> anyhow::Result<()> {
    let found = survey(&config).await;
    // A closed stdout is no reason to fail.
    let _ = std::io::stdout().write_all(said(&found).as_bytes());
    match found.iter().filter(|finding| finding.is_missing()).count() {
        0 => Ok(()),
        1 => bail!("one thing is missing at the targets: see above"),
        several => bail!("{several} things are missing at the targets: see above"),
    }
}

fn said(found: &[Finding]) -> String {
    let mut said = String::new();
    for finding in found {
        // Writing to a String cannot fail.
        let _ = writeln!(said, "{finding}");
    }
    said
}

/// All that is to be known of the targets, in the order in which they are needed.
pub async fn survey(config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    let linstor = match &config.storage {
        Storage::Local { path, .. } => {
            let nobody = format!("replicas are files in {}: nobody to ask", path.display());
            found.push(Finding::well("storage", nobody));
            None
        }
        Storage::Linstor(settings) => match LinstorStorage::open(settings) {
            Ok(storage) => {
                found.extend(storage.survey(settings).await);
                Some((Arc::new(storage), settings))
            }
            Err(error) => {
                found.push(Finding::unasked("LINSTOR certificates", &error));
                None
            }
        },
    };
    match (&config.compute, linstor) {
        (None, _) => {
            found.push(Finding::well("compute", "no [compute]: no machines are made, and nobody to ask"));
        }
        (Some(Compute::CloudStack(settings)), Some((storage, _))) => {
            match CloudStackCompute::open(settings, storage) {
                Ok(compute) => found.extend(compute.survey().await),
                Err(error) => found.push(Finding::unasked("CloudStack keys and certificates", &error)),
            }
        }
        (Some(Compute::CloudStack(_)), None) => {
            found.push(Finding::missing("CloudStack", "it was not asked: it needs LINSTOR, see above"));
        }
        (Some(_), _) => {
            found.push(Finding::well("compute", "machines are made on this host: nobody to ask"));
        }
    }
    found
}
