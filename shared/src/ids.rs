//! Identifiers, each its own type, all plain text on the wire and in the database.

use std::fmt;

/// An id that was sent or stored in a form it cannot have.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{kind} {value:?} is not valid: {why}")]
pub struct InvalidId {
    kind: &'static str,
    value: String,
    why: &'static str,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Checks the form.
            pub fn parse(value: impl Into<String>) -> Result<Self, InvalidId> {
                let value = value.into();
                match $check(&value) {
                    Ok(()) => Ok(Self(value)),
                    Err(why) => Err(InvalidId { kind: $kind, value, why }),
                }
            }

            /// The text as it goes over the wire.
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

        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(s: &str) -> Result<Self, InvalidId> {
                Self::parse(s)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(s: String) -> Result<Self, InvalidId> {
                Self::parse(s)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
    };
}

fn uuid(value: &str) -> Result<(), &'static str> {
    match value.len() == 36 && uuid::Uuid::parse_str(value).is_ok() {
        true => Ok(()),
        false => Err("expected a UUID such as 0190163d-8694-739b-aea5-966c26f8ad90"),
    }
}

/// Lower-case words that may stand in a path, a certificate's SAN and a log field.
fn name(value: &str) -> Result<(), &'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match !value.is_empty() && value.len() <= 64 && !value.starts_with('.') && value.chars().all(plain) {
        true => Ok(()),
        false => Err("expected 1 to 64 of a-z A-Z 0-9 - _ . and no dot in front"),
    }
}

/// Lower-case words that are typed on command lines and stand in paths.
fn label(value: &str) -> Result<(), &'static str> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    match !value.is_empty() && value.len() <= 64 && !value.starts_with('-') && value.chars().all(plain) {
        true => Ok(()),
        false => Err("expected 1 to 64 of a-z 0-9 - and no dash in front"),
    }
}

text_id!(
    /// One protection of one VM.
    MigrationId, "migration id", uuid
);
text_id!(
    /// A disk of a migration, and its replica.
    DiskId, "disk id", uuid
);
text_id!(
    /// A cycle (replication job): `job-YYYYMMDD-HHMMSS`, as seed 004 prints it.
    JobId, "job id", name
);
text_id!(
    /// A restore point.
    RestorePointId, "restore point id", uuid
);
text_id!(
    /// The source-side agent, as in its certificate (`spiffe://…/agent/ID`).
    AgentId, "agent id", name
);
text_id!(
    /// The source's uuid of a VM.
    VmUuid, "VM uuid", uuid
);
text_id!(
    /// The source's own name of a disk, stable over its life (VMware's device key, here a word).
    DiskKey, "disk key", name
);
text_id!(
    /// The source's own name of a controller or NIC (VMware's device key, such as `4000`).
    DeviceKey, "device key", name
);
text_id!(
    /// A target profile.
    ProfileName, "profile name", label
);

macro_rules! as_text {
    ($($name:ident),*) => {$(
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                out.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                <String as serde::Deserialize>::deserialize(input)?.try_into().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
as_text!(DiskKey, DeviceKey, ProfileName, VmUuid, MigrationId);

macro_rules! random {
    ($($name:ident),*) => {$(
        impl $name {
            /// A new one (UUID version 7: sorts by time).
            pub fn generate() -> Self {
                Self(uuid::Uuid::now_v7().to_string())
            }
        }
    )*};
}
random!(MigrationId, DiskId, RestorePointId);

/// Order of the attempts to write one replica; only the control plane's database makes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_refuse_what_could_leave_a_folder() {
        for bad in ["", "..", ".hidden", "a/b", "a b", "é"] {
            assert!(AgentId::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(AgentId::parse("vma-01").map(String::from), Ok("vma-01".to_owned()));
        assert!(MigrationId::parse("0190163d8694739baea5966c26f8ad90").is_err(), "one spelling only");
        assert!(MigrationId::parse(MigrationId::generate().as_str()).is_ok());
    }
}
