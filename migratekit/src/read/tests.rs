//! The reader against real servers and files.

use std::time::Instant;

use shared::range::RangeSet;

use super::*;
use crate::nbd;
use crate::nbd::testing::{Server, noise};
use crate::plan::{Areas, ChangedAreas, Extents, Planner};

fn options() -> ReadOptions {
    ReadOptions { connections: 2, request_size: 128 << 10, memory: 1 << 20, ..ReadOptions::default() }
}

/// Odd in size, with zeros in it: allocated ones, holes, and a leaf with a single byte.
fn disk() -> Vec<u8> {
    let leaf = usize::try_from(LEAF).expect("small");
    let mut disk = noise(9, 40 * leaf + 12_345);
    disk[3 * leaf..9 * leaf].fill(0);
    disk[20 * leaf..21 * leaf].fill(0);
    disk[21 * leaf..22 * leaf].fill(0);
    disk[22 * leaf - 1] = 1;
    disk[30 * leaf..40 * leaf].fill(0);
    disk
}

/// Reads all of the source by plan, and puts it together again.
async fn whole((reader, mut pieces): (Reader, Pieces)) -> Result<(Vec<u8>, Counters), Error> {
    let size = usize::try_from(reader.size()).expect("small");
    let none = RangeSet::new();
    let mut planner = Planner::new(reader.size(), Areas::All, &none, &none, Box::new(reader.extents()));
    let submitting = tokio::spawn(async move {
        let mut zeros = Vec::new();
        while let Some(window) = planner.next().await.expect("a plan") {
            zeros.extend(window.zero);
            for chunk in window.data {
                reader.submit(chunk).await?;
            }
        }
        reader.close();
        Ok::<_, Error>((zeros, reader))
    });
    // What nobody tells is not zero.
    let mut disk = vec![0xEE; size];
    let mut seen = RangeSet::new();
    let put = |disk: &mut Vec<u8>, range: ByteRange, data: Option<&[u8]>| {
        let at = usize::try_from(range.start).expect("small")..usize::try_from(range.end).expect("small");
        match data {
            None => disk[at].fill(0),
            Some(data) => disk[at].copy_from_slice(data),
        }
    };
    let mut error = None;
    while let Some(piece) = pieces.recv().await {
        let piece = match piece {
            Ok(piece) => piece,
            Err(e) => {
                error = Some(e);
                continue;
            }
        };
        assert!(seen.within(piece.range()).next().is_none(), "{:?} twice", piece.range());
        seen.insert(piece.range());
        match &piece {
            Piece::Zero(range) => put(&mut disk, *range, None),
            Piece::Data { data, hashes, .. } => {
                assert!(piece.range().start.is_multiple_of(LEAF));
                let again: Vec<_> = data.chunks(1 << 16).map(crate::manifest::leaf_hash).collect();
                assert_eq!(&again, hashes);
                assert!(hashes.iter().all(|h| *h != shared::leaf::LeafHash::ZERO), "zero leaves are cut out");
                put(&mut disk, piece.range(), Some(data));
            }
        }
    }
    if let Some(error) = error {
        return Err(error);
    }
    let (zeros, reader) = submitting.await.expect("no panic")?;
    for range in zeros {
        assert!(seen.within(range).next().is_none());
        put(&mut disk, range, None);
    }
    Ok((disk, reader.counters()))
}

async fn nbd_equals(args: &[&str], expected: &[u8], connections: usize) -> Counters {
    let server = Server::nbdkit_with(args, |dir| std::fs::write(dir.join("disk"), disk()).expect("written"));
    let opened = Reader::open(&server.uri(), &options()).await.expect("opens");
    assert_eq!(opened.0.connections(), connections);
    let (got, counters) = whole(opened).await.expect("reads");
    assert!(got == expected, "the same bytes through {args:?}");
    counters
}

#[tokio::test]
async fn every_kind_of_server_gives_the_same_bytes() {
    let disk = disk();
    let size = disk.len() as u64;
    nbd_equals(&["-r", "file", "{dir}/disk"], &disk, 2).await;
    let all = nbd_equals(&["-r", "--no-sr", "file", "{dir}/disk"], &disk, 2).await;
    assert_eq!(all.read_bytes, size, "without extents all is data");
    let all = nbd_equals(&["-r", "--filter=noextents", "file", "{dir}/disk"], &disk, 2).await;
    assert_eq!((all.read_bytes, all.zero_bytes), (size, 17 * LEAF));
    nbd_equals(&["-r", "--filter=multi-conn", "file", "{dir}/disk", "multi-conn-mode=disable"], &disk, 1)
        .await;
    let policy = ["blocksize-minimum=4096", "blocksize-preferred=64K", "blocksize-maximum=64K"];
    let small = [&["-r", "--filter=blocksize-policy", "file", "{dir}/disk"][..], &policy].concat();
    let counted = nbd_equals(&small, &disk, 2).await;
    assert!(counted.requests >= counted.read_bytes / LEAF, "no request is bigger than the server allows");
    nbd_equals(
        &["-r", "--filter=delay", "--filter=noextents", "file", "{dir}/disk", "delay-read=3ms"],
        &disk,
        2,
    )
    .await;
}

#[tokio::test]
async fn extents_that_fail_or_lie_short_cost_time_only() {
    let disk = disk();
    let failing = ["error-extents=EIO", "error-extents-rate=100%"];
    let args = [&["-r", "--filter=error", "file", "{dir}/disk"][..], &failing].concat();
    let counters = nbd_equals(&args, &disk, 2).await;
    assert_eq!(counters.read_bytes, disk.len() as u64);
}

#[tokio::test]
async fn files_are_read_with_their_holes() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("disk");
    std::fs::write(&path, disk()).expect("written");
    let file = std::fs::OpenOptions::new().write(true).open(&path).expect("opened");
    file.set_len(64 << 20).expect("grown");
    let mut expected = disk();
    expected.resize(64 << 20, 0);
    let opened = Reader::open_file(&path, &options()).await.expect("opens");
    let (got, counters) = whole(opened).await.expect("reads");
    assert!(got == expected);
    assert!(counters.read_bytes < 4 << 20, "holes are not read: {counters:?}");
}

#[tokio::test]
async fn empty_sources_end_at_once() {
    let server = Server::nbdkit(&["memory", "0"]);
    let (got, counters) =
        whole(Reader::open(&server.uri(), &options()).await.expect("opens")).await.expect("reads");
    assert_eq!((got.len(), counters), (0, Counters::default()));
}

#[tokio::test]
async fn extents_beyond_32_bits_are_told() {
    let server = Server::nbdkit(&["-r", "data", "@0x17ffff0000 1 @0x17ffffffff 2", "size=1T"]);
    let (reader, _pieces) = Reader::open(&server.uri(), &options()).await.expect("opens");
    let data = reader.extents().data(ByteRange::new(LEAF, 1 << 40)).await.expect("told");
    let data: RangeSet = data.into_iter().collect();
    assert!(data.total() <= 1 << 20, "{data:?}");
    assert!(data.contains(ByteRange::new(0x17_ffff_0000, 0x17_ffff_0001)));
    assert!(data.contains(ByteRange::new(0x17_ffff_ffff, 0x18_0000_0000)));
}

#[tokio::test]
async fn what_an_answer_said_beyond_the_question_is_not_asked_again() {
    let args = ["-r", "--filter=log", "file", "{dir}/disk", "logfile={dir}/log"];
    let server = Server::nbdkit_with(&args, |dir| {
        std::fs::write(dir.join("disk"), noise(1, 8 << 20)).expect("written")
    });
    let (reader, _pieces) = Reader::open(&server.uri(), &options()).await.expect("opens");
    let mut extents = reader.extents();
    for at in (0..8 << 20).step_by(1 << 20) {
        let window = ByteRange::new(at, at + (1 << 20));
        let data: RangeSet = extents.data(window).await.expect("told").into_iter().collect();
        assert!(data.contains(window), "{window:?}: {data:?}");
    }
    let log = std::fs::read_to_string(server.dir().join("log")).expect("a log");
    assert_eq!(log.lines().filter(|line| line.contains(" Extents id=")).count(), 1, "{log}");
}

#[tokio::test]
async fn memory_is_bounded_while_nobody_receives() {
    let server = Server::nbdkit(&["-r", "pattern", "size=64M"]);
    let (reader, mut pieces) = Reader::open(&server.uri(), &options()).await.expect("opens");
    let submitting = {
        let reader = reader.clone();
        tokio::spawn(async move { reader.submit(ByteRange::new(0, 64 << 20)).await })
    };
    // Everything that fits is read, and then nothing more.
    let deadline = Instant::now() + Duration::from_secs(20);
    while reader.counters().read_bytes < options().memory {
        assert!(Instant::now() < deadline, "{:?}", reader.counters());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(reader.counters().read_bytes, options().memory);
    assert!(!submitting.is_finished());
    let mut bytes = 0;
    drop(reader);
    while let Some(piece) = pieces.recv().await {
        bytes += piece.expect("read").range().len();
    }
    assert_eq!(bytes, 64 << 20);
    submitting.await.expect("no panic").expect("submitted");
}

#[tokio::test]
async fn a_failed_read_ends_the_reader_with_its_reason() {
    let failing = ["error-pread=EIO", "error-pread-rate=100%"];
    let server = Server::nbdkit(&[&["-r", "--filter=error", "pattern", "size=8M"][..], &failing].concat());
    let error = whole(Reader::open(&server.uri(), &options()).await.expect("opens")).await.expect_err("EIO");
    assert!(matches!(error, Error::Nbd(nbd::Error::Read { .. })), "{error:?}");
}

#[tokio::test]
async fn a_server_that_dies_ends_the_reader_with_its_reason() {
    let mut server = Server::nbdkit(&["-r", "--filter=delay", "pattern", "size=8M", "delay-read=60"]);
    let (reader, mut pieces) = Reader::open(&server.uri(), &options()).await.expect("opens");
    reader.submit(ByteRange::new(0, LEAF)).await.expect("there is room");
    server.kill();
    let error = pieces.recv().await.expect("something").expect_err("lost");
    assert!(matches!(error, Error::Nbd(nbd::Error::Lost { .. } | nbd::Error::Read { .. })), "{error:?}");
    assert!(pieces.recv().await.is_none(), "one reason, then the end");
    let again = reader.submit(ByteRange::new(0, LEAF)).await;
    assert!(matches!(again, Err(Error::Closed { .. })));
    let asked = reader.extents().data(ByteRange::new(0, LEAF)).await;
    assert!(asked.is_err(), "questions end too");
}

#[tokio::test]
async fn a_server_that_owes_an_answer_is_given_up() {
    let server = Server::nbdkit(&["-r", "--filter=delay", "pattern", "size=8M", "delay-read=60"]);
    let options = ReadOptions { stall_timeout: Duration::from_millis(200), ..options() };
    let (reader, mut pieces) = Reader::open(&server.uri(), &options).await.expect("opens");
    reader.submit(ByteRange::new(LEAF, 2 * LEAF)).await.expect("there is room");
    let error = pieces.recv().await.expect("something").expect_err("stalled");
    assert!(matches!(error, Error::Stalled { offset: LEAF, .. }), "{error:?}");
    assert!(error.to_string().contains("nbd.sock"));
}

#[tokio::test]
async fn an_idle_reader_does_not_stall() {
    let server = Server::nbdkit(&["-r", "pattern", "size=8M"]);
    let options = ReadOptions { stall_timeout: Duration::from_millis(100), ..options() };
    let (reader, mut pieces) = Reader::open(&server.uri(), &options).await.expect("opens");
    tokio::time::sleep(Duration::from_millis(300)).await;
    reader.submit(ByteRange::new(0, LEAF)).await.expect("open");
    assert_eq!(pieces.recv().await.expect("a piece").expect("read").range(), ByteRange::new(0, LEAF));
}

#[tokio::test]
async fn a_receiver_that_goes_ends_the_reader() {
    let server = Server::nbdkit(&["-r", "pattern", "size=64M"]);
    let (reader, pieces) = Reader::open(&server.uri(), &options()).await.expect("opens");
    drop(pieces);
    let result = reader.submit(ByteRange::new(0, 64 << 20)).await;
    assert!(matches!(result, Err(Error::Closed { .. })), "{result:?}");
}

#[tokio::test]
async fn the_changes_of_a_dirty_bitmap_are_read() {
    let server = Server::qemu(&["-r", "-f", "qcow2", "-B", "cbt", "{dir}/d.qcow2"], |dir| {
        let image = dir.join("d.qcow2");
        let image = image.to_str().expect("a plain path");
        for args in [
            &["qemu-img", "create", "-q", "-f", "qcow2", image, "10G"][..],
            &["qemu-io", "-c", "write -P 9 1G 1M", image],
            &["qemu-img", "bitmap", "--add", "-g", "65536", image, "cbt"],
            &["qemu-io", "-c", "write -P 1 20M 128k", "-c", "write -P 2 9G 4k", image],
        ] {
            let done = std::process::Command::new(args[0])
                .args(&args[1..])
                .stdout(std::process::Stdio::null())
                .status();
            assert!(done.expect("qemu-utils are installed").success());
        }
    });
    let missing = Reader::open(&server.uri(), &options()).await.expect("opens").0.dirty_bitmap("cbt");
    assert!(matches!(missing, Err(Error::NoBitmap { .. })), "it was not asked for");
    let options = ReadOptions { bitmap: Some("cbt".into()), ..options() };
    let (reader, mut pieces) = Reader::open(&server.uri(), &options).await.expect("opens");
    let mut bitmap = reader.dirty_bitmap("cbt").expect("there");
    assert!(bitmap.page(0).await.expect("told").next_offset > 0);
    let none = RangeSet::new();
    let changed = Areas::Changed(Box::new(bitmap));
    let mut planner = Planner::new(reader.size(), changed, &none, &none, Box::new(reader.extents()));
    let mut planned = RangeSet::new();
    while let Some(window) = planner.next().await.expect("a plan") {
        planned.union(&window.ranges());
        for chunk in window.data {
            reader.submit(chunk).await.expect("open");
        }
    }
    let at = |offset: u64, length: u64| ByteRange::new(offset, offset + length);
    let expected: RangeSet = [at(20 << 20, 128 << 10), at(9 << 30, LEAF)].into_iter().collect();
    assert_eq!(planned, expected);
    drop(reader);
    let mut read = RangeSet::new();
    while let Some(piece) = pieces.recv().await {
        read.insert(piece.expect("read").range());
    }
    assert_eq!(read, expected);
}

#[tokio::test]
async fn what_is_not_of_the_source_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("disk");
    std::fs::write(&path, noise(1, 1_000_000)).expect("written");
    let (reader, mut pieces) = Reader::open_file(&path, &options()).await.expect("opens");
    assert!(matches!(reader.submit(ByteRange::new(0, 1_000_001)).await, Err(Error::PastEnd { .. })));
    assert!(matches!(reader.submit(ByteRange::new(1, LEAF)).await, Err(Error::Unaligned { .. })));
    std::fs::OpenOptions::new().write(true).open(&path).expect("opened").set_len(10).expect("truncated");
    reader.submit(ByteRange::new(0, LEAF)).await.expect("open");
    let error = pieces.recv().await.expect("something").expect_err("it is shorter now");
    assert!(matches!(error, Error::Truncated { offset: 0, .. }), "{error:?}");

    let missing = Reader::open_file(&dir.path().join("none"), &options()).await.err().expect("not there");
    assert!(missing.to_string().contains("none"));
    assert!(matches!(Reader::open_file(dir.path(), &options()).await, Err(Error::File { .. })), "a folder");
}
