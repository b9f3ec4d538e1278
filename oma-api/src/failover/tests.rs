//! Test failovers and their clean-up against a real store (SQLite and MariaDB) and a real local storage, with machines that
//! are only remembered: the real ones are the end-to-end tests'.

mod asks;
mod crashes;
mod faults;
mod plans;
pub(crate) mod world;
