//! Both simulators in a process of their own, which is killed in the middle of its work: what the next one finds.
//!
//! The process is this test's own program, told to run nothing but [`a_zone_in_a_process_of_its_own`].

use super::*;
use crate::cloudstack_sim::hypervisor::qemu::{Options as QemuOptions, Qemu};
use crate::cloudstack_sim::hypervisor::{Hypervisor as _, Power};
use crate::zone::Options;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const DIR: &str = "MK_ZONE_DIR";
const READY: &str = "zone ready ";

/// Machines outlive it.
async fn zone(dir: &Path) -> Zone {
    let qemu = Qemu::new(QemuOptions::new(dir.join("cloudstack"))).unwrap();
    let options = Options { hypervisor: Some(Arc::new(qemu)), ..Options::new(dir) };
    Zone::start_with(options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a part of another test, which runs it in a process of its own"]
#[expect(clippy::print_stdout, reason = "so the other test learns where to find it")]
async fn a_zone_in_a_process_of_its_own() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let zone = zone(Path::new(&dir)).await;
    println!("\n{READY}{} {}", zone.linstor_url(), zone.cloudstack().address());
    std::future::pending().await
}

/// Killed with the test, too.
struct Process {
    child: Child,
    linstor: String,
    cloudstack: SocketAddr,
}

impl Process {
    fn start(dir: &Path) -> Self {
        let name = concat!(module_path!(), "::a_zone_in_a_process_of_its_own");
        let name = name.split_once("::").unwrap().1;
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", name, "--ignored", "--nocapture"]).env(DIR, dir);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let told = lines.find_map(|line| line.strip_prefix(READY).map(str::to_owned)).unwrap();
        // Else it ends when it says something to nobody.
        std::thread::spawn(move || lines.for_each(drop));
        let (linstor, cloudstack) = told.split_once(' ').unwrap();
        Self { child, linstor: linstor.to_owned(), cloudstack: cloudstack.parse().unwrap() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ends machines also when the test fails.
struct Machines(Qemu);

impl Drop for Machines {
    fn drop(&mut self) {
        let _ = self.0.end_all();
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_the_middle_of_a_restore_and_of_a_job_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_owned();
    let both = Both::of(zone(&root).await, dir);
    let machines = Machines(Qemu::new(QemuOptions::new(root.join("cloudstack"))).unwrap());
    let (runs, waits) = (both.placeholder("runs").await, both.placeholder("waits").await);
    let other = "44444444-0000-4000-8000-000000000002";
    for (id, vm) in [(U, &runs), (other, &waits)] {
        both.volume(id, 1).await;
        both.attach(id, vm, "0").await.done();
    }
    both.replica("mk-r1", GIB, "of the source");
    both.define("cs-clone", GROUP);
    let volume = "resource-definitions/mk-r1/snapshot-restore-volume-definition/rp-1";
    both.ask("POST", volume, Some(json!({"to_resource": "cs-clone"})));
    let (keys, kept) = (both.zone.admin_keys(), both._dir);
    drop(both.zone);

    let process = Process::start(&root);
    let admin = Client::at(process.cloudstack, keys);
    admin.job("startVirtualMachine", &[("id", runs.as_str())]).await.done();
    assert_eq!(machines.0.state(&runs), Power::Running);
    admin.switch("settings", json!({"job_ms": 600_000})).await;
    let pending = admin.ok("startVirtualMachine", &[("id", waits.as_str())]).await;
    let pending = pending["jobid"].as_str().unwrap().to_owned();
    let rest = Rest::new(&process.linstor);
    let slow = json!({"method": "POST", "path": "/v1/*/snapshot-restore-resource/*", "at": "registered",
        "what": {"delay_ms": 600_000}});
    rest.ask("POST", "/sim/rules", Some(&slow)).unwrap();
    let restoring = {
        let rest = rest.clone();
        std::thread::spawn(move || {
            let path = "/v1/resource-definitions/mk-r1/snapshot-restore-resource/rp-1";
            rest.ask("POST", path, Some(&json!({"to_resource": "cs-clone"})))
        })
    };
    let resources = || rest.ask("GET", "/v1/view/resources?resources=cs-clone", None).unwrap();
    until("the restore begins", || resources().as_array().is_some_and(|all| !all.is_empty())).await;
    assert_eq!(resources()[0]["volumes"][0].get("device_path"), None, "nothing is restored yet");
    drop(process);
    restoring.join().unwrap().unwrap_err();
    assert_eq!(machines.0.state(&runs), Power::Running, "it outlives the server");

    let both = Both::of(zone(&root).await, kept);
    let job = both.admin.wait(&pending).await;
    assert_eq!((job.status, job.code), (2, 530));
    assert_eq!(job.shown.get("jobresult"), None, "nobody knows what came of it");
    let state = async |vm: &str| {
        both.admin.ok("listVirtualMachines", &[("id", vm)]).await["virtualmachine"][0]["state"].clone()
    };
    assert_eq!((state(&runs).await, state(&waits).await), (json!("Running"), json!("Stopped")));
    both.admin.job("startVirtualMachine", &[("id", waits.as_str())]).await.done();
    for vm in [&runs, &waits] {
        both.admin.job("stopVirtualMachine", &[("id", vm.as_str()), ("forced", "true")]).await.done();
        assert_eq!(machines.0.state(vm), Power::Off);
    }
    // The controller goes on where it was: the restore is finished, with the bytes of the snapshot.
    assert_eq!(read(&both.device("cs-clone", "kvm1").unwrap()), "of the source");
    assert_eq!(read(&both.device("cs-clone", "oma").unwrap()), "of the source");
}
