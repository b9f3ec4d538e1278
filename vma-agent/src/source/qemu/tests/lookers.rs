//! QEMU 7.2 aborts when somebody looks at its block nodes while a job creates a qcow2 image: no such job of ours, and
//! no look of ours during somebody else's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_may_look_at_any_time() {
    let dir = tempfile::tempdir().unwrap();
    let disks = [("root", 4 * MIB), ("data", 2 * MIB)];
    let vm = Arc::new(LiveVm::start(&dir.path().join("vm"), &disks).unwrap());
    let agent = source(&vm, &dir.path().join("agent"));
    let done = Arc::new(AtomicBool::new(false));
    let looker = tokio::task::spawn_blocking({
        let (vm, done) = (Arc::clone(&vm), Arc::clone(&done));
        move || {
            let mut looks = 0;
            while !done.load(Ordering::Relaxed) {
                inventory(&vm);
                looks += 1;
            }
            looks
        }
    });
    for n in 0..20 {
        let name = name(&format!("job-{n}"));
        agent.snapshot(&name).await.unwrap();
        agent.delete(&name).await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    assert!(looker.await.unwrap() > 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_somebody_else_creates_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let vm = LiveVm::start(&dir.path().join("vm"), &[("root", 4 * MIB)]).unwrap();
    let agent = source(&vm, &dir.path().join("agent"));
    let path = dir.path().join("theirs");
    std::fs::File::create(&path).unwrap();
    let file = json!({ "driver": "file", "node-name": "theirs", "filename": path });
    vm.execute("blockdev-add", file).unwrap();
    for _ in 0..30 {
        let image = json!({ "driver": "qcow2", "file": "theirs", "size": 64 * MIB });
        vm.execute("blockdev-create", json!({ "job-id": "backup", "options": image })).unwrap();
        agent.describe().await.unwrap();
        vm.execute("job-dismiss", json!({ "id": "backup" })).unwrap();
    }
}
