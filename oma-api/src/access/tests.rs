//! The table against what is really served, and every row against who is below it.

mod coverage;
mod edges;
mod long;
mod server;

use super::*;
