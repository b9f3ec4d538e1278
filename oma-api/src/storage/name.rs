//! Names that are safe as the name of a file, a LINSTOR resource and a log field.

use std::fmt;

use shared::ids::{DiskId, JobId};

/// A name that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{what} {value:?} cannot be used: expected 1 to 64 of a-z A-Z 0-9 - _ ., no dot in front and no .tmp or .img at the end"
)]
pub struct InvalidName {
    what: &'static str,
    value: String,
}

fn check(what: &'static str, value: &str) -> Result<(), InvalidName> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    // The endings are the local backend's own.
    let reserved = value.starts_with('.') || value.ends_with(".tmp") || value.ends_with(".img");
    match (1..=64).contains(&value.len()) && value.chars().all(plain) && !reserved {
        true => Ok(()),
        false => Err(InvalidName { what, value: value.to_owned() }),
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident, $what:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Checks the form.
            pub fn parse(value: impl Into<String>) -> Result<Self, InvalidName> {
                let value = value.into();
                check($what, &value).map(|()| Self(value))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

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
names!(
    /// A volume.
    VolumeId, "volume id";
    /// A snapshot of several volumes.
    SnapshotName, "snapshot name";
);

impl VolumeId {
    /// Of a new disk's replica: `mk-<disk id>`. LINSTOR wants a letter in front, and CloudStack takes `cs-…` for its own.
    pub fn of_replica(disk: &DiskId) -> Self {
        Self(format!("mk-{disk}"))
    }
}

impl SnapshotName {
    /// The restore point that the commit of `job` takes: `rp-<job id>`.
    pub fn of_commit(job: &JobId) -> Result<Self, InvalidName> {
        Self::parse(format!("rp-{job}"))
    }

    /// The cycle of whose commit it is, if it is one's.
    pub fn job(&self) -> Option<JobId> {
        JobId::parse(self.0.strip_prefix("rp-")?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_folder() {
        let long = "a".repeat(65);
        for bad in ["", ".", "..", "../x", "a/b", "a\0b", ".hidden", "x.tmp", "x.img", "é", " ", &long] {
            assert!(VolumeId::parse(bad).is_err(), "{bad:?}");
            assert!(SnapshotName::parse(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "rp-job-20261121-120000", "0190163d-8694-739b-aea5-966c26f8ad90", "x.1"] {
            assert_eq!(VolumeId::parse(good).map(|v| v.to_string()), Ok(good.to_owned()));
        }
        let replica = VolumeId::of_replica(&DiskId::generate());
        assert_eq!(VolumeId::parse(replica.as_str()).as_ref(), Ok(&replica));
        assert!(crate::linstor::Name::parse(replica.as_str()).is_ok());
    }
}
