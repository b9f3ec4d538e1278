//! One connection against real servers.

mod liar;
mod tls;

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::testing::{Server, noise};
use super::*;

fn connect(uri: &NbdUri, options: &ConnectOptions) -> Result<Handle<u64>, Error> {
    Handle::connect(uri, options)
}

fn open(uri: &NbdUri) -> Handle<u64> {
    connect(uri, &ConnectOptions::default()).expect("connects")
}

fn quick() -> ConnectOptions {
    ConnectOptions { timeout: Duration::from_millis(300), ..ConnectOptions::default() }
}

/// Drives the connection until the next request ends.
fn next(handle: &mut Handle<u64>) -> Completed<u64> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(done) = handle.completed() {
            return done;
        }
        assert!(Instant::now() < deadline, "nothing ends");
        // A lost connection shows in the requests it had.
        let _ = handle.wait(None, Duration::from_secs(1));
    }
}

fn read(handle: &mut Handle<u64>, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
    handle.read(offset, Buffer::new(length), offset)?;
    match next(handle) {
        Completed::Read { tag, buffer, result } => {
            assert_eq!(tag, offset);
            result.map(|()| buffer.as_slice().to_vec())
        }
        Completed::Status { .. } | Completed::Changed { .. } => panic!("a read was issued"),
    }
}

fn status(handle: &mut Handle<u64>, range: ByteRange) -> Result<Vec<Status>, Error> {
    handle.status(range, 7)?;
    match next(handle) {
        Completed::Status { tag, result } => {
            assert_eq!(tag, 7);
            result
        }
        Completed::Read { .. } | Completed::Changed { .. } => panic!("a status was asked"),
    }
}

#[test]
fn reads_many_at_once_and_gives_each_its_own_bytes() {
    let data = noise(1, 3_000_000);
    let server = Server::nbdkit_with(&["-r", "file", "{dir}/disk"], |dir| {
        std::fs::write(dir.join("disk"), &data).expect("written");
    });
    let mut handle = open(&server.uri());
    assert_eq!(handle.export().size, 3_000_000);
    assert!(handle.export().read_only && handle.export().multi_conn);
    for at in 0..30u64 {
        handle.read(at * 100_000, Buffer::new(100_000), at).expect("issued");
    }
    assert_eq!(handle.in_flight(), 30);
    assert_eq!(handle.oldest(), Some(ByteRange::new(0, 100_000)));
    for _ in 0..30 {
        let Completed::Read { tag, buffer, result } = next(&mut handle) else { panic!("reads were issued") };
        result.expect("read");
        let at = usize::try_from(tag).expect("small") * 100_000;
        assert!(buffer.as_slice() == &data[at..at + 100_000]);
    }
    assert_eq!(handle.in_flight(), 0);
    handle.disconnect(Duration::from_secs(5));
}

#[test]
fn a_handle_may_be_dropped_with_requests_in_flight() {
    // One thread a connection: with several, a reply to a client that has gone may end nbdkit by an assertion of its own.
    let server = Server::nbdkit(&["--threads=1", "--filter=delay", "memory", "10M", "delay-read=300ms"]);
    let mut handle = open(&server.uri());
    for at in 0..8 {
        handle.read(at << 20, Buffer::new(1 << 20), at).expect("issued");
        handle.status(ByteRange::new(0, 1 << 20), at).expect("issued");
    }
    handle.wait(None, Duration::from_millis(10)).expect("alive");
    drop(handle);
    assert_eq!(read(&mut open(&server.uri()), 5, 3).expect("the server lives"), [0; 3]);
}

#[test]
fn block_status_tells_data_from_zeros() {
    let server = Server::nbdkit(&["-r", "data", "@1048576 1 @3145727 0"]);
    let mut handle = open(&server.uri());
    assert!(handle.export().has_context(BASE_ALLOCATION));
    let all = status(&mut handle, ByteRange::new(0, 3 << 20)).expect("told");
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].context, BASE_ALLOCATION);
    assert_eq!(all[0].extents[0].0.start, 0);
    assert!(all[0].extents.windows(2).all(|p| p[0].0.end == p[1].0.start));
    let zero = |at: u64| {
        all[0].extents.iter().find(|(r, _)| r.start <= at && at < r.end).map(|e| e.1 & STATE_ZERO != 0)
    };
    assert_eq!((zero(0), zero(1 << 20)), (Some(true), Some(false)));
}

#[test]
fn a_server_without_extents_is_known_as_such() {
    let server = Server::nbdkit(&["--filter=noextents", "--no-sr", "memory", "1M"]);
    let mut handle = open(&server.uri());
    assert!(!handle.export().has_context(BASE_ALLOCATION));
    assert!(matches!(status(&mut handle, ByteRange::new(0, 4096)), Err(Error::Status { offset: 0, .. })));
}

#[test]
fn block_sizes_are_known_and_tails_can_be_read() {
    let policy = ["blocksize-minimum=4096", "blocksize-preferred=64K", "blocksize-maximum=1M"];
    let server = Server::nbdkit_with(
        &[&["-r", "--filter=blocksize-policy", "file", "{dir}/disk"][..], &policy].concat(),
        |dir| std::fs::write(dir.join("disk"), noise(2, 100_001)).expect("written"),
    );
    let mut handle = open(&server.uri());
    let export = handle.export().clone();
    assert_eq!((export.block_min, export.block_preferred, export.block_max), (4096, 65536, 1 << 20));
    let tail = export.round_out(ByteRange::new(98_305, 100_001));
    assert_eq!(tail, ByteRange::new(98_304, 100_001));
    let got = read(&mut handle, tail.start, 1697).expect("read");
    assert!(got == noise(2, 100_001)[98_304..]);
    assert_eq!(export.round_out(ByteRange::new(4095, 4097)), ByteRange::new(0, 8192));
    assert_eq!(export.round_out(ByteRange::new(200_000, 300_000)), ByteRange::new(100_001, 100_001));
}

#[test]
fn dirty_bitmaps_of_qemu_are_told() {
    let server = Server::qemu(&["-r", "-f", "qcow2", "-B", "cbt", "{dir}/d.qcow2"], |dir| {
        let image = dir.join("d.qcow2");
        let image = image.to_str().expect("a plain path");
        for args in [
            &["qemu-img", "create", "-q", "-f", "qcow2", image, "64M"][..],
            &["qemu-img", "bitmap", "--add", "-g", "65536", image, "cbt"],
            &["qemu-io", "-c", "write -P 1 20M 1M", image],
        ] {
            let done = Command::new(args[0]).args(&args[1..]).stdout(Stdio::null()).status();
            assert!(done.expect("qemu-utils are installed").success());
        }
    });
    let context = dirty_bitmap_context("cbt");
    let contexts = vec![BASE_ALLOCATION.to_owned(), context.clone(), dirty_bitmap_context("none")];
    let options = ConnectOptions { contexts, ..ConnectOptions::default() };
    let mut handle = connect(&server.uri(), &options).expect("connects");
    assert_eq!(handle.export().contexts, [BASE_ALLOCATION.to_owned(), context.clone()]);
    let told = status(&mut handle, ByteRange::new(0, 64 << 20)).expect("told");
    let bitmap = told.iter().find(|s| s.context == context).expect("the bitmap is told");
    let dirty: Vec<_> = bitmap.extents.iter().filter(|e| e.1 & STATE_DIRTY != 0).map(|e| e.0).collect();
    assert_eq!(dirty, [ByteRange::new(20 << 20, 21 << 20)]);
}

#[test]
fn a_failed_read_names_its_offset_and_the_next_one_works() {
    let server = Server::nbdkit_with(
        &[
            "-r",
            "--filter=error",
            "file",
            "{dir}/disk",
            "error-pread=EIO",
            "error-pread-rate=100%",
            "error-file={dir}/bad",
        ],
        |dir| {
            std::fs::write(dir.join("disk"), noise(3, 1 << 20)).expect("written");
            std::fs::write(dir.join("bad"), "").expect("written");
        },
    );
    let mut handle = open(&server.uri());
    let error = read(&mut handle, 65536, 512).expect_err("EIO");
    assert!(
        matches!(&error, Error::Read { offset: 65536, length: 512, source, .. } if source.raw_os_error() == Some(5)),
        "{error:?}"
    );
    std::fs::remove_file(server.dir().join("bad")).expect("removed");
    assert!(read(&mut handle, 65536, 512).expect("read") == noise(3, 1 << 20)[65536..66048]);
    assert!(matches!(read(&mut handle, 1 << 20, 1), Err(Error::Read { .. })), "past the end");
}

#[test]
fn a_server_that_dies_fails_what_was_in_flight() {
    let mut server = Server::nbdkit(&["--filter=delay", "memory", "1M", "delay-read=60"]);
    let mut handle = open(&server.uri());
    handle.read(0, Buffer::new(512), 1).expect("issued");
    handle.wait(None, Duration::from_millis(50)).expect("alive");
    server.kill();
    let error = loop {
        if let Err(error) = handle.wait(None, Duration::from_secs(5)) {
            break error;
        }
    };
    assert!(matches!(error, Error::Lost { .. }), "{error}");
    assert!(matches!(next(&mut handle), Completed::Read { tag: 1, result: Err(_), .. }));
}

#[test]
fn what_an_operator_gets_wrong_is_told_apart() {
    let dir = tempfile::tempdir().expect("a folder");
    let nowhere = NbdUri::unix(&dir.path().join("none")).expect("valid");
    assert!(matches!(connect(&nowhere, &quick()), Err(Error::NoSocket { .. })));

    let dead = dir.path().join("dead");
    drop(UnixListener::bind(&dead).expect("bound"));
    let refused = connect(&NbdUri::unix(&dead).expect("valid"), &quick());
    assert!(matches!(refused, Err(Error::Refused { .. })));

    let port = TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("bound").port();
    let uri: NbdUri = format!("nbd://ann:secret@127.0.0.1:{port}/x").parse().expect("valid");
    let error = connect(&uri, &quick()).err().expect("nobody listens");
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("secret"));

    let server =
        Server::nbdkit(&["--filter=exportname", "memory", "1M", "exportname=a", "exportname-strict=true"]);
    let wrong = NbdUri::unix_export(&server.socket(), "b").expect("valid");
    let error = connect(&wrong, &quick()).err().expect("no such export");
    assert!(matches!(&error, Error::NoExport { export, .. } if export == "b"), "{error:?}");
    let right = NbdUri::unix_export(&server.socket(), "a").expect("valid");
    assert_eq!(open(&right).export().size, 1 << 20);

    let lookup = connect(&"nbd://no-such-host.invalid/".parse().expect("valid"), &quick());
    assert!(matches!(lookup, Err(Error::Connect { .. })));
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("silent");
    let _listener = UnixListener::bind(&path).expect("bound");
    let start = Instant::now();
    let error = connect(&NbdUri::unix(&path).expect("valid"), &quick()).err().expect("silent");
    assert!(matches!(error, Error::ConnectTimeout { .. }), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_wake_up_ends_the_wait() {
    let server = Server::nbdkit(&["memory", "1M"]);
    let mut handle = open(&server.uri());
    let wake = rustix::event::eventfd(1, rustix::event::EventfdFlags::empty()).expect("an eventfd");
    let start = Instant::now();
    handle.wait(Some(std::os::fd::AsFd::as_fd(&wake)), Duration::from_secs(60)).expect("alive");
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn an_empty_export_is_opened() {
    let server = Server::nbdkit(&["memory", "0"]);
    assert_eq!(open(&server.uri()).export().size, 0);
}
