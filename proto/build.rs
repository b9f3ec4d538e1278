//! Compiles the schema without a protoc binary and keeps its descriptor set for reflection.

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "migratekit/v1/types.proto",
        "migratekit/v1/agent.proto",
        "migratekit/v1/transfer.proto",
        "migratekit/v1/failover.proto",
        "migratekit/v1/migration.proto",
        "migratekit/v1/orphan.proto",
        "migratekit/v1/preflight.proto",
        "migratekit/v1/profile.proto",
        "migratekit/v1/progress.proto",
        "migratekit/v1/replication.proto",
        "migratekit/v1/schedule.proto",
        "migratekit/v1/status.proto",
        "migratekit/v1/token.proto",
    ];
    println!("cargo:rerun-if-changed=migratekit");
    let set = protox::compile(files, ["."])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("migratekit_v1.bin"), set.encode_to_vec())?;
    // Without the transport helpers: their `connect` collides with AgentService.Connect.
    tonic_prost_build::configure().build_transport(false).bytes(".").compile_fds(set)?;
    Ok(())
}
