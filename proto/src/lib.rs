//! The wire schema (`proto/migratekit/v1/*.proto`), compiled.
//!
//! Nothing but generated code lives here. Its types stay at the edges: `shared::wire`, the gRPC
//! handlers and the CLI's client convert them to and from the domain's own.

/// Package `migratekit.v1`.
#[allow(clippy::all, clippy::pedantic, unreachable_pub, missing_docs)]
pub mod v1 {
    tonic::include_proto!("migratekit.v1");
}

/// Descriptor set of the schema, for gRPC reflection.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/migratekit_v1.bin"));
