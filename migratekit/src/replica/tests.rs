//! Sessions against a disk that loses and fails as told. `world` is what outlives a session: disk, manifest, journal.

mod failing;
mod healthy;
mod waiting;
mod world;
