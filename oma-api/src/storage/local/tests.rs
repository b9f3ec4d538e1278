use super::*;
use bytes::Bytes;
use migratekit::target::AlignedBuf;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

const MIB: u64 = 1 << 20;

fn id(name: &str) -> VolumeId {
    VolumeId::parse(name).expect("a good name")
}

fn named(name: &str) -> SnapshotName {
    SnapshotName::parse(name).expect("a good name")
}

fn read(target: &dyn Target, offset: u64) -> u8 {
    let mut buffer = AlignedBuf::new(4096);
    target.read_direct(offset, &mut buffer).expect("readable");
    buffer.as_slice()[0]
}

fn write(target: &dyn Target, offset: u64, byte: u8) {
    target.write_at(offset, &[Bytes::from(vec![byte; 4096])]).expect("written");
    target.flush().expect("flushed");
}

/// An XFS of its own on a loop device, where the machine lets us; its blocks can be shared.
struct Xfs {
    mount: tempfile::TempDir,
    device: String,
    _image: tempfile::NamedTempFile,
}

impl Xfs {
    fn make() -> Result<Self, String> {
        let image = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
        image.as_file().set_len(400 * MIB).map_err(|e| e.to_string())?;
        let path = image.path().display().to_string();
        run("mkfs.xfs", &["-q", "-m", "reflink=1", &path])?;
        let mount = tempfile::tempdir().map_err(|e| e.to_string())?;
        let device = run("losetup", &["-f", "--show", &path])?.trim().to_owned();
        let xfs = Self { mount, device, _image: image };
        let at = xfs.mount.path().display().to_string();
        run("mount", &["-t", "xfs", &xfs.device, &at])?;
        Ok(xfs)
    }
}

impl Drop for Xfs {
    fn drop(&mut self) {
        let _ = run("umount", &[&self.mount.path().display().to_string()]);
        let _ = run("losetup", &["-d", &self.device]);
    }
}

fn run(program: &str, args: &[&str]) -> Result<String, String> {
    let out = Command::new(program).args(args).output().map_err(|e| format!("{program}: {e}"))?;
    match out.status.success() {
        true => Ok(String::from_utf8_lossy(&out.stdout).into_owned()),
        false => Err(format!("{program}: {}", String::from_utf8_lossy(&out.stderr).trim())),
    }
}

#[tokio::test]
async fn on_an_ordinary_file_system() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    whole_life(dir.path()).await;
}

#[tokio::test]
async fn in_memory() {
    let Ok(dir) = tempfile::tempdir_in("/dev/shm") else {
        eprintln!("SKIPPED: there is no /dev/shm");
        return;
    };
    whole_life(dir.path()).await;
}

#[tokio::test]
async fn on_xfs_with_shared_blocks() {
    let xfs = match Xfs::make() {
        Ok(xfs) => xfs,
        Err(why) => {
            eprintln!("SKIPPED: no XFS on a loop device here: {why}");
            return;
        }
    };
    whole_life(xfs.mount.path()).await;
    let storage = LocalStorage::open(xfs.mount.path()).await.expect("open");
    storage.create(&id("big"), 300 * MIB).await.expect("made");
    let big = storage.open(&id("big")).await.expect("open");
    big.write_at(0, &[Bytes::from(vec![7; 200 << 20])]).expect("written");
    big.flush().expect("flushed");
    let before = storage.space().await.expect("asked").free;
    // Neither would fit if the blocks were copied.
    for name in ["one", "two"] {
        storage.snapshot(&[id("big")], &named(name)).await.expect("blocks are shared");
    }
    let used = before.saturating_sub(storage.space().await.expect("asked").free);
    assert!(used < 10 * MIB, "two snapshots took {used} bytes");
    // Full: named as such, and what is there stays as it is.
    storage.create(&id("more"), 300 * MIB).await.expect("thin");
    let more = storage.open(&id("more")).await.expect("open");
    let e =
        more.write_at(0, &[Bytes::from(vec![8; 300 << 20])]).and_then(|()| more.flush()).expect_err("full");
    assert!(matches!(e.reason(), migratekit::target::Error::NoRoom { .. }), "{e:?}");
    assert_eq!(read(&*storage.open_snapshot(&named("one"), &id("big")).await.expect("open"), 199 * MIB), 7);
}

async fn whole_life(root: &Path) {
    let storage = LocalStorage::open(root).await.expect("open");
    let (a, b) = (id("disk-a"), id("disk-b"));
    let size = 64 * MIB + 512;
    let made = storage.create(&a, size).await.expect("made");
    assert_eq!(made, VolumeInfo { size, reads_zero: ReadsZero::Yes });
    let again = storage.create(&a, size).await.expect("there already");
    assert_eq!(again.reads_zero, ReadsZero::Unknown, "it may have been written");
    assert!(matches!(storage.create(&a, size + 1).await, Err(Error::OtherSize { have, .. }) if have == size));
    storage.create(&b, MIB).await.expect("made");
    assert!(storage.space().await.expect("asked").free > 0);
    let (ta, tb) = (storage.open(&a).await.expect("open"), storage.open(&b).await.expect("open"));
    assert_eq!((ta.size(), tb.size()), (size, MIB));
    write(&*ta, 0, 1);
    write(&*ta, 32 * MIB, 2);
    write(&*tb, 0, 3);

    // Both at one point.
    let first = named("rp-first");
    storage.snapshot(&[b.clone(), a.clone()], &first).await.expect("taken");
    write(&*ta, 0, 11);
    write(&*tb, 0, 13);
    storage.snapshot(&[a.clone(), b.clone()], &first).await.expect("the same again changes nothing");
    assert!(matches!(
        storage.snapshot(std::slice::from_ref(&a), &first).await,
        Err(Error::OtherVolumes { .. })
    ));
    let missing = storage.snapshot(&[a.clone(), id("no")], &named("rp-x")).await;
    assert!(matches!(missing, Err(Error::NoVolume { volume }) if volume == id("no")));
    storage.snapshot(&[a.clone(), b.clone()], &named("rp-second")).await.expect("taken");
    let all = storage.snapshots().await.expect("listed");
    assert_eq!(all.iter().map(|s| s.name.to_string()).collect::<Vec<_>>(), ["rp-first", "rp-second"]);
    assert_eq!(all[0].volumes, [a.clone(), b.clone()]);
    let sa = storage.open_snapshot(&first, &a).await.expect("open");
    assert_eq!((sa.size(), read(&*sa, 0), read(&*sa, 32 * MIB), read(&*sa, MIB)), (size, 1, 2, 0));
    assert_eq!(read(&*storage.open_snapshot(&first, &b).await.expect("open"), 0), 3);
    assert!(sa.write_at(0, &[Bytes::from_static(b"x")]).is_err(), "read-only");
    let image = root.join("snapshots/rp-first/disk-a.img");
    assert!(std::fs::metadata(image).expect("there").blocks() * 512 < MIB, "holes stay holes");

    // A clone is apart from both, and is not taken for fresh.
    let clone = id("clone");
    let info = storage.clone_snapshot(&first, &a, &clone).await.expect("cloned");
    assert_eq!(info, VolumeInfo { size, reads_zero: ReadsZero::Unknown });
    let tc = storage.open(&clone).await.expect("open");
    write(&*tc, 32 * MIB, 22);
    assert_eq!((read(&*tc, 0), read(&*sa, 32 * MIB), read(&*ta, 32 * MIB)), (1, 2, 2));
    assert!(matches!(storage.clone_snapshot(&first, &a, &clone).await, Err(Error::VolumeExists { .. })));
    let none = storage.clone_snapshot(&named("no"), &a, &id("c2")).await;
    assert!(matches!(none, Err(Error::NoSnapshot { .. })));

    // Deleting is repeatable, and takes only what it names.
    for _ in 0..2 {
        storage.delete(&a).await.expect("gone");
        storage.delete_snapshot(&named("rp-second")).await.expect("gone");
    }
    assert_eq!(storage.volume(&a).await.expect("asked"), None);
    assert!(matches!(storage.open(&a).await.map(|_| ()), Err(Error::NoVolume { .. })));
    assert_eq!(storage.snapshots().await.expect("listed").len(), 1);
    assert_eq!(read(&*storage.open_snapshot(&first, &a).await.expect("its snapshot stays"), 0), 1);
    for left in [clone, b] {
        storage.delete(&left).await.expect("gone");
    }
    storage.delete_snapshot(&first).await.expect("gone");
    let left: Vec<_> = ["volumes", "snapshots"]
        .iter()
        .flat_map(|f| std::fs::read_dir(root.join(f)).expect("there"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn what_a_crash_left_half_made_is_made_again() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let storage = LocalStorage::open(dir.path()).await.expect("open");
    let a = id("disk-a");
    storage.create(&a, MIB).await.expect("made");
    write(&*storage.open(&a).await.expect("open"), 0, 5);
    let leave = || {
        let half = dir.path().join("snapshots/rp-1.tmp");
        std::fs::create_dir_all(&half).expect("made");
        std::fs::write(half.join("disk-a.img"), b"half").expect("written");
        std::fs::write(dir.path().join("volumes/disk-b.img.tmp"), b"half").expect("written");
    };
    leave();
    assert!(storage.snapshots().await.expect("listed").is_empty(), "half a snapshot is none");
    assert_eq!(storage.volume(&id("disk-b")).await.expect("asked"), None);
    storage.snapshot(std::slice::from_ref(&a), &named("rp-1")).await.expect("taken");
    storage.create(&id("disk-b"), MIB).await.expect("made");
    let snapshot = storage.open_snapshot(&named("rp-1"), &a).await.expect("open");
    assert_eq!((snapshot.size(), read(&*snapshot, 0)), (MIB, 5));
    leave();
    LocalStorage::open(dir.path()).await.expect("open again");
    assert!(
        !dir.path().join("snapshots/rp-1.tmp").exists()
            && !dir.path().join("volumes/disk-b.img.tmp").exists()
    );
}

#[tokio::test]
async fn a_volume_grows_and_is_never_cut_and_its_snapshots_stay() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let storage = LocalStorage::open(dir.path()).await.expect("open");
    let a = id("disk-a");
    let none = storage.resize(&a, MIB).await;
    assert!(matches!(none, Err(Error::NoVolume { .. })), "{none:?}");
    storage.create(&a, MIB).await.expect("made");
    write(&*storage.open(&a).await.expect("open"), 0, 5);
    storage.snapshot(std::slice::from_ref(&a), &named("rp-1")).await.expect("taken");
    for size in [MIB + 512, MIB + 512, MIB] {
        storage.resize(&a, size).await.expect("done");
        let grown = storage.open(&a).await.expect("open");
        assert_eq!((grown.size(), read(&*grown, 0)), (MIB + 512, 5), "asked for {size}");
    }
    let snapshot = storage.open_snapshot(&named("rp-1"), &a).await.expect("open");
    assert_eq!((snapshot.size(), read(&*snapshot, 0)), (MIB, 5));
}

#[tokio::test]
async fn two_at_once_do_not_disturb_each_other() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let storage = LocalStorage::open(dir.path()).await.expect("open");
    let a = id("disk-a");
    storage.create(&a, 8 * MIB).await.expect("made");
    write(&*storage.open(&a).await.expect("open"), 0, 5);
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (storage, a) = (storage.clone(), a.clone());
            tokio::spawn(async move { storage.snapshot(&[a], &named("rp-1")).await })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic").expect("taken once");
    }
    assert_eq!(read(&*storage.open_snapshot(&named("rp-1"), &a).await.expect("open"), 0), 5);
}

#[tokio::test]
async fn a_volume_says_whose_it_is_until_it_goes() {
    let folder = tempfile::tempdir().expect("a folder");
    let storage = LocalStorage::open(folder.path()).await.expect("opens");
    let label = |vm: &str| Label {
        vm: vm.parse().expect("a uuid"),
        vm_name: "web".to_owned(),
        disk: "2000".parse().expect("a key"),
        size: MIB,
        migration: shared::ids::MigrationId::generate(),
    };
    let (first, second) =
        (label("00000000-0000-4000-8000-000000000001"), label("00000000-0000-4000-8000-000000000002"));
    assert!(matches!(storage.label(&id("b"), &first).await, Err(Error::NoVolume { .. })));
    for name in ["b", "a", "c"] {
        storage.create(&id(name), MIB).await.expect("made");
    }
    storage.label(&id("b"), &first).await.expect("labelled");
    storage.label(&id("b"), &second).await.expect("labelled anew");
    std::fs::write(folder.path().join("labels/c.json"), "{").expect("written");
    drop(storage);
    let storage = LocalStorage::open(folder.path()).await.expect("opens again");
    let listed = |name: &str, label| Listed { volume: id(name), size: MIB, label };
    let all = storage.volumes().await.expect("listed");
    assert_eq!(all, [listed("a", None), listed("b", Some(second)), listed("c", None)]);
    // The next one of that name is nobody's.
    storage.delete(&id("b")).await.expect("gone");
    storage.create(&id("b"), MIB).await.expect("made");
    assert_eq!(storage.volumes().await.expect("listed")[1], listed("b", None));
}

#[tokio::test]
async fn who_else_has_a_volume_open_is_seen() {
    let dir = tempfile::tempdir().expect("a folder");
    let storage = LocalStorage::open(dir.path()).await.expect("a root");
    let (volume, other) = (id("v"), id("other"));
    assert!(matches!(storage.path(&volume).await, Err(Error::NoVolume { .. })));
    assert!(!storage.in_use(&volume).await.expect("asked"), "what is not there nobody has open");
    for volume in [&volume, &other] {
        storage.create(volume, MIB).await.expect("created");
    }
    let path = storage.path(&volume).await.expect("it is there");
    assert!(path.is_absolute() && path.metadata().expect("there").len() == MIB);
    let own = storage.open(&volume).await.expect("opened");
    assert!(!storage.in_use(&volume).await.expect("asked"), "this process does not count");
    drop(own);
    let input = std::fs::File::open(&path).expect("readable");
    let mut holder = Command::new("sleep").arg("600").stdin(input).spawn().expect("started");
    let opener = storage.opener(&volume).await.expect("asked").expect("it is open");
    assert_eq!(opener.to_string(), format!("process {} (sleep)", holder.id()));
    assert!(!storage.in_use(&other).await.expect("asked"));
    holder.kill().expect("ended");
    holder.wait().expect("ended");
    // Children of other tests have it open too until they are what they are to be.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while storage.in_use(&volume).await.expect("asked") {
        assert!(std::time::Instant::now() < deadline, "it is free again");
    }
}
