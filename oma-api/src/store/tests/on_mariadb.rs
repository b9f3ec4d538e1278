//! The suite on a MariaDB server.
#![expect(clippy::duplicate_mod, reason = "one suite for two databases")]

#[path = "accept.rs"]
mod accept;
#[path = "actions.rs"]
mod actions;
#[path = "agents.rs"]
mod agents;
#[path = "census.rs"]
mod census;
#[path = "checkpoints.rs"]
mod checkpoints;
#[path = "commits.rs"]
mod commits;
#[path = "cycles.rs"]
mod cycles;
#[path = "dumps.rs"]
mod dumps;
#[path = "migrations.rs"]
mod migrations;
#[path = "profiles.rs"]
mod profiles;
#[path = "schedules.rs"]
mod schedules;
#[path = "schema.rs"]
mod schema;
#[path = "tokens.rs"]
mod tokens;
#[path = "workflows.rs"]
mod workflows;

use super::*;

pub(super) type Fixture = FixtureOn<MariaDb>;
