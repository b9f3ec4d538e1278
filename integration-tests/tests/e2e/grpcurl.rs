//! A client that nobody here wrote: what the schema, reflection and the errors look like to `grpcurl`.

use crate::fencing::by_hand;
use crate::hand::{LEAF, open_of};
use integration_tests::harness::{Options, World, binary};
use serde_json::Value;
use shared::tls::{Files, Role};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

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
    let mut command = command(program, &world.address, files, arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

/// Options with their values first, then what is called.
fn command(program: &Path, address: &str, files: &Files, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.arg("-cacert").arg(&files.ca).arg("-cert").arg(&files.cert).arg("-key").arg(&files.key);
    // Options first, then the address, then what is called.
    let (options, called): (Vec<_>, Vec<_>) = match arguments {
        [flag, value, rest @ ..] if flag.starts_with('-') => (vec![flag, value], rest.to_vec()),
        all => (vec![], all.to_vec()),
    };
    command.args(options).arg(address).args(called);
    command
}

/// Calls a method of `ProgressService` or `ReplicationService`; the answer, or what was refused.
async fn call(
    program: &Path,
    address: &str,
    files: &Files,
    method: &str,
    body: &str,
) -> anyhow::Result<Result<Value, String>> {
    let method = format!("migratekit.v1.{method}");
    let mut command = command(program, address, files, &["-d", body, &method]);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    Ok(match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout)?),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    })
}

fn installed(what: &str) -> Option<PathBuf> {
    let found = grpcurl();
    if found.is_none() {
        eprintln!("skipped: no grpcurl; deploy/install-deps.sh test installs it ({what})");
    }
    found
}

/// A client that nobody here wrote lists, describes and calls, and pushes a disk of two leaves.
#[tokio::test(flavor = "multi_thread")]
async fn grpcurl_can_push() -> anyhow::Result<()> {
    let Some(program) = installed("a push") else { return Ok(()) };
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

/// An outside engine registers with the agent, reports, and is watched; all by a client that nobody here wrote.
#[tokio::test(flavor = "multi_thread")]
async fn grpcurl_reports_to_an_agent_and_watches_it() -> anyhow::Result<()> {
    const JOB: &str = "migration-vol-c290646c-41ba-4d50-a31f-f497320ca0bd";
    let Some(program) = installed("progress") else { return Ok(()) };
    let world = World::start(&Options::live(&[("root", 1 << 20)])).await?;
    let [operator, oma] = [(Role::Operator, "admin"), (Role::Oma, "main")].map(|(r, n)| world.ca.files(r, n));
    let called = async |files: &Files, method: &str, body: &str| {
        call(&program, &world.diagnostics, files, &format!("ProgressService/{method}"), body).await
    };
    let mut list = command(&program, &world.diagnostics, &operator, &["list"]);
    let listed = String::from_utf8(tokio::task::spawn_blocking(move || list.output()).await??.stdout)?;
    assert!(listed.contains("migratekit.v1.ProgressService") && !listed.contains("Migration"), "{listed}");

    let job = format!(r#"{{"jobId": "{JOB}"}}"#);
    let update = |bytes: u64, rest: &str| {
        format!(
            r#"{{"jobId": "{JOB}", "stage": "Transfer", "bytesTransferred": {bytes}, "totalBytes": 1000{rest}}}"#
        )
    };
    for (method, body) in [("Get", &job), ("Watch", &job), ("Update", &update(1, ""))] {
        let refused = called(&operator, method, body).await?.expect_err("nobody registered it");
        for word in ["NotFound", "JOB_NOT_FOUND", "google.rpc.RequestInfo"] {
            assert!(refused.contains(word), "{method}: {refused}");
        }
    }
    let refused = called(&oma, "Register", &job).await?.expect_err("an OMA does not report");
    assert!(refused.contains("WRONG_ROLE"), "{refused}");
    assert_eq!(called(&operator, "Register", &job).await?, Ok(serde_json::json!({ "registered": true })));
    assert_eq!(called(&operator, "Register", &job).await?, Ok(serde_json::json!({})));
    let refused = called(&operator, "Update", &update(2000, "")).await?.expect_err("more than there is");
    assert!(refused.contains("INVALID_PROGRESS_DATA") && refused.contains("<= total_bytes"), "{refused}");

    let method = "migratekit.v1.ProgressService/Watch";
    let mut watch = command(&program, &world.diagnostics, &operator, &["-d", &job, method]);
    let watching = watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    assert_eq!(called(&operator, "Update", &update(400, "")).await?, Ok(serde_json::json!({})));
    let seen = called(&oma, "Get", &job).await?.expect("an OMA may ask");
    let progress = &seen["progress"];
    assert_eq!(
        (&progress["status"], &progress["percentage"]),
        (&"PROGRESS_STATUS_RUNNING".into(), &40.into())
    );
    let done = update(1000, r#", "status": "PROGRESS_STATUS_COMPLETED""#);
    assert_eq!(called(&operator, "Update", &done).await?, Ok(serde_json::json!({})));
    let ended = tokio::task::spawn_blocking(move || watching.wait_with_output());
    let ended = tokio::time::timeout(Duration::from_secs(30), ended).await???;
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let states = serde_json::Deserializer::from_slice(&ended.stdout).into_iter::<Value>();
    let states = states.collect::<Result<Vec<_>, _>>()?;
    let number = |state: &Value| state["sequence"].as_str().and_then(|n| n.parse::<u64>().ok());
    assert!(states.is_sorted_by_key(number), "{states:?}");
    let last = states.last().map(|state| &state["progress"]["status"]);
    assert_eq!(last, Some(&"PROGRESS_STATUS_COMPLETED".into()), "{states:?}");
    Ok(())
}

/// The OMA's own jobs: watched while they run and looked up afterwards; nobody else reports on them.
#[tokio::test(flavor = "multi_thread")]
async fn grpcurl_watches_a_cycle_at_the_oma() -> anyhow::Result<()> {
    const MIB: u64 = 1 << 20;
    let Some(program) = installed("cycles") else { return Ok(()) };
    let world = World::start(&Options::live(&[("root", 96 * MIB)])).await?;
    crate::findings::guest_writes(world.live()?, "root", 0, 96 * MIB, 1)?;
    let [operator, agent] =
        [(Role::Operator, "admin"), (Role::Agent, "vma-01")].map(|(r, n)| world.ca.files(r, n));
    let called = async |files: &Files, method: &str, body: &str| {
        call(&program, &world.address, files, method, body).await
    };
    world.begin().await?;
    world.act(proto::v1::Action::Sync).await?;
    let begun = world.wait("a cycle", Duration::from_secs(30), |m| m.cycle.is_some()).await?;
    let cycle = begun.cycle.map(|cycle| cycle.job_id).unwrap_or_default();
    let job = format!(r#"{{"jobId": "{cycle}"}}"#);
    let method = "migratekit.v1.ProgressService/Watch";
    let mut watch = command(&program, &world.address, &operator, &["-d", &job, method]);
    let ended = tokio::task::spawn_blocking(move || watch.output());
    let ended = tokio::time::timeout(Duration::from_secs(60), ended).await???;
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let states = serde_json::Deserializer::from_slice(&ended.stdout).into_iter::<Value>();
    let last = states.collect::<Result<Vec<_>, _>>()?.pop().unwrap_or_default();
    let progress = &last["progress"];
    assert_eq!(progress["status"], "PROGRESS_STATUS_COMPLETED", "{last}");
    let bytes = (96 * MIB).to_string();
    assert_eq!(
        (&progress["bytesTransferred"], &progress["percentage"]),
        (&bytes.into(), &100.into()),
        "{last}"
    );

    let got = called(&operator, "ProgressService/Get", &job).await?.expect("known");
    assert_eq!(got["progress"]["jobId"], cycle, "{got}");
    for (method, body) in [("Register", &job), ("Update", &job)] {
        let refused = called(&operator, &format!("ProgressService/{method}"), body).await?.expect_err("ours");
        assert!(
            refused.contains("FailedPrecondition") && refused.contains("JOBS_ARE_THE_AGENTS"),
            "{refused}"
        );
    }
    let refused = called(&agent, "ProgressService/Get", &job).await?.expect_err("an agent");
    assert!(refused.contains("WRONG_ROLE"), "{refused}");
    let got = called(&operator, "ReplicationService/Get", &format!(r#"{{"id": "{cycle}"}}"#)).await?;
    assert_eq!(got.expect("known")["replication"]["status"], "completed");
    let listed = called(&operator, "ReplicationService/List", r#"{"status": "completed"}"#).await?;
    assert_eq!(listed.expect("a page")["replications"].as_array().map(Vec::len), Some(1));
    let refused = called(&operator, "ReplicationService/List", r#"{"status": "done"}"#).await?;
    assert!(refused.expect_err("no such status").contains("INVALID_ARGUMENT"));
    Ok(())
}
