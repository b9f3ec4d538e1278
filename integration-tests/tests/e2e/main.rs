//! End to end: real daemons, a live VM, TLS, over loopback. One binary for all of it.

mod access;
mod bench;
mod certificates;
mod clocks;
mod crowd;
mod cycles;
mod database;
mod doubles;
mod faults;
mod fencing;
mod findings;
mod flush;
mod grpcurl;
mod hand;
mod interrupted;
mod kills;
mod links;
mod metrics;
mod progress;
mod schedule;
mod seed;
mod traces;
mod verify;
mod versions;
mod watchdog;
mod wire;
