//! The entries of an answer to a change (`ApiCallRc`).

use serde::Deserialize;
use std::fmt;

/// A return code: two bits of type, two of operation, five of object, fifteen of what happened. Operation and object are
/// those of the call that was made, so that only type and code are ever compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(transparent)]
pub struct ReturnCode(i64);

/// What sort of an entry it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Success,
    Information,
    Warning,
    Error,
}

const CODE: i64 = 0x7FFF;

impl ReturnCode {
    pub fn kind(self) -> Kind {
        // The top two bits, the sign among them.
        match self.0 >> 62 & 0b11 {
            0b00 => Kind::Success,
            0b01 => Kind::Information,
            0b10 => Kind::Warning,
            _ => Kind::Error,
        }
    }

    /// What happened: a number of LINSTOR's (`linstor-api-consts.json`).
    pub fn code(self) -> u16 {
        u16::try_from(self.0 & CODE).unwrap_or(0)
    }

    /// Why it failed. `None`: it did not.
    pub fn problem(self) -> Option<Problem> {
        (self.kind() == Kind::Error).then(|| Problem::of(self.code()))
    }
}

/// Why a change failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Problem {
    /// A name, a size or a pool that cannot be.
    Invalid,
    /// No such node, definition, resource, volume or snapshot.
    NotFound,
    /// There is one of that name, or something that has to go first: snapshots of what is to be deleted.
    Exists,
    /// Not enough nodes with enough room.
    NoRoom,
    /// Somebody has it open (known with DRBD only).
    InUse,
    /// A satellite is off. Some of the change may be stored, and carried out when it is back.
    NodeOff,
    /// A copy is behind.
    NotUpToDate,
    /// A program on a node failed; what was being made may be there in part.
    ToolFailed,
    /// Credentials are missing, wrong or not enough.
    Denied,
    /// Another.
    Other(u16),
}

impl Problem {
    fn of(code: u16) -> Self {
        match code {
            200..=299 => Self::Invalid,
            300..=399 => Self::NotFound,
            400..=499 => Self::Denied,
            500..=599 => Self::Exists,
            974 | 979 => Self::NotUpToDate,
            980 | 996 => Self::NoRoom,
            995 => Self::NodeOff,
            997 => Self::InUse,
            998 => Self::ToolFailed,
            other => Self::Other(other),
        }
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Reply {
    pub ret_code: ReturnCode,
    #[serde(default)]
    pub message: String,
    #[serde(default)]
    pub cause: String,
    #[serde(default)]
    pub details: String,
    #[serde(default)]
    pub correction: String,
    /// Reports on the controller or a satellite (`linstor error-reports show`).
    #[serde(default)]
    pub error_report_ids: Vec<String>,
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message.trim())?;
        for part in [&self.cause, &self.details, &self.correction] {
            match part.trim() {
                "" => {}
                part => write!(f, "; {part}")?,
            }
        }
        match self.error_report_ids.is_empty() {
            true => Ok(()),
            false => write!(f, " (error report {})", self.error_report_ids.join(", ")),
        }
    }
}

/// The entries of an answer, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Replies(pub Vec<Reply>);

impl Replies {
    /// The first error: it sets the status.
    pub fn error(&self) -> Option<&Reply> {
        self.0.iter().find(|reply| reply.ret_code.kind() == Kind::Error)
    }

    /// Why it failed, as the first error says it.
    pub fn problem(&self) -> Option<Problem> {
        self.error()?.ret_code.problem()
    }

    /// What is said although it went well, for people.
    pub fn warnings(&self) -> impl Iterator<Item = &Reply> {
        self.0.iter().filter(|reply| reply.ret_code.kind() == Kind::Warning)
    }

    /// Whether something was done, by what they say: an answer that failed may begin with it, and then it is there.
    pub fn did_something(&self) -> bool {
        self.0.iter().any(|reply| reply.ret_code.kind() == Kind::Success)
    }

    /// Whether a warning of this code is among them.
    pub fn warns_of(&self, code: u16) -> bool {
        self.warnings().any(|reply| reply.ret_code.code() == code)
    }
}

impl fmt::Display for Replies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.iter().filter(|reply| reply.ret_code.kind() == Kind::Error).peekable();
        if said.peek().is_none() {
            return f.write_str("no reason was given");
        }
        for (at, reply) in said.enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{reply}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of `contracts/LINSTOR.md`.
    #[test]
    fn the_codes_of_a_real_controller_are_told_apart() {
        for (decimal, code, problem) in [
            (-4_611_686_018_406_153_739, 501, Problem::Exists),
            (-4_611_686_018_406_940_171, 501, Problem::Exists),
            (-4_611_686_018_373_385_726, 514, Problem::Exists),
            (-4_611_686_018_409_823_742, 514, Problem::Exists),
            (-4_611_686_018_373_385_243, 997, Problem::InUse),
            (-4_611_686_018_373_647_387, 997, Problem::InUse),
            (-4_611_686_018_393_046_043, 997, Problem::InUse),
            (-4_611_686_018_406_153_244, 996, Problem::NoRoom),
            (-4_611_686_018_407_202_610, 206, Problem::Invalid),
            (-4_611_686_018_390_686_764, 980, Problem::NoRoom),
            (-4_611_686_018_407_202_506, 310, Problem::NotFound),
            (-4_611_686_018_409_823_261, 995, Problem::NodeOff),
            (-4_611_686_018_393_046_045, 995, Problem::NodeOff),
            (-4_611_686_018_409_823_277, 979, Problem::NotUpToDate),
            (-4_611_686_018_390_686_770, 974, Problem::NotUpToDate),
            (-4_611_686_018_407_202_314, 502, Problem::Exists),
            (-4_611_686_018_409_823_753, 503, Problem::Exists),
            (-4_611_686_018_406_153_242, 998, Problem::ToolFailed),
            (-4_611_686_018_427_387_603, 301, Problem::NotFound),
        ] {
            let of = ReturnCode(decimal);
            assert_eq!((of.kind(), of.code(), of.problem()), (Kind::Error, code, Some(problem)), "{decimal}");
        }
        for (decimal, kind, code) in [
            (-9_223_372_036_800_771_144, Kind::Warning, 3000),
            (-9_223_372_036_817_550_358, Kind::Warning, 1002),
            (4_611_686_018_447_583_000, Kind::Information, 10008),
            (17_563_649, Kind::Success, 1),
        ] {
            let of = ReturnCode(decimal);
            assert_eq!((of.kind(), of.code(), of.problem()), (kind, code, None), "{decimal}");
        }
    }

    #[test]
    fn an_answer_that_failed_may_have_done_something() -> anyhow::Result<()> {
        let replies: Replies = serde_json::from_str(
            r#"[{"ret_code": 20447233, "message": "New resource definition 'mk-x' created."},
                {"ret_code": -9223372036817550358, "message": "No active connection to satellite 'kvm2'"},
                {"ret_code": -4611686018406153242, "message": "Failed to create", "details": "exit code 5",
                 "error_report_ids": ["6B017554-00000-000003"]}]"#,
        )?;
        assert!(replies.did_something() && replies.warns_of(1002) && !replies.warns_of(3000));
        assert_eq!(replies.problem(), Some(Problem::ToolFailed));
        assert_eq!(replies.to_string(), "Failed to create; exit code 5 (error report 6B017554-00000-000003)");
        assert_eq!(Replies::default().to_string(), "no reason was given");
        Ok(())
    }
}
