//! Failovers, their clean-up and their way back against a real store (SQLite and MariaDB) and a real local storage, with machines that
//! are only remembered: the real ones are the end-to-end tests'.

mod asks;
mod crashes;
mod faults;
mod live;
mod live_crashes;
mod live_rules;
mod plans;
pub(crate) mod site;
pub(crate) mod world;
mod zone;
