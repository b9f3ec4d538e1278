//! Words with one spelling on the wire, in the database and in files. A word of a newer peer is `Unknown`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A word that a person wrote and that is none of those there are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is no {what}: write one of {}", known.join(", "))]
pub struct InvalidWord {
    word: String,
    what: &'static str,
    known: &'static [&'static str],
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $what:literal, { $($(#[$of:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$of])* $variant,)*
            /// Nobody said, or a newer peer's word.
            #[default]
            Unknown,
        }

        impl $name {
            /// All but `Unknown`.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                    Self::Unknown => "unknown",
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        /// Strict: for what people write.
        impl FromStr for $name {
            type Err = InvalidWord;
            fn from_str(word: &str) -> Result<Self, InvalidWord> {
                match word {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(InvalidWord { word: word.to_owned(), what: $what, known: &[$($word),*] }),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                out.serialize_str(self.as_str())
            }
        }

        /// Lenient: for what a program wrote, which may be newer.
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                Ok(String::deserialize(input)?.parse().unwrap_or_default())
            }
        }
    };
}

words!(
    /// What starts the guest.
    Firmware, "firmware", {
        Bios = "bios",
        Efi = "efi",
    }
);

words!(
    /// As VMware says it.
    ControllerKind, "kind of controller", {
        BusLogic = "buslogic",
        LsiLogic = "lsilogic",
        LsiLogicSas = "lsilogic-sas",
        ParaVirtual = "pvscsi",
        Ahci = "ahci",
        Ide = "ide",
        Nvme = "nvme",
        /// Of a source that is QEMU.
        VirtioScsi = "virtio-scsi",
        VirtioBlk = "virtio-blk",
    }
);

words!(
    /// As VMware says it.
    NicModel, "model of a NIC", {
        Vmxnet2 = "vmxnet2",
        Vmxnet3 = "vmxnet3",
        E1000 = "e1000",
        E1000e = "e1000e",
        Pcnet32 = "pcnet32",
        SrIov = "sriov",
        /// Of a source that is QEMU.
        Virtio = "virtio",
    }
);

words!(
    /// Whether it runs. For people and plans: what may be written to is never decided by it.
    Power, "power state", {
        On = "on",
        Off = "off",
        Suspended = "suspended",
    }
);

words!(
    /// The source's tools in the guest.
    Tools, "state of the guest tools", {
        NotInstalled = "not-installed",
        NotRunning = "not-running",
        Running = "running",
        /// Running, and older than the source would have them.
        Old = "old",
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_has_one_spelling_and_a_newer_one_is_unknown() {
        for kind in ControllerKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(*kind));
            let json = serde_json::to_string(kind).expect("a word");
            assert_eq!(serde_json::from_str::<ControllerKind>(&json).expect("a word"), *kind);
        }
        let newer: Firmware = serde_json::from_str("\"coreboot\"").expect("no failure");
        assert_eq!(newer, Firmware::Unknown);
        let error = "pvscisi".parse::<ControllerKind>().expect_err("misspelt").to_string();
        assert!(
            error.contains("\"pvscisi\" is no kind of controller") && error.contains("pvscsi"),
            "{error}"
        );
        assert!("unknown".parse::<Power>().is_err(), "nobody writes that; leave it out");
    }
}
