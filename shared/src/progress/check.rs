//! What may be said of a job, whatever the job is: lengths, bounds, forms. What depends on the job is the job's to check.

use super::{Error, LONGEST, Registration, Update};

/// Most bytes, and bytes a second, that are believed: an exbibyte.
const LARGEST: i64 = 1 << 60;

/// What a job may be called.
///
/// # Errors
/// [`Error::Invalid`].
pub fn check_job_id(id: &str) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    match (1..=LONGEST).contains(&id.len()) && id.chars().all(plain) {
        true => Ok(()),
        false => Err(Error::Invalid(format!("a job id must be 1 to {LONGEST} letters, digits or -_.:"))),
    }
}

pub(super) fn check_registration(registration: &Registration) -> Result<(), Error> {
    bounded("total_bytes", registration.total_bytes)?;
    let Registration { sync_type, vm_name, vm_path, .. } = registration;
    for (what, text) in [("sync_type", sync_type), ("vm_name", vm_name), ("vm_path", vm_path)] {
        if text.len() > LONGEST {
            return Err(Error::Invalid(format!("{what} must be at most {LONGEST} bytes")));
        }
    }
    match sync_type.as_str() {
        "full" | "incremental" => Ok(()),
        _ => Err(Error::Invalid("sync_type must be full or incremental".to_owned())),
    }
}

pub(super) fn check_update(update: &Update) -> Result<(), Error> {
    bounded("bytes_transferred", update.bytes_transferred)?;
    bounded("total_bytes", update.total_bytes)?;
    bounded("throughput_bps", update.throughput_bps)?;
    if update.total_bytes > 0 && update.bytes_transferred > update.total_bytes {
        return Err(Error::Invalid("bytes_transferred must be <= total_bytes".to_owned()));
    }
    if !(0.0..=100.0).contains(&update.percent) {
        return Err(Error::Invalid("percent must be 0 to 100".to_owned()));
    }
    if update.stage.is_empty() || update.stage.len() > LONGEST {
        return Err(Error::Invalid(format!("stage must be 1 to {LONGEST} bytes")));
    }
    if update.disk_id.len() > LONGEST {
        return Err(Error::Invalid(format!("disk_id must be at most {LONGEST} bytes")));
    }
    Ok(())
}

fn bounded(what: &str, number: i64) -> Result<(), Error> {
    match number {
        ..0 => Err(Error::Invalid(format!("{what} must be >= 0"))),
        0..=LARGEST => Ok(()),
        _ => Err(Error::Invalid(format!("{what} must be <= {LARGEST} (2^60)"))),
    }
}
