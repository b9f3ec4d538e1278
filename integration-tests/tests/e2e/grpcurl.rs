//! A client that nobody here wrote: what the schema, reflection and the errors look like to `grpcurl`.

use crate::fencing::by_hand;
use crate::hand::{LEAF, open_of};
use integration_tests::harness::{World, binary};
use shared::tls::{Files, Role};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `make test` installs, or what is in the path.
fn grpcurl() -> Option<PathBuf> {
    let installed = binary("oma-api")
        .ok()?
        .ancestors()
        .find_map(|folder| Some(folder.join("tools/bin/grpcurl")).filter(|path| path.is_file()));
    let path = std::env::var_os("PATH")?;
    installed.or_else(|| {
        std::env::split_paths(&path).map(|folder| folder.join("grpcurl")).find(|path| path.is_file())
    })
}

/// Runs grpcurl under these certificates; standard output and error.
async fn curl(
    program: &Path,
    world: &World,
    files: &Files,
    arguments: &[&str],
) -> anyhow::Result<(bool, String)> {
    let mut command = Command::new(program);
    command.arg("-cacert").arg(&files.ca).arg("-cert").arg(&files.cert).arg("-key").arg(&files.key);
    // Options first, then the address, then what is called.
    let (options, called): (Vec<_>, Vec<_>) = match arguments {
        [flag, value, rest @ ..] if flag.starts_with('-') => (vec![flag, value], rest.to_vec()),
        all => (vec![], all.to_vec()),
    };
    command.args(options).arg(&world.address).args(called);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

/// A client that nobody here wrote lists, describes and calls, and pushes a disk of two leaves.
#[tokio::test(flavor = "multi_thread")]
async fn grpcurl_can_push() -> anyhow::Result<()> {
    let Some(program) = grpcurl() else {
        eprintln!("skipped: no grpcurl; deploy/install-deps.sh test installs it");
        return Ok(());
    };
    let (world, _agent, cycle) = by_hand().await?;
    let (agent, operator) = (world.ca.files(Role::Agent, "vma-01"), world.ca.files(Role::Operator, "admin"));
    let (ok, said) = curl(&program, &world, &operator, &["list"]).await?;
    assert!(
        ok && said.contains("migratekit.v1.TransferService") && said.contains("grpc.health.v1.Health"),
        "{said}"
    );
    let (ok, said) = curl(&program, &world, &operator, &["describe", "migratekit.v1.PushRequest"]).await?;
    assert!(ok && said.contains("oneof kind"), "{said}");
    let get = ["-d", r#"{"vm":"web"}"#, "migratekit.v1.MigrationService/Get"];
    let (ok, said) = curl(&program, &world, &operator, &get).await?;
    assert!(ok && said.contains("PHASE_SYNC"), "{said}");

    let open = open_of(&cycle, 0);
    let size = 32 * LEAF;
    let push = |epoch: u64, rest: &str| {
        let (job, disk) = (&open.job_id, &open.disk_id);
        format!(
            r#"{{"open":{{"jobId":"{job}","diskId":"{disk}","epoch":{epoch},"sizeBytes":{size},"mode":"PUSH_MODE_DATA"}}}}{rest}"#
        )
    };
    let called = "migratekit.v1.TransferService/Push";
    let (ok, said) = curl(&program, &world, &agent, &["-d", &push(open.epoch + 7, ""), called]).await?;
    assert!(!ok && said.contains("UNKNOWN_EPOCH") && said.contains("was never given out"), "{said}");
    let (ok, said) = curl(&program, &world, &operator, &["-d", &push(open.epoch, ""), called]).await?;
    assert!(!ok && said.contains("WRONG_ROLE"), "{said}");
    // "A" in base64, three to a group of four; a leaf is no multiple of three.
    let leaf = format!("{}QQ==", "QUFB".repeat(usize::try_from(LEAF)? / 3));
    let rest = format!(
        r#"{{"intent":{{"ranges":[{{"offset":0,"length":{size}}}]}}}}{{"chunk":{{"offset":{LEAF},"data":"{leaf}"}}}}
           {{"zero":{{"offset":0,"length":{LEAF}}}}}{{"zero":{{"offset":{},"length":{}}}}}{{"finish":{{}}}}"#,
        2 * LEAF,
        size - 2 * LEAF
    );
    let (ok, said) = curl(&program, &world, &agent, &["-d", &push(open.epoch, &rest), called]).await?;
    assert!(ok && said.contains("\"durable\"") && said.contains("\"finished\""), "{said}");
    let m = world.synced().await?;
    let replica = std::fs::read(world.replica(&m, "root")?)?;
    let leaf = usize::try_from(LEAF)?;
    assert!(replica[leaf..2 * leaf].iter().all(|byte| *byte == b'A'));
    assert!(replica[..leaf].iter().chain(&replica[2 * leaf..]).all(|byte| *byte == 0));
    // The same again is late: the job is over.
    let (ok, said) = curl(&program, &world, &agent, &["-d", &push(open.epoch, &rest), called]).await?;
    assert!(!ok && said.contains("JOB_NOT_RUNNING"), "{said}");
    Ok(())
}
