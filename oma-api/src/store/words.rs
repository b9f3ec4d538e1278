//! The store's own words, as they stand in the rows.

use shared::words;

words!(
    /// What a cycle is for.
    JobKind, "kind of cycle", {
        /// The first sync, or one that starts over.
        Full = "full",
        /// A later sync.
        Incremental = "incremental",
        /// Compares a source snapshot with the manifest; writes nothing.
        VerifySource = "verify_source",
    }
);

words!(
    /// Where a cycle is.
    JobStatus, "status of a cycle", {
        /// Data may come.
        Running = "running",
        /// Stopped at a durable point, its snapshot kept.
        Paused = "paused",
        /// All disks are sealed; the commit is being made.
        Committing = "committing",
        /// Committed (or compared to the end).
        Completed = "completed",
        /// Ended with an error.
        Failed = "failed",
        /// Given up.
        Aborted = "aborted",
    }
);

words!(
    /// What the operator wants of a running cycle.
    Wanted, "wish", {
        /// Go on.
        Run = "run",
        /// Stop at a durable point.
        Pause = "pause",
    }
);

words!(
    /// What a checkpoint's ranges are.
    CheckpointKind, "kind of checkpoint", {
        /// About to be written: unknown until durable, whatever happens.
        Intent = "intent",
        /// Written, flushed, in the manifest.
        Durable = "durable",
        /// To be sent by the next cycle although the source calls it unchanged.
        Required = "required",
    }
);

impl JobStatus {
    /// The cycle is over.
    pub const fn ended(self) -> bool {
        match self {
            Self::Running | Self::Paused | Self::Committing => false,
            Self::Completed | Self::Failed | Self::Aborted => true,
        }
    }
}

impl JobKind {
    /// The cycle writes the replica.
    pub const fn writes(self) -> bool {
        match self {
            Self::Full | Self::Incremental => true,
            Self::VerifySource => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_spelled_one_way() {
        macro_rules! both_ways {
            ($($name:ident),*) => {$(
                for &word in $name::ALL {
                    assert_eq!(word.as_str().parse(), Ok(word));
                }
                assert!("".parse::<$name>().is_err());
            )*};
        }
        both_ways!(JobKind, JobStatus, Wanted, CheckpointKind);
    }
}
