//! Failovers: the lines of the API's document as printed, and the operator's commands, against real daemons and QEMU.
//!
//! `fixtures/seeds/001.md` is the document, word for word.

use crate::configuration::{cli, json};
use anyhow::{Context as _, ensure};
use integration_tests::harness::{Options, VM_UUID, World, binary, eventually};
use serde_json::Value;
use shared::tls::Role;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const DOCUMENT: &str = include_str!("../../fixtures/seeds/001.md");

/// The document's.
const VM: &str = "420570c7-f61f-a930-77c5-1e876786cb3c";
const NAME: &str = "pgtest1";
const JOB: &str = "enhanced-test-failover-420570c7-f61f-a930-77c5-1e876786cb3c-1756882765";
const CORRELATION: &str = "1bcd3a2c-1547-45fe-a4ce-af66094969a6";

/// For a conversion and a start, both perhaps emulated.
const PATIENCE: Duration = Duration::from_secs(240);

/// Says which of these programs is not here.
fn lacks(programs: &[&str]) -> bool {
    let folders: Vec<_> = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    let is_here = |program: &str| folders.iter().any(|folder| folder.join(program).is_file());
    let missing = programs.iter().find(|program| !is_here(program));
    missing
        .inspect(|program| eprintln!("SKIPPED: no {program}; deploy/install-deps.sh test gets it"))
        .is_some()
}

/// The fenced blocks of a language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    let blocks = DOCUMENT.split(fence.as_str()).skip(1);
    blocks.filter_map(|block| block.split("```").next()).collect()
}

/// The one with these words.
fn block(language: &str, words: &str) -> anyhow::Result<&'static str> {
    blocks(language).into_iter().find(|block| block.contains(words)).context(words.to_owned())
}

/// Has all that the document shows, in the same form.
fn is_as_documented(shown: &Value, got: &Value, at: &str) -> anyhow::Result<()> {
    match (shown, got) {
        (Value::Object(shown), Value::Object(got)) => {
            for (key, value) in shown {
                let got = got.get(key).with_context(|| format!("{at}.{key} is missing"))?;
                is_as_documented(value, got, &format!("{at}.{key}"))?;
            }
            Ok(())
        }
        (Value::Array(shown), Value::Array(got)) => match (shown.first(), got.first()) {
            (Some(shown), Some(got)) => is_as_documented(shown, got, &format!("{at}[0]")),
            _ => Ok(()),
        },
        (Value::String(shown), Value::String(got)) => {
            // JSON in a text, and times of whole seconds, stay so.
            let is_time = |text: &str| text.len() == 20 && text.parse::<jiff::Timestamp>().is_ok();
            ensure!(shown.starts_with('{') == got.starts_with('{'), "{at}: {got}");
            ensure!(is_time(shown) == is_time(got), "{at}: {got}");
            Ok(())
        }
        (shown, got) => {
            ensure!(
                std::mem::discriminant(shown) == std::mem::discriminant(got),
                "{at}: {got}, and not {shown}"
            );
            Ok(())
        }
    }
}

/// A world whose control plane makes machines, and whose VM is the document's.
struct Plant {
    world: World,
    _folder: TempDir,
}

impl Drop for Plant {
    /// Machines outlive their control plane: those of a test that failed are ended here, by their ids.
    fn drop(&mut self) {
        let ours = self.world.dir.to_string_lossy().into_owned();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            let id =
                entry.file_name().to_string_lossy().parse().ok().and_then(rustix::process::Pid::from_raw);
            if let Some(id) = id
                && line.contains("qemu-system")
                && line.contains(&ours)
            {
                // It may have ended meanwhile.
                let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
            }
        }
    }
}

impl Plant {
    async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let disk = folder.path().join("root.raw");
        std::fs::write(&disk, vec![7; 1 << 20])?;
        let options = Options {
            configuration: "[vm.configuration]\ncpus = 1\nmemory = \"64MiB\"\n".to_owned(),
            ..Options::files(&[("root", &disk)])
        };
        let mut world = World::start(&options).await?;
        let path = world.dir.join("vma.toml");
        let text = std::fs::read_to_string(&path)?;
        let renamed = text.replace(VM_UUID, VM).replace("name = \"web\"", &format!("name = \"{NAME}\""));
        ensure!(renamed != text, "the VM is named elsewhere");
        std::fs::write(&path, renamed)?;
        world.agent_restart()?;
        Ok(Self { world, _folder: folder })
    }

    async fn protect(&self) -> anyhow::Result<()> {
        // The inventory arrives a moment after the agent is connected.
        eventually("the VM in the inventory", Duration::from_secs(30), async || {
            let begun = cli(&self.world, &["migration", "begin", NAME, "--wait"])?;
            Ok(begun.status.success().then_some(()))
        })
        .await?;
        json(&self.world, &["migration", "sync", NAME, "--wait"])?;
        Ok(())
    }

    /// What a shell makes of a line of the document: another port, and what differs with each request.
    fn run(&self, line: &str, replaced: &[(&str, &str)]) -> anyhow::Result<Value> {
        let here =
            replaced.iter().fold(line.replace("localhost:8082", &self.world.rest), |line, (from, to)| {
                line.replace(from, to)
            });
        let said = Command::new("sh").args(["-ec", &here]).output()?;
        ensure!(said.status.success(), "{here}: {}", String::from_utf8_lossy(&said.stderr));
        let text = String::from_utf8(said.stdout)?;
        serde_json::from_str(&text).with_context(|| format!("{here}: {text}"))
    }

    /// The rows of a query.
    fn rows(&self, query: &str) -> anyhow::Result<Vec<Value>> {
        // A comment in front would be taken for an option.
        let said = Command::new("sqlite3")
            .args(["-readonly", "-json", "-cmd", ".timeout 10000"])
            .arg(self.world.dir.join("oma.db"))
            .arg(format!("\n{query}"))
            .output()?;
        ensure!(said.status.success(), "{query}: {}", String::from_utf8_lossy(&said.stderr));
        Ok(if said.stdout.is_empty() { vec![] } else { serde_json::from_slice(&said.stdout)? })
    }
}

/// Red when a line of the document does not do what it says there.
#[tokio::test(flavor = "multi_thread")]
async fn the_lines_of_the_document_work_as_printed() -> anyhow::Result<()> {
    if lacks(&["qemu-system-x86_64", "sqlite3", "guestfish", "virt-v2v"]) {
        return Ok(());
    }
    let test = block("bash", "api/v1/failover/test")?;
    ensure!(blocks("bash").len() == 4, "another line is to be run here");
    let shown = |words: &str| anyhow::Ok(serde_json::from_str::<Value>(block("json", words)?)?);
    let plant = Plant::start().await?;

    // Before the VM is protected it is unknown.
    let refused = plant.run(test, &[])?;
    is_as_documented(&shown("Validation failed")?, &refused, "refused")?;
    is_as_documented(&shown("MACHINE_READABLE_CODE")?, &refused, "refused")?;
    ensure!(refused["error"] == shown("Validation failed")?["error"], "{refused}");
    ensure!(refused["error_code"] == "VM_NOT_FOUND" && refused["details"]["vm_id"] == VM, "{refused}");
    let page = refused["troubleshooting"]["documentation"].as_str().context("a page")?;
    let said = Command::new("curl").args(["-sf", &format!("http://{}{page}", plant.world.rest)]).output()?;
    ensure!(String::from_utf8(said.stdout)?.contains("### VM_NOT_FOUND"), "{page}");

    plant.protect().await?;
    let begun = plant.run(test, &[])?;
    let documented = shown("Test failover initiated successfully")?;
    is_as_documented(&documented, &begun, "begun")?;
    ensure!(begun["message"] == documented["message"], "{begun}");
    ensure!(begun["data"]["test_duration"] == "1h" && begun["data"]["auto_cleanup"] == true, "{begun}");
    let job = begun["job_id"].as_str().context("a job")?;
    ensure!(job.starts_with(&JOB[..JOB.len() - 10]) && job.len() == JOB.len(), "{job}");
    let correlation = begun["data"]["correlation_id"].as_str().context("an id")?;

    let monitor = block("bash", "api/v1/failover/jobs/")?;
    let done = eventually("the end of the test", PATIENCE, async || {
        let shown = plant.run(monitor, &[(JOB, job)])?;
        let status = shown["data"]["status"].as_str().context("a status")?.to_owned();
        ensure!(status != "failed", "{shown:#}");
        Ok((status == "completed").then_some(shown))
    })
    .await?;
    is_as_documented(&shown("\"steps\"")?, &done, "job")?;
    let listed =
        plant.run(&format!("curl -s 'http://localhost:8082/api/v1/failover/jobs?vm_id={VM}'"), &[])?;
    is_as_documented(&shown("\"total\"")?, &listed, "list")?;
    let steps: Vec<_> =
        done["data"]["steps"].as_array().context("steps")?.iter().map(|s| s["step_name"].as_str()).collect();
    ensure!(steps == documented_steps("Test")?, "{steps:?}");

    let queries: Vec<_> = block("sql", "failover_jobs")?.split_inclusive(';').map(str::trim).collect();
    ensure!(queries.iter().filter(|query| !query.is_empty()).count() == 2, "{queries:?}");
    let rows = plant.rows(queries[0])?;
    ensure!(rows.len() == 1 && rows[0]["job_id"] == job && rows[0]["status"] == "completed", "{rows:?}");
    ensure!(rows[0]["linstor_snapshot_name"] == done["data"]["linstor_snapshot_name"], "{rows:?}");
    ensure!(rows[0]["error_message"].is_null(), "{rows:?}");
    let rows = plant.rows(&queries[1].replace(CORRELATION, correlation))?;
    ensure!(rows.len() > 6 && rows.iter().all(|row| row["status"] == "completed"), "{rows:?}");
    // `journalctl -u oma-api | grep …`: the daemon's log is a file here.
    ensure!(block("bash", "journalctl")?.contains(CORRELATION), "the line is another one");
    ensure!(
        plant.world.oma.logged()?.lines().filter(|line| line.contains(correlation)).count() > 1,
        "a trail"
    );

    // What REST shows, the command shows.
    let mut shown = plant.run(monitor, &[(JOB, job)])?["data"].take();
    shown.as_object_mut().context("an object")?.remove("troubleshooting");
    ensure!(json(&plant.world, &["failover", "get", job])? == shown, "{shown:#}");
    ensure!(json(&plant.world, &["failover", "list", "--vm", NAME])? == listed, "{listed:#}");
    let expires: jiff::Timestamp = shown["expires_at"].as_str().context("a time")?.parse()?;
    let ended: jiff::Timestamp = shown["completed_at"].as_str().context("a time")?.parse()?;
    ensure!(expires.duration_since(ended).as_mins() == 60, "{shown:#}");
    let cleaned = json(&plant.world, &["failover", "cleanup", NAME, "--wait"])?;
    ensure!(cleaned["is_there"] == false && cleaned["cleanup"]["status"] == "completed", "{cleaned:#}");
    let again = cli(&plant.world, &["failover", "cleanup", NAME])?;
    ensure!(again.status.code() == Some(1), "nothing is there");
    moves(&plant).await
}

/// The public steps of a list of the document.
fn documented_steps(kind: &str) -> anyhow::Result<Vec<Option<&'static str>>> {
    let heading = format!("### **{kind} Failover Steps**");
    let lines = DOCUMENT.split(heading.as_str()).nth(1).context("the steps")?.lines().skip(1);
    let steps = lines.take_while(|line| !line.starts_with('#')).map(|line| line.split('`').nth(1));
    Ok(steps.filter(Option::is_some).collect())
}

/// The document's line for a live failover, on a VM that policy lets move. The source here is a file, which nobody can power off:
/// the line is taken, and what it began is taken back.
async fn moves(plant: &Plant) -> anyhow::Result<()> {
    let live = block("bash", "api/v1/failover/live")?;
    let documented: Value = serde_json::from_str(block("json", "Live failover initiated")?)?;
    // A test has passed; the disks were not compared yet.
    let refused = plant.run(live, &[])?;
    ensure!(refused["error_code"] == "VERIFICATION_DUE" && refused["success"] == false, "{refused}");
    for arm in [&["verify", NAME][..], &["verify", NAME, "--source"]] {
        let said = cli(&plant.world, arm)?;
        ensure!(said.status.success(), "{arm:?}: {}", String::from_utf8_lossy(&said.stderr));
    }
    let request = block("json", "notification_config")?;
    let with_all = format!(
        "curl -sX POST http://localhost:8082/api/v1/failover/live -H 'Content-Type: application/json' -d '{request}'"
    );
    for (line, kept) in
        [(live, Value::Null), (&with_all, serde_json::json!({ "email": "admin@company.com" }))]
    {
        let begun = plant.run(line, &[])?;
        is_as_documented(&documented, &begun, "begun")?;
        ensure!(begun.as_object().map(serde_json::Map::len) == Some(4), "nothing else: {begun}");
        for key in ["message", "success"] {
            ensure!(begun[key] == documented[key], "{begun}");
        }
        let data = &begun["data"];
        for key in ["job_type", "snapshot_protection", "status", "virtio_injection", "vm_id", "vm_name"] {
            ensure!(data[key] == documented["data"][key], "{key}: {begun}");
        }
        let job = begun["job_id"].as_str().context("a job")?;
        let printed = documented["job_id"].as_str().context("a job")?;
        ensure!(job.starts_with(&printed[..printed.len() - 10]) && job.len() == printed.len(), "{job}");
        let ended = eventually("the end of the live failover", PATIENCE, async || {
            let shown = json(&plant.world, &["failover", "get", job])?;
            Ok((shown["engine_state"] == "rolled_back").then_some(shown))
        })
        .await?;
        ensure!(ended["error_code"] == "POWER_UNSUPPORTED", "{ended:#}");
        ensure!(ended["mode"] == "planned" && ended["standing"] == "gone", "{ended:#}");
        ensure!(ended["notification_config"] == kept, "{ended:#}");
        let steps: Vec<_> =
            ended["steps"].as_array().context("steps")?.iter().map(|s| s["step_name"].as_str()).collect();
        ensure!(steps == documented_steps("Live")?, "{steps:?}");
        // The VM is protected as before.
        eventually("the migration's next state", PATIENCE, async || {
            let shown = json(&plant.world, &["migration", "get", NAME])?;
            Ok((shown["state"] == "paused").then_some(()))
        })
        .await?;
    }
    let listed = json(&plant.world, &["failover", "list", "--type", "live"])?;
    ensure!(listed["total"] == 2, "{listed:#}");
    let nothing = cli(&plant.world, &["failover", "commit", NAME])?;
    ensure!(String::from_utf8(nothing.stderr)?.contains("[NOT_SWITCHED]"), "nothing has moved");
    Ok(())
}

/// The operator's commands: what is waited for, what fails, what is only no longer waited for.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_waits_and_need_not() -> anyhow::Result<()> {
    if lacks(&["qemu-system-x86_64"]) {
        return Ok(());
    }
    let plant = Plant::start().await?;
    plant.protect().await?;
    let test =
        |more: &[&'static str]| [&["failover", "test", NAME, "--skip-virtio-injection"][..], more].concat();
    for wrong in [&["--config", "a=1", "--config", "a=2"][..], &["--ready-required"], &["--network", "LAN"]] {
        let said = cli(&plant.world, &test(wrong))?;
        ensure!(said.status.code() == Some(64), "{wrong:?}: {}", String::from_utf8_lossy(&said.stderr));
    }
    // Nothing boots from a disk of sevens.
    let waits = ["--ready-console", "login:", "--ready-timeout"];
    let said = cli(&plant.world, &test(&[&waits[..], &["1s", "--ready-required", "--wait"]].concat()))?;
    let errors = String::from_utf8(said.stderr)?;
    ensure!(said.status.code() == Some(1) && errors.contains("[VM_NOT_READY]"), "{errors}");
    ensure!(errors.lines().any(|l| l.starts_with("validation") && l.contains("completed")), "{errors}");
    let said = cli(&plant.world, &test(&[&waits[..], &["1s", "--wait"]].concat()))?;
    let (out, errors) = (String::from_utf8(said.stdout)?, String::from_utf8(said.stderr)?);
    ensure!(said.status.success() && errors.contains("warning: "), "{errors}");
    ensure!(out.lines().any(|l| l.starts_with("status      completed")), "{out}");
    ensure!(out.contains("`migratekit failover cleanup enhanced-test-failover-"), "{out}");

    // Ctrl-C ends the waiting, and not the job.
    let files = plant.world.ca.files(Role::Admin, "root");
    let mut waiting = Command::new(binary("migratekit")?)
        .args(test(&[&waits[..], &["5m", "--ready-required", "--wait"]].concat()))
        .args(["--oma", &plant.world.address])
        .arg("--ca")
        .arg(files.ca)
        .arg("--cert")
        .arg(files.cert)
        .arg("--key")
        .arg(files.key)
        .stderr(Stdio::piped())
        .spawn()?;
    let mut said = BufReader::new(waiting.stderr.take().context("a pipe")?).lines();
    let attached = said.by_ref().map_while(Result::ok).find(|line| line.starts_with("volume-attachment"));
    ensure!(attached.is_some(), "it said no step");
    let id = rustix::process::Pid::from_raw(i32::try_from(waiting.id())?).context("an id")?;
    rustix::process::kill_process(id, rustix::process::Signal::INT)?;
    let last = said.map_while(Result::ok).last().context("a word")?;
    ensure!(
        waiting.wait()?.code() == Some(1) && last.contains("goes on: `migratekit failover watch"),
        "{last}"
    );
    let listed = json(&plant.world, &["failover", "list", "--status", "executing"])?;
    let job = listed["data"][0]["job_id"].as_str().context("it goes on")?.to_owned();
    let skipped = cli(&plant.world, &["failover", "skip", &job, "--reason", "none"])?;
    ensure!(String::from_utf8(skipped.stderr)?.contains("possible now: "), "what may be asked is said");
    ensure!(cli(&plant.world, &["failover", "cancel", &job])?.status.success(), "taken");
    let watched = cli(&plant.world, &["failover", "watch", &job])?;
    let last = String::from_utf8(watched.stdout)?;
    ensure!(last.contains(&format!("{job} has failed: ")) && last.contains("[CANCELLED]"), "{last}");

    let tests = json(&plant.world, &["failover", "list", "--type", "test"])?;
    ensure!(tests["total"] == 3, "{tests}");
    let cleaned = cli(&plant.world, &["failover", "cleanup", NAME, "--wait"])?;
    ensure!(cleaned.status.success(), "the only one that is there: {cleaned:?}");
    Ok(())
}
