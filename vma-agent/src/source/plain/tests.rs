//! A source without snapshots says so, keeps its word over a restart, and serves what the file holds.

use super::*;

const VM: &str = "4205a841-0265-f4bd-39a6-39fd92196f53";

fn source(dir: &Path, disks: &str) -> PlainSource {
    let config = serde_json::from_str(&format!("{{\"disks\": {disks}}}")).unwrap();
    PlainSource::new(VmUuid::parse(VM).unwrap(), "web", config, &dir.join("scratch"), &dir.join("s"))
}

fn name(job: &str) -> SnapshotName {
    SnapshotName::parse(&format!("mk-{job}")).unwrap()
}

async fn read(open: &OpenDisk, length: usize) -> Vec<u8> {
    let uri = open.uri.clone();
    blocking(move || {
        let mut handle = Handle::<()>::connect(&uri, &ConnectOptions::default())?;
        handle.read(0, migratekit::nbd::Buffer::new(length), ())?;
        loop {
            match handle.completed() {
                Some(migratekit::nbd::Completed::Read { buffer, result, .. }) => {
                    result?;
                    return Ok(buffer.as_slice().to_vec());
                }
                Some(_) => panic!("an answer to nothing"),
                None => handle.wait(None, Duration::from_secs(5))?,
            }
        }
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_file_is_served_for_as_long_as_it_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("disk=with,odd name.img");
    std::fs::write(&file, [7; 4096]).unwrap();
    let source = source(dir.path(), &format!("[{{\"key\": \"root\", \"file\": {file:?}}}]"));
    let root = DiskKey::parse("root").unwrap();
    let described = source.describe().await.unwrap();
    assert_eq!(described.disks, [VmDisk { key: root.clone(), size: 4096 }]);
    assert_eq!(source.power().await.unwrap(), PowerState::Unknown);
    for switched in [source.shut_down().await, source.power_off().await, source.power_on().await] {
        assert!(matches!(switched, Err(Error::PowerUnsupported { .. })), "{switched:?}");
    }
    let snapshot = source.snapshot(&name("job-1")).await.unwrap();
    let open = source.open(&snapshot, &root).await.unwrap();
    assert_eq!(read(&open, 4096).await, [7; 4096]);
    // It aborts, and is back.
    let server = open.server.clone().unwrap();
    let first = server.pid().unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(first).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::ABORT).unwrap();
    while server.starts() < 2 || server.pid().is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let again = source.open(&snapshot, &root).await.unwrap();
    assert_eq!(read(&again, 16).await, [7; 16]);
    let since = ChangeId::new("x");
    let finding = source.changed(&snapshot, &root, &since, 0).await.unwrap_err().finding().unwrap();
    assert_eq!(finding.kind, shared::cycle::FindingKind::NoChangeTracking);
    let pid = server.pid().unwrap();
    drop((source, open, again, server));
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[tokio::test]
async fn a_nominal_snapshot_outlives_the_agent_but_not_a_new_size() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("disk.img");
    std::fs::write(&file, [1; 8192]).unwrap();
    let disks = format!("[{{\"key\": \"root\", \"file\": {file:?}}}]");
    let first = source(dir.path(), &disks);
    let snapshot = first.snapshot(&name("job-1")).await.unwrap();
    assert_eq!(first.snapshot(&name("job-1")).await.unwrap(), snapshot);
    assert!(matches!(first.snapshot(&name("job-2")).await, Err(Error::SnapshotExists { .. })));
    drop(first);
    let second = source(dir.path(), &disks);
    assert_eq!(second.find(&name("job-1")).await.unwrap(), Some(snapshot.clone()));
    second.confirm(&snapshot, &snapshot.disks[0].key).await.unwrap();
    drop(second);
    std::fs::write(&file, [1; 4096]).unwrap();
    let third = source(dir.path(), &disks);
    let error = snapshot.still_has(&snapshot.disks[0].key, 4096).unwrap_err().to_string();
    assert!(error.contains("disk root had 8192 bytes in it, and has 4096 now"), "{error}");
    assert!(matches!(
        third.confirm(&snapshot, &snapshot.disks[0].key).await,
        Err(Error::SnapshotLost { .. })
    ));
    third.delete(&name("job-1")).await.unwrap();
    third.delete(&name("job-1")).await.unwrap();
    assert_eq!(third.snapshots().await.unwrap(), []);
}

/// A connection takes VDDK a second, and nbdkit on tmpfs a walk over all of the file.
#[tokio::test]
async fn servers_are_connected_to_as_seldom_as_can_be() {
    let dir = tempfile::tempdir().unwrap();
    let (socket, log) = (dir.path().join("nbd"), dir.path().join("log"));
    let logfile = format!("logfile={}", log.display());
    let arguments =
        ["--foreground", "--filter=log", "--unix", socket.to_str().unwrap(), "memory", "1M", &logfile];
    let server = Child::start(Spec::new("nbdkit", arguments.map(Into::into).to_vec(), socket.clone()));
    let server = server.unwrap();
    server.ready(PATIENCE).await.unwrap();
    let connections = || {
        let log = std::fs::read_to_string(&log).unwrap();
        log.lines().filter(|line| line.contains(" Connect ")).count()
    };
    let disk =
        |n| format!("{{\"key\": \"disk-{n}\", \"uri\": \"nbd+unix:///?socket={}\"}}", socket.display());
    let source = source(dir.path(), &format!("[{}, {}, {}]", disk(1), disk(2), disk(3)));
    let before = connections();
    let snapshot = source.snapshot(&name("job-1")).await.unwrap();
    assert_eq!(connections() - before, 3, "one a disk");
    assert_eq!(source.find(&name("job-1")).await.unwrap(), Some(snapshot.clone()));
    for disk in &snapshot.disks {
        source.open(&snapshot, &disk.key).await.unwrap();
    }
    assert_eq!(connections() - before, 3, "none to find and open it");
    for disk in &snapshot.disks {
        source.confirm(&snapshot, &disk.key).await.unwrap();
    }
    assert_eq!(connections() - before, 6, "one a disk");
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = source(dir.path(), r#"[{"key": "root", "file": "/nonexistent/disk.img"}]"#);
    let error = missing.describe().await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent/disk.img"), "{error}");
    for bad in [
        r#"{"key": "a"}"#,
        r#"{"key": "a", "file": "/x", "uri": "nbd://h"}"#,
        r#"{"key": "/", "file": "/x"}"#,
    ] {
        assert!(serde_json::from_str::<DiskConfig>(bad).is_err(), "{bad}");
    }
}
