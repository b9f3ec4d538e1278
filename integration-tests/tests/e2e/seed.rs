//! What a test leaves to chance comes of a number, which a failure says.

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

/// Of this run. Dropped before it [`survived`](Self::survived), it says how to repeat it.
pub(crate) struct Seed {
    seed: u64,
    name: &'static str,
    pub(crate) random: SmallRng,
    survived: bool,
}

impl Seed {
    /// With `MIGRATEKIT_SEED`, or this seed.
    pub(crate) fn new(seed: u64, name: &'static str) -> Self {
        let given = std::env::var("MIGRATEKIT_SEED").ok().and_then(|s| s.parse().ok());
        let seed = given.unwrap_or(seed);
        Self { seed, name, random: SmallRng::seed_from_u64(seed), survived: false }
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.random.random()
    }

    /// All is well.
    pub(crate) fn survived(&mut self) {
        self.survived = true;
    }
}

impl std::fmt::Display for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MIGRATEKIT_SEED={} {}", self.seed, self.name)
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if !self.survived {
            eprintln!("failed: {self}");
        }
    }
}
