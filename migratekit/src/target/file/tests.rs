//! Writing behind: order, failures and ends, with a store that is as slow and as broken as told; and a real file.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use shared::range::ByteRange;

use super::behind::{Behind, Store};
use super::*;
use crate::nbd::testing::noise;

const PAGE: u64 = AlignedBuf::ALIGN as u64;
const SIZE: usize = 8 << 20;

/// A disk whose writes wait until they are let through, and fail where told.
#[derive(Clone)]
struct Slow(Arc<(Mutex<Inside>, Condvar)>);

struct Inside {
    disk: Vec<u8>,
    /// Under way, by offset.
    now: Vec<ByteRange>,
    most: usize,
    writes: usize,
    open: bool,
    broken: HashMap<u64, i32>,
}

impl Slow {
    fn new(open: bool) -> Self {
        let inside =
            Inside { disk: vec![0; SIZE], now: Vec::new(), most: 0, writes: 0, open, broken: HashMap::new() };
        Self(Arc::new((Mutex::new(inside), Condvar::new())))
    }

    fn inside<T>(&self, look: impl FnOnce(&mut Inside) -> T) -> T {
        let seen = look(&mut self.0.0.lock().expect("sound"));
        self.0.1.notify_all();
        seen
    }

    fn until(&self, ready: impl Fn(&Inside) -> bool) {
        let long = Duration::from_secs(10);
        let (_inside, waited) =
            self.0.1.wait_timeout_while(self.0.0.lock().expect("sound"), long, |i| !ready(i)).expect("sound");
        assert!(!waited.timed_out());
    }

    fn behind(&self) -> Behind {
        Behind::new(Path::new("/slow"), self.clone())
    }
}

impl Store for Slow {
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let range = ByteRange::at(offset, data.len() as u64).expect("inside");
        assert!(offset.is_multiple_of(PAGE) && range.len().is_multiple_of(PAGE), "aligned: {range:?}");
        assert!(data.as_ptr().align_offset(AlignedBuf::ALIGN) == 0, "aligned memory");
        self.inside(|i| {
            assert!(!i.now.iter().any(|o| o.start < range.end && range.start < o.end), "{range:?} overlaps");
            i.now.push(range);
            i.most = i.most.max(i.now.len());
        });
        let inside = self.0.1.wait_while(self.0.0.lock().expect("sound"), |i| !i.open).expect("sound");
        drop(inside);
        // So that they do meet.
        std::thread::sleep(Duration::from_micros(100 + offset / PAGE % 7 * 100));
        self.inside(|i| {
            i.now.retain(|o| *o != range);
            i.writes += 1;
            if let Some(errno) = i.broken.get(&offset) {
                return Err(io::Error::from_raw_os_error(*errno));
            }
            let at = usize::try_from(offset).expect("small");
            i.disk[at..at + data.len()].copy_from_slice(data);
            Ok(())
        })
    }
}

fn pages(seed: u64, count: usize) -> Bytes {
    Bytes::from(noise(seed, count * AlignedBuf::ALIGN))
}

#[test]
fn small_writes_that_continue_each_other_become_one_and_several_are_under_way() {
    let slow = Slow::new(false);
    let behind = slow.behind();
    let all = pages(1, 640);
    for (index, page) in all.chunks(AlignedBuf::ALIGN).enumerate() {
        behind.write(index as u64 * PAGE, &[Bytes::copy_from_slice(page)]).expect("accepted");
    }
    slow.until(|i| i.now.len() == 4);
    slow.inside(|i| i.open = true);
    behind.settle_all().expect("written");
    slow.inside(|i| {
        assert!(i.disk[..all.len()] == all[..]);
        assert_eq!(i.writes, 5, "512 KiB each");
    });
}

#[test]
fn the_later_of_two_writes_stays_and_they_are_never_under_way_together() {
    let slow = Slow::new(true);
    let behind = slow.behind();
    let mut expected = vec![0; SIZE];
    let mut random = 7u64;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for round in 0..700u64 {
        // A narrow place, so that most of them meet others on their way.
        let (at, count) = (next(200), usize::try_from(1 + next(80)).expect("small"));
        let data = pages(round, count);
        let start = usize::try_from(at * PAGE).expect("small");
        expected[start..start + data.len()].copy_from_slice(&data);
        behind
            .write(at * PAGE, &[data.slice(..data.len() / 2), data.slice(data.len() / 2..)])
            .expect("accepted");
        if round % 100 == 0 {
            behind.settle(ByteRange::new(0, 50 * PAGE)).expect("written");
            slow.inside(|i| assert!(i.disk[..50 * 4096] == expected[..50 * 4096]));
        }
    }
    behind.settle_all().expect("written");
    slow.inside(|i| assert!(i.disk == expected));
}

#[test]
fn a_failure_is_told_by_what_comes_next_and_every_time_after() {
    let slow = Slow::new(true);
    let behind = slow.behind();
    slow.inside(|i| i.broken.insert(64 * PAGE, 28));
    behind.write(64 * PAGE, &[pages(1, 4)]).expect("accepted");
    for _ in 0..2 {
        let e = behind.settle_all().expect_err("not written");
        assert!(
            matches!(e.reason(), Error::NoRoom { op: Op::Write, offset, .. } if *offset == 64 * PAGE),
            "{e}"
        );
        assert!(e.to_string().contains("/slow"), "{e}");
        assert!(behind.write(0, &[pages(2, 1)]).is_err() || behind.settle_all().is_err());
    }
    slow.inside(|i| assert_eq!(i.writes, 1, "nothing follows"));
}

#[test]
fn what_waits_for_a_buffer_is_told_of_the_failure() {
    let slow = Slow::new(false);
    slow.inside(|i| i.broken.insert(0, 5));
    let behind = Arc::new(slow.behind());
    let writer = std::thread::spawn({
        let behind = Arc::clone(&behind);
        move || behind.write(0, &[pages(1, 2000)])
    });
    slow.until(|i| i.now.len() == 4);
    std::thread::sleep(Duration::from_millis(20));
    assert!(!writer.is_finished(), "no more memory than said");
    slow.inside(|i| i.open = true);
    let e = writer.join().expect("no panic").and_then(|()| behind.settle_all()).expect_err("told");
    assert!(matches!(e.reason(), Error::Io { offset: 0, .. }), "{e}");
}

#[test]
fn the_end_waits_for_what_is_under_way_and_drops_what_is_not() {
    let slow = Slow::new(false);
    let behind = Arc::new(slow.behind());
    behind.write(0, &[pages(1, 5 * 128)]).expect("accepted");
    slow.until(|i| i.now.len() == 4);
    let ending = std::thread::spawn({
        let behind = Arc::clone(&behind);
        move || behind.end()
    });
    let asked = Instant::now();
    while behind.write(SIZE as u64 / 2, &[pages(2, 64)]).is_ok() && asked.elapsed() < Duration::from_secs(5) {
    }
    std::thread::sleep(Duration::from_millis(20));
    assert!(!ending.is_finished(), "something is under way");
    slow.inside(|i| i.open = true);
    ending.join().expect("no panic");
    slow.inside(|i| assert!(i.now.is_empty() && i.writes == 4));
    std::thread::sleep(Duration::from_millis(20));
    slow.inside(|i| assert_eq!(i.writes, 4, "nothing follows"));
    assert!(matches!(behind.settle_all(), Err(Error::Lost { .. })));
}

#[test]
fn a_file_on_disk_is_written_around_the_cache_in_any_order_and_to_its_odd_end() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let size = (4 << 20) + 1777;
    let target = FileTarget::create(&dir.path().join("t"), size as u64).expect("made");
    let mut expected = noise(3, size);
    let leaves = size.div_ceil(65536);
    for leaf in (0..leaves).rev().step_by(2).chain((0..leaves).rev().skip(1).step_by(2)) {
        let (start, end) = (leaf * 65536, size.min((leaf + 1) * 65536));
        target.write_at(start as u64, &[Bytes::copy_from_slice(&expected[start..end])]).expect("accepted");
    }
    // Zeros over what may still be on its way, and data over the zeros.
    target.zero(ByteRange::new(65536, 5 * 65536)).expect("zeroed");
    expected[65536..5 * 65536].fill(0);
    let again = noise(4, 65536);
    target.write_at(131_072, &[Bytes::copy_from_slice(&again)]).expect("accepted");
    expected[131_072..196_608].copy_from_slice(&again);
    let mut buffer = AlignedBuf::new(size);
    target.read_direct(0, &mut buffer).expect("readable before a flush");
    assert!(buffer.as_slice() == expected);
    target.flush().expect("flushed");
    assert!(std::fs::read(target.path()).expect("there") == expected, "and through the cache");
    target.end();
    assert!(target.write_at(0, &[pages(1, 1)]).is_err() || target.flush().is_err(), "ended");
}

#[test]
fn a_flush_brings_what_waits_to_be_continued_and_what_goes_through_the_cache_comes_after_it() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let target = FileTarget::create(&dir.path().join("t"), 1 << 20).expect("made");
    let mut expected = vec![0; 1 << 20];
    let stored = || std::fs::read(target.path()).expect("there");
    expected[8192..16384].copy_from_slice(&pages(1, 2));
    target.write_at(8192, &[pages(1, 2)]).expect("accepted");
    target.flush().expect("flushed");
    assert!(stored() == expected);
    target.write_at(8192, &[pages(2, 2)]).expect("accepted");
    target.write_at(9000, &[Bytes::from_static(b"later")]).expect("written");
    expected[8192..16384].copy_from_slice(&pages(2, 2));
    expected[9000..9005].copy_from_slice(b"later");
    target.flush().expect("flushed");
    assert!(stored() == expected);
}

#[test]
fn a_file_that_somebody_cuts_or_removes_is_not_taken_for_written() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (how, expected) in [("cut", "has only 4096 of its 1048576 bytes"), ("rm", "was removed")] {
        let path = dir.path().join(how);
        let target = FileTarget::create(&path, 1 << 20).expect("made");
        target.write_at(0, &[pages(1, 1)]).expect("accepted");
        target.flush().expect("flushed");
        match how {
            "cut" => File::options().write(true).open(&path).and_then(|f| f.set_len(4096)).expect("cut"),
            _ => std::fs::remove_file(&path).expect("removed"),
        }
        if how == "cut" {
            let e = target.next_data(8192).expect_err("no hole");
            assert!(matches!(e, Error::Shrunk { have: 4096, .. }), "{e}");
        }
        let e = target.flush().expect_err("not all there");
        assert!(e.to_string().contains(expected), "{e}");
        assert!(target.write_at(0, &[pages(1, 1)]).is_err(), "nothing more");
    }
}

/// A small file system in a file, where this machine mounts one.
#[test]
fn a_full_disk_is_told_as_one() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (image, place) = (dir.path().join("fs"), dir.path().join("mnt"));
    std::fs::create_dir(&place).expect("made");
    File::create(&image).and_then(|f| f.set_len(16 << 20)).expect("sized");
    let run = |program: &str, args: &[&std::ffi::OsStr]| {
        let out = std::process::Command::new(program).args(args).output();
        out.is_ok_and(|out| out.status.success())
    };
    let (image, place) = (image.as_os_str(), place.as_os_str());
    if !run("mkfs.ext4", &["-q".as_ref(), image])
        || !run("mount", &["-o".as_ref(), "loop".as_ref(), image, place])
    {
        eprintln!("SKIPPED: no loop mount here");
        return;
    }
    let _unmount = Unmount(place.into());
    let target = FileTarget::create(&Path::new(place).join("t"), 64 << 20).expect("sparse");
    let all = Bytes::from(noise(9, 32 << 20));
    let told = target.write_at(0, &[all]).and_then(|()| target.flush()).expect_err("there is no room");
    assert!(matches!(told.reason(), Error::NoRoom { .. }), "{told}");
    target.end();
}

struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
