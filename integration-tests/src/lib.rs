//! What the tests and the demo run against: stand-ins that behave, and the harness around the daemons under test.

#[cfg(test)]
mod architecture;
pub mod bench;
pub mod cloudstack_sim;
pub mod convertible;
pub mod guest;
pub mod harness;
pub mod link;
pub mod linstor_sim;
pub mod live_vm;
pub mod mariadb;
pub mod middle;
pub mod nbd_tap;
pub mod otlp;
pub mod recordings;
pub mod zone;
