//! What a snapshot shows, and what is said to have changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use integration_tests::live_vm::WriterOptions;

use super::*;

fn busy() -> WriterOptions {
    WriterOptions { rate: Some(64 << 20), ..WriterOptions::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_stands_still_while_the_guest_writes() {
    let dir = tempfile::tempdir().unwrap();
    let vm = LiveVm::start(&dir.path().join("vm"), &[("root", 12 * MIB + 512)]).unwrap();
    let writer = vm.writer(&busy()).unwrap();
    writer.wait_for_bytes(8 * MIB).unwrap();
    let source = source(&vm, &dir.path().join("agent"));
    for round in 0..4u64 {
        let name = name(&format!("job-{round}"));
        let pause = writer.pause();
        let expected = vm.read_disk("root").unwrap();
        let snapshot = source.snapshot(&name).await.unwrap();
        drop(pause);
        assert_eq!(snapshot.disks[0].size, 12 * MIB + 512);
        let uri = source.open(&snapshot, &key("root")).await.unwrap().uri;
        // Requests that begin in what was copied and end in what was not, and the other way round.
        for chunk in [LEAF, MIB, 3 * MIB + 4096] {
            writer.wait_for_bytes(2 * MIB).unwrap();
            let (read, zeros) = engine_content(&uri, chunk);
            assert!(difference(&expected, &read).is_empty(), "{:?}", difference(&expected, &read));
            for zero in zeros.iter() {
                let range = usize::try_from(zero.start).unwrap()..usize::try_from(zero.end).unwrap();
                assert!(expected[range].iter().all(|&byte| byte == 0), "{zero:?} is called zero");
            }
        }
        assert_eq!(content(&source, &vm, &snapshot, "root").await, expected);
        source.confirm(&snapshot, &snapshot.disks[0].key).await.unwrap();
        source.delete(&name).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_differs_is_called_changed() {
    let dir = tempfile::tempdir().unwrap();
    let vm = LiveVm::start(&dir.path().join("vm"), &[("root", 24 * MIB), ("data", 6 * MIB + 1024)]).unwrap();
    let options = WriterOptions { rate: Some(24 << 20), largest: 32 << 10, ..WriterOptions::default() };
    let writer = vm.writer(&options).unwrap();
    let source = source(&vm, &dir.path().join("agent"));
    let before = inventory(&vm);
    let mut committed: Option<(Snapshot, [Vec<u8>; 2])> = None;
    for round in 0..12 {
        writer.wait_for_bytes(MIB).unwrap();
        let snapshot = source.snapshot(&name(&format!("job-{round}"))).await.unwrap();
        let mut contents = [Vec::new(), Vec::new()];
        for (disk, content_now) in ["root", "data"].into_iter().zip(&mut contents) {
            *content_now = content(&source, &vm, &snapshot, disk).await;
        }
        if let Some((last, last_contents)) = &committed {
            for (disk, (old, new)) in ["root", "data"].into_iter().zip(last_contents.iter().zip(&contents)) {
                let said = changed(&source, &snapshot, disk, &id(last, disk)).await;
                let differs = difference(old, new);
                assert!(!differs.is_empty(), "the writer wrote");
                assert!(
                    said.contains_all(&differs),
                    "round {round} disk {disk}: {differs:?} not in {said:?}"
                );
                assert_eq!(said, changed(&source, &snapshot, disk, &id(last, disk)).await, "asked again");
            }
        }
        source.delete(&snapshot.name).await.unwrap();
        // Two of three snapshots are abandoned: the committed ids must go on telling.
        if round % 3 == 0 {
            let keep: Vec<_> =
                snapshot.disks.iter().map(|d| (d.key.clone(), d.change_id.clone().unwrap())).collect();
            source.forget_change_ids(&keep).await.unwrap();
            assert_eq!(bitmaps(&vm, "root"), [id(&snapshot, "root").as_str()]);
            committed = Some((snapshot, contents));
        }
    }
    assert_eq!(inventory(&vm), before, "nothing is left behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_disk_has_few_changes_in_small_pages() {
    let dir = tempfile::tempdir().unwrap();
    let vm = LiveVm::start(&dir.path().join("vm"), &[("root", 10 * MIB + 512)]).unwrap();
    let limits = PageLimits { bytes: MIB, ranges: 2 };
    let source = source(&vm, &dir.path().join("agent")).with_page_limits(limits);
    let first = source.snapshot(&name("job-1")).await.unwrap();
    source.delete(&first.name).await.unwrap();
    let mut guest = vm.guest("root").unwrap();
    for offset in [0, 3 * MIB + 5 * 512, 7 * MIB - 512, 10 * MIB] {
        guest.write(offset, &[1; 512]).unwrap();
    }
    let second = source.snapshot(&name("job-2")).await.unwrap();
    let expected: RangeSet =
        [(0, LEAF), (3 * MIB, 3 * MIB + LEAF), (7 * MIB - LEAF, 7 * MIB), (10 * MIB, 10 * MIB + 512)]
            .into_iter()
            .map(|(start, end)| ByteRange::new(start, end))
            .collect();
    let since = id(&first, "root");
    assert_eq!(changed(&source, &second, "root", &since).await, expected);
    let empty = source.changed(&second, &key("root"), &since, MIB).await.unwrap();
    assert_eq!(empty, ChangedPage { ranges: vec![], next_offset: 2 * MIB });
    for offset in [10 * MIB + 512, u64::MAX] {
        let refused = source.changed(&second, &key("root"), &since, offset).await;
        assert!(matches!(refused, Err(Error::OffsetAtEnd { .. })));
    }
    // Written after the snapshot and asked for again: the pages stay as they were.
    guest.write(5 * MIB, &[2; 512]).unwrap();
    assert_eq!(changed(&source, &second, "root", &since).await, expected);
}

/// A guest that writes exactly between any two commands of a snapshot: each write is in the view of both disks or of
/// none, and what is not in the view is among the changes since it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_between_any_two_steps_is_in_the_view_or_in_the_changes() {
    let dir = tempfile::tempdir().unwrap();
    let vm = LiveVm::start(&dir.path().join("vm"), &[("root", 32 * MIB), ("data", 32 * MIB)]).unwrap();
    let agent = source(&vm, &dir.path().join("agent"));
    let (mut root, mut data) = (vm.guest("root").unwrap(), vm.guest("data").unwrap());
    let (mut step, steps) = (0u64, Arc::new(AtomicU64::new(0)));
    let count = Arc::clone(&steps);
    agent.monitor.faults.before_each(move |_| {
        // A leaf of its own on each disk, and a number in the first.
        step += 1;
        for guest in [&mut root, &mut data] {
            guest.write(step * LEAF, &[1; 512]).unwrap();
            guest.write(0, &step.to_le_bytes().repeat(64)).unwrap();
        }
        count.store(step, Ordering::SeqCst);
    });
    let first = agent.snapshot(&name("job-1")).await.unwrap();
    let taken = steps.load(Ordering::SeqCst);
    let mut views = Vec::new();
    for disk in ["root", "data"] {
        views.push(content(&agent, &vm, &first, disk).await);
    }
    let number = |view: &Vec<u8>| u64::from_le_bytes(view[..8].try_into().unwrap());
    assert!(number(&views[0]) > 0 && number(&views[0]) < taken, "writes on both sides of the point in time");
    assert_eq!(number(&views[0]), number(&views[1]), "one instant");
    agent.delete(&first.name).await.unwrap();
    let keep: Vec<_> = first.disks.iter().map(|d| (d.key.clone(), d.change_id.clone().unwrap())).collect();
    agent.forget_change_ids(&keep).await.unwrap();
    let second = agent.snapshot(&name("job-2")).await.unwrap();
    for (disk, view) in ["root", "data"].into_iter().zip(&views) {
        let differs = difference(view, &content(&agent, &vm, &second, disk).await);
        let said = changed(&agent, &second, disk, &id(&first, disk)).await;
        assert!(differs.count() > 0 && said.contains_all(&differs), "{disk}: {differs:?} not in {said:?}");
    }
}

/// A guest that writes a number to one disk and, once that is done, to the other: no snapshot shows them the other
/// way round.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disks_are_snapshotted_at_one_instant() {
    let dir = tempfile::tempdir().unwrap();
    let vm = LiveVm::start(&dir.path().join("vm"), &[("root", MIB), ("data", MIB)]).unwrap();
    let source = source(&vm, &dir.path().join("agent"));
    let (mut root, mut data) = (vm.guest("root").unwrap(), vm.guest("data").unwrap());
    // Ends with the VM, whether the test goes well or not.
    let guest = std::thread::spawn(move || {
        for number in 1u64.. {
            let block = number.to_le_bytes().repeat(64);
            if root.write(0, &block).is_err() || data.write(0, &block).is_err() {
                return number;
            }
        }
        0
    });
    let mut seen = Vec::new();
    for round in 0..20 {
        let snapshot = source.snapshot(&name(&format!("job-{round}"))).await.unwrap();
        let mut numbers = [0; 2];
        for (disk, number) in ["root", "data"].into_iter().zip(&mut numbers) {
            let content = content(&source, &vm, &snapshot, disk).await;
            *number = u64::from_le_bytes(content[..8].try_into().unwrap());
        }
        seen.push(numbers);
        source.delete(&snapshot.name).await.unwrap();
    }
    drop(vm);
    let last = guest.join().unwrap();
    assert!(last > 1000, "the guest wrote only {last} times");
    for [root, data] in seen {
        assert!(root == data || root == data + 1, "root has {root}, data has {data}");
    }
}
