//! `migratekit bench`, interrupted as an operator does it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};

use integration_tests::harness::binary;
use rustix::process::{Pid, Signal, kill_process};

fn entries(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn nothing_is_left_behind_when_it_is_interrupted() {
    let dir = tempfile::tempdir().expect("a folder");
    let [source, target, temporary] = ["source", "target", "tmp"].map(|name| dir.path().join(name));
    std::fs::write(&source, vec![7; 4 << 20]).expect("written");
    for signal in [Signal::INT, Signal::TERM] {
        for folder in [&target, &temporary] {
            std::fs::create_dir_all(folder).expect("made");
        }
        // Far longer than the test, so that only the signal ends it; and little enough to write meanwhile.
        let mut bench = Command::new(binary("migratekit").expect("built"))
            .arg("bench")
            .args([&source, &target])
            .args(["--bytes", "64M", "--seconds", "600"])
            .env("TMPDIR", &temporary)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let mut lines = BufReader::new(bench.stderr.take().expect("piped")).lines();
        let begun = lines
            .by_ref()
            .map(|line| line.expect("text"))
            .any(|line| line.starts_with("writing and flushing"));
        assert!(begun, "it ended before it wrote");
        let id = Pid::from_child(&bench);
        kill_process(id, signal).expect("a child of ours");
        let status = bench.wait().expect("a child of ours");
        let (mut out, last) = (String::new(), lines.map(|line| line.expect("text")).last());
        bench.stdout.take().expect("piped").read_to_string(&mut out).expect("text");
        assert_eq!(status.code(), Some(1), "{last:?}");
        assert_eq!(last.as_deref(), Some("migratekit: interrupted"));
        assert!(out.is_empty(), "{out}");
        assert!(entries(&target).is_empty(), "{:?}", entries(&target));
        assert!(entries(&temporary).is_empty(), "{:?}", entries(&temporary));
    }
}
