//! What a check finds.

use serde::{Serialize, Serializer};
use std::fmt;
use utoipa::ToSchema;

/// How much it matters; in this order they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Begin is refused, unless it is forced for a reason.
    Block,
    /// Begin goes on, and it is recorded.
    Warn,
    Info,
}

impl Severity {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Warn => "warn",
            Self::Info => "info",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $word:literal $severity:ident,)*) => {
        /// Upper snake case on the wire; each has one severity.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            pub const fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }
        }
    };
}

codes! {
    AgentNotConnected = "AGENT_NOT_CONNECTED" Block,
    AgentProtocol = "AGENT_PROTOCOL" Block,
    MigrationUnfinished = "MIGRATION_UNFINISHED" Block,
    /// Less than 5 % would be free after the copy.
    TargetRoomShort = "TARGET_ROOM_SHORT" Block,
    NoDisks = "NO_DISKS" Block,
    DiskEmpty = "DISK_EMPTY" Block,
    DiskTooLarge = "DISK_TOO_LARGE" Block,
    TooManyDisks = "TOO_MANY_DISKS" Block,
    NameTaken = "NAME_TAKEN" Block,
    MacTaken = "MAC_TAKEN" Block,
    AgentCapabilityMissing = "AGENT_CAPABILITY_MISSING" Warn,
    /// There are volumes of a migration that is lost.
    ReplicaFound = "REPLICA_FOUND" Warn,
    /// Less than 20 % would be free after the copy.
    TargetRoomLow = "TARGET_ROOM_LOW" Warn,
    TargetRoomUnknown = "TARGET_ROOM_UNKNOWN" Warn,
    /// As it was asked now: no machine such as this one can be made there.
    TargetCannotRun = "TARGET_CANNOT_RUN" Warn,
    /// It did not say.
    TargetUnknown = "TARGET_UNKNOWN" Warn,
    ControllersMixed = "CONTROLLERS_MIXED" Warn,
    ControllerUnsupported = "CONTROLLER_UNSUPPORTED" Warn,
    NameInvalid = "NAME_INVALID" Warn,
    MacDuplicate = "MAC_DUPLICATE" Warn,
    AddressTaken = "ADDRESS_TAKEN" Warn,
    ProfileMissing = "PROFILE_MISSING" Warn,
    NetworkUnmappedLive = "NETWORK_UNMAPPED_LIVE" Warn,
    NetworkUnmappedTest = "NETWORK_UNMAPPED_TEST" Warn,
    ConfigurationUnknown = "CONFIGURATION_UNKNOWN" Warn,
    ConfigurationIncomplete = "CONFIGURATION_INCOMPLETE" Warn,
    SecureBootLost = "SECURE_BOOT_LOST" Warn,
    TpmLost = "TPM_LOST" Warn,
    NoChangeTracking = "NO_CHANGE_TRACKING" Warn,
    Suspended = "SUSPENDED" Warn,
    ToolsAbsent = "TOOLS_ABSENT" Warn,
    AgentVersionDiffers = "AGENT_VERSION_DIFFERS" Info,
    DiskRoundedUp = "DISK_ROUNDED_UP" Info,
    ControllerReplaced = "CONTROLLER_REPLACED" Info,
    TargetMakesNoVm = "TARGET_MAKES_NO_VM" Info,
    FirmwareVariablesLost = "FIRMWARE_VARIABLES_LOST" Info,
    ChangeTrackingUnknown = "CHANGE_TRACKING_UNKNOWN" Info,
    PoweredOff = "POWERED_OFF" Info,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(self.as_str())
    }
}

/// One thing that stands against it, or that an operator should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = PreflightFinding)]
pub struct Finding {
    #[schema(value_type = String, example = "MAC_TAKEN")]
    pub code: Code,
    pub severity: Severity,
    /// What it is about: `vm`, `agent`, `target`, `disk root`, `nic 4000`.
    #[schema(example = "nic 4000")]
    pub subject: String,
    #[schema(
        example = "00:50:56:8a:01:02 is the address of web-02, too, which migration 0190163d-8694-739b-aea5-966c26f8ad90 moves"
    )]
    pub found: String,
    #[schema(example = "let the profile make new addresses (live_mac = new), or change one of the two")]
    pub action: String,
    /// Of a name or an address that is taken: one that is free, as far as is known.
    #[schema(example = "02:9c:1f:33:60:de")]
    pub alternative: Option<String>,
}

impl Finding {
    pub(super) fn new(
        code: Code,
        subject: impl Into<String>,
        found: impl Into<String>,
        action: impl Into<String>,
    ) -> Self {
        let (subject, found, action) = (subject.into(), found.into(), action.into());
        Self { code, severity: code.severity(), subject, found, action, alternative: None }
    }

    pub(super) fn or(mut self, alternative: Option<String>) -> Self {
        self.alternative = alternative;
        self
    }
}

/// `MAC_TAKEN (nic 4000): …: …`, with the alternative.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, subject, found, action, alternative, .. } = self;
        write!(f, "{code} ({subject}): {found}: {action}")?;
        alternative.as_ref().map_or(Ok(()), |free| write!(f, " (free: {free})"))
    }
}
