//! Names that go to the source and come back from it.

use std::fmt;

use shared::ids::JobId;

/// Begins every name that is ours.
const PREFIX: &str = "mk-";

/// A name that cannot be one of ours.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{value:?} is no snapshot name of ours: expected mk- and a job id")]
pub struct InvalidName {
    value: String,
}

/// Name of a snapshot: `mk-<job id>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotName(String);

impl SnapshotName {
    /// The one name of a cycle's snapshot.
    pub fn of_job(job: &JobId) -> Self {
        Self(format!("{PREFIX}{job}"))
    }

    /// Takes only what [`of_job`](Self::of_job) can make.
    pub fn parse(value: &str) -> Result<Self, InvalidName> {
        match value.strip_prefix(PREFIX).map(JobId::parse) {
            Some(Ok(job)) => Ok(Self::of_job(&job)),
            Some(Err(_)) | None => Err(InvalidName { value: value.to_owned() }),
        }
    }

    /// The text, as it goes over the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// "Everything changed since then": opaque to all but the source that made it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChangeId(String);

impl ChangeId {
    /// Any text; whether a source knows it, only the source can say.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The text, as it goes over the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! as_text {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
as_text!(SnapshotName, ChangeId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_are_taken() {
        let job = JobId::parse("job-20261121-132200").unwrap();
        let name = SnapshotName::of_job(&job);
        assert_eq!(name.as_str(), "mk-job-20261121-132200");
        assert_eq!(SnapshotName::parse(name.as_str()), Ok(name));
        for foreign in ["", "mk-", "backup-1", "job-1", "mk-../x", "mk-a/b", "MK-job-1"] {
            assert!(SnapshotName::parse(foreign).is_err(), "{foreign}");
        }
    }
}
