//! End to end: real daemons, a live VM, TLS, over loopback. One binary for all of it.

mod certificates;
mod cycles;
mod faults;
mod fencing;
mod flush;
mod grpcurl;
mod hand;
mod verify;
