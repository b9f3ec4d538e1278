//! The engine on a toy world: each effect is a file. What is there must always be what the journal says.

mod asks;
mod crashes;
mod failures;
mod owners;
mod random;
mod world;

use super::*;
