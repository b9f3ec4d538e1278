//! Real servers, written to.

use super::*;
use crate::nbd::testing::{Server, noise};

const SIZE: usize = 10 * 65536 + 777;

/// A server of a file full of 0xAA, with these filters and parameters.
fn server(args: &[&str], size: usize) -> Server {
    Server::nbdkit_with(args, |dir| std::fs::write(dir.join("disk"), vec![0xAA; size]).expect("written"))
}

fn open(server: &Server) -> NbdTarget {
    open_as(server, SIZE, &NbdOptions::default()).expect("suitable")
}

fn open_as(server: &Server, need: usize, options: &NbdOptions) -> Result<NbdTarget, Error> {
    NbdTarget::open(&server.uri(), need as u64, options)
}

fn stored(server: &Server) -> Vec<u8> {
    std::fs::read(server.dir().join("disk")).expect("there")
}

fn read(target: &NbdTarget, offset: u64, length: usize) -> Vec<u8> {
    let mut buffer = AlignedBuf::new(length);
    assert_eq!(target.read_direct(offset, &mut buffer).expect("read"), ReadPath::Server);
    buffer.as_slice().to_vec()
}

#[test]
fn what_is_written_and_zeroed_is_there_after_a_flush_and_its_neighbours_stay() {
    for filters in [&["file", "{dir}/disk"][..], &["--filter=nozero", "file", "{dir}/disk"]] {
        let server = server(filters, SIZE + 100);
        let target = open(&server);
        assert_eq!(target.export().can_zero, filters.len() == 2);
        let data = noise(1, SIZE);
        for start in (0..SIZE).step_by(65536) {
            let end = SIZE.min(start + 65536);
            target.write_at(start as u64, &[Bytes::copy_from_slice(&data[start..end])]).expect("queued");
        }
        // Over what was just written, which may still be in flight.
        target.zero(ByteRange::new(65536, 5 * 65536)).expect("queued");
        target
            .write_at(131_072, &[Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"c")])
            .expect("queued");
        target.flush().expect("flushed");
        let mut expected = data;
        expected[65536..5 * 65536].fill(0);
        expected[131_072..131_075].copy_from_slice(b"abc");
        expected.extend_from_slice(&[0xAA; 100]);
        assert!(stored(&server) == expected);
        assert!(read(&target, 4096, SIZE - 4096) == expected[4096..SIZE]);
        target.close();
        assert!(target.write_at(0, &[Bytes::from_static(b"x")]).is_err(), "closed");
    }
}

/// Data is shared with the request, not copied: a block is written as often as it is queued, in order.
#[test]
fn overlapping_writes_keep_their_order() {
    let server = server(&["--filter=delay", "file", "{dir}/disk", "delay-write=20ms"], SIZE);
    let target = open(&server);
    for value in 0..10u8 {
        target.write_at(0, &[Bytes::from(vec![value; 4096])]).expect("queued");
    }
    target.zero(ByteRange::new(0, 4096)).expect("queued");
    target.write_at(100, &[Bytes::from_static(b"last")]).expect("queued");
    target.flush().expect("flushed");
    let got = stored(&server);
    assert!(got[..100] == [0; 100] && &got[100..104] == b"last" && got[104..4096].iter().all(|b| *b == 0));
}

/// By nbdkit's log filter.
#[test]
fn a_flush_waits_for_the_writes_before_it_and_really_asks_the_server() {
    let server = server(
        &["--filter=log", "--filter=delay", "file", "{dir}/disk", "delay-write=150ms", "logfile={dir}/log"],
        SIZE,
    );
    let target = open(&server);
    for leaf in 0..8 {
        target.write_at(leaf * 65536, &[Bytes::from(vec![1; 65536])]).expect("queued");
    }
    target.flush().expect("flushed");
    let log = std::fs::read_to_string(server.dir().join("log")).expect("a log");
    let flush = log.find(" Flush id=").expect("the server was asked to flush");
    let (before, after) = log.split_at(flush);
    assert_eq!(before.matches("...Write id=").count(), 8, "all answered before:\n{log}");
    assert!(!after.contains("Write id="), "{log}");
}

#[test]
fn several_connections_only_where_the_server_says_that_they_see_the_same() {
    let four = NbdOptions { connections: 4, ..NbdOptions::default() };
    let one = server(&["--filter=multi-conn", "file", "{dir}/disk", "multi-conn-mode=disable"], SIZE);
    assert_eq!(open_as(&one, SIZE, &four).expect("suitable").connections(), 1);
    let many = server(&["file", "{dir}/disk"], SIZE);
    let target = open_as(&many, SIZE, &four).expect("suitable");
    assert_eq!(target.connections(), 4);
    let data = noise(2, SIZE);
    for (leaf, part) in data.chunks(65536).enumerate() {
        target.write_at(leaf as u64 * 65536, &[Bytes::copy_from_slice(part)]).expect("queued");
    }
    target.flush().expect("flushed");
    assert!(stored(&many) == data);
}

#[test]
fn exports_that_do_not_do_are_refused_untouched() {
    let options = NbdOptions::default();
    let refused = |server: &Server, need: usize, words: &str| {
        let error = open_as(server, need, &options).map(|_| ()).expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
    };
    refused(&server(&["-r", "file", "{dir}/disk"], SIZE), SIZE, "exported read-only");
    refused(&server(&["file", "{dir}/disk"], SIZE), SIZE + 1, "use a larger target");
    let blocks = [
        "--filter=blocksize-policy",
        "file",
        "{dir}/disk",
        "blocksize-minimum=4096",
        "blocksize-error-policy=error",
    ];
    let blocks = server(&blocks, 16 * 65536);
    refused(&blocks, SIZE, "whole blocks of 4096 bytes only");
    assert!(open_as(&blocks, 10 * 65536, &options).is_ok());
    // nbdkit's sh plugin can say that it cannot flush.
    let script = "case $1 in get_size) echo 1M;; can_write|can_zero) exit 0;; can_flush) exit 3;; \
        pread) dd if=/dev/zero bs=$3 count=1 status=none;; pwrite|zero) cat >/dev/null;; *) exit 2;; esac";
    let no_flush = Server::nbdkit_with(&["sh", "{dir}/script"], |dir| {
        std::fs::write(dir.join("script"), format!("#!/bin/sh\n{script}\n")).expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.join("script"), mode).expect("made executable");
    });
    refused(&no_flush, 65536, "cannot flush");
    let told = NbdOptions { flushing: Flushing::IfPossible, ..options };
    let target = open_as(&no_flush, 65536, &told).expect("as told");
    target.write_at(0, &[Bytes::from_static(b"x")]).expect("queued");
    target.flush().expect("answered");
}

#[test]
fn requests_are_no_larger_than_the_server_takes() {
    let policy = ["blocksize-minimum=4096", "blocksize-maximum=65536", "blocksize-error-policy=error"];
    let server =
        server(&[&["--filter=blocksize-policy", "file", "{dir}/disk"][..], &policy].concat(), 64 * 65536);
    let target = open_as(&server, 64 * 65536, &NbdOptions::default()).expect("suitable");
    let data = noise(3, 40 * 65536);
    target.write_at(4096, &[Bytes::from(data.clone())]).expect("queued");
    target.zero(ByteRange::new(48 * 65536, 64 * 65536)).expect("queued");
    target.flush().expect("flushed");
    assert!(read(&target, 4096, data.len()) == data);
    assert!(stored(&server)[48 * 65536..].iter().all(|b| *b == 0));
}

#[test]
fn zeros_and_data_are_told_apart_where_the_server_can() {
    for (args, tells) in [(&["memory", "8M"][..], true), (&["--filter=noextents", "memory", "8M"], false)] {
        let server = Server::nbdkit(args);
        let target = open(&server);
        target.write_at(4 << 20, &[Bytes::from(vec![1; 65536])]).expect("queued");
        let data = target.next_data(0).expect("asked").expect("some");
        if tells {
            assert!(data.start > 0 && data.start <= 4 << 20 && data.end >= (4 << 20) + 65536, "{data:?}");
            assert_eq!(target.next_data(data.end).expect("asked"), None);
        } else {
            assert_eq!(data, ByteRange::new(0, 8 << 20));
        }
        assert_eq!(target.next_data(8 << 20).expect("asked"), None);
    }
}

/// A write that failed is told by the flush after it at the latest, and by everything from then on.
#[test]
fn a_failed_write_is_never_followed_by_a_good_flush() {
    for (errno, room) in [("EIO", false), ("ENOSPC", true)] {
        let error = format!("error-pwrite={errno}");
        let args = [
            "--filter=error",
            "file",
            "{dir}/disk",
            &error,
            "error-pwrite-rate=100%",
            "error-file={dir}/bad",
        ];
        let server = server(&args, SIZE);
        let target = open(&server);
        target.flush().expect("flushed");
        std::fs::write(server.dir().join("bad"), "").expect("written");
        // Queued; or told at once, if the answer was that quick.
        let _ = target.write_at(65536, &[Bytes::from(vec![1; 65536])]);
        let error = target.flush().expect_err("the write failed");
        std::fs::remove_file(server.dir().join("bad")).expect("removed");
        assert_eq!(error.to_string().contains("no room to write"), room, "{error}");
        assert!(error.to_string().contains("offset 65536"), "{error}");
        assert_eq!(target.flush().expect_err("for good").to_string(), error.to_string());
        assert!(target.write_at(0, &[Bytes::from_static(b"x")]).is_err());
    }
}

#[test]
fn a_server_that_dies_is_named_and_ends_everything() {
    let mut server = server(&["--filter=delay", "file", "{dir}/disk", "delay-write=60"], SIZE);
    let target = open(&server);
    target.write_at(0, &[Bytes::from(vec![1; 65536])]).expect("queued");
    let error = std::thread::scope(|scope| {
        let flush = scope.spawn(|| target.flush());
        std::thread::sleep(Duration::from_millis(50));
        server.kill();
        flush.join().expect("no panic").expect_err("the server is gone")
    });
    assert!(error.to_string().contains("lost the connection to nbd+unix"), "{error}");
    assert!(target.read_direct(0, &mut AlignedBuf::new(4096)).is_err());
}

#[test]
fn a_server_that_owes_an_answer_for_too_long_is_given_up() {
    let server = server(&["--filter=delay", "file", "{dir}/disk", "delay-write=60"], SIZE);
    let options = NbdOptions { stall_timeout: Duration::from_millis(200), ..NbdOptions::default() };
    let target = open_as(&server, SIZE, &options).expect("suitable");
    target.write_at(65536, &[Bytes::from(vec![1; 65536])]).expect("queued");
    let error = target.flush().expect_err("no answer");
    assert!(
        matches!(&error, Error::Ended(why) if matches!(**why, Error::Stalled { offset: 65536, .. })),
        "{error}"
    );
}
