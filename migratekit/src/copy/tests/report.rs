//! What a progress API is told, by a real register behind the least of an HTTP server.

use super::*;
use serde_json::Value;
use shared::progress::{Register, Status, View};
use std::sync::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

const JOB: &str = "migration-vol-c290646c-41ba-4d50-a31f-f497320ca0bd";

struct Api {
    url: String,
    register: Arc<Register>,
    /// All updates that came.
    updates: Arc<Mutex<Vec<Value>>>,
}

impl Api {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let (register, updates) = (Arc::default(), Arc::default());
        let api = Self { url, register: Arc::clone(&register), updates: Arc::clone(&updates) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&register), Arc::clone(&updates)));
            }
        });
        api
    }

    fn args(&self, args: Args) -> Args {
        Args {
            progress_url: Some(self.url.clone()),
            job_id: Some(JOB.to_owned()),
            progress_every: 1 << 20,
            ..args
        }
    }

    fn view(&self) -> View {
        self.register.view(JOB, jiff::Timestamp::now()).expect("registered")
    }

    /// The bytes and percentages of all updates so far, which never went back.
    fn course(&self) -> Vec<(u64, f64)> {
        let updates = self.updates.lock().expect("no panic");
        let number = |update: &Value| {
            (
                update["bytes_transferred"].as_u64().expect("a number"),
                update["percent"].as_f64().expect("a number"),
            )
        };
        let course: Vec<_> = updates.iter().map(number).collect();
        assert!(course.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1), "{course:?}");
        course
    }
}

/// Requests of one connection, until it is closed.
async fn answer(stream: TcpStream, register: Arc<Register>, updates: Arc<Mutex<Vec<Value>>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        if stream.read_line(&mut first).await.unwrap_or(0) == 0 {
            return;
        }
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.expect("a header");
            let line = line.trim().to_ascii_lowercase();
            match line.strip_prefix("content-length:") {
                Some(bytes) => length = bytes.trim().parse().expect("a number"),
                None if line.is_empty() => break,
                None => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.expect("a body");
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        let now = jiff::Timestamp::now();
        let taken = if first.starts_with("PUT ") {
            let about = serde_json::from_value(body).expect("a registration");
            register.outside().register(JOB, &about, now).map(|_| ())
        } else {
            updates.lock().expect("no panic").push(body.clone());
            register.outside().update(JOB, &serde_json::from_value(body).expect("an update"), now)
        };
        let status = if taken.is_ok() { "200 OK" } else { "400 Bad Request" };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.expect("sent");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn zeros_are_done_but_not_transferred() {
    let dir = tempfile::tempdir().expect("a folder");
    let [source, target] = ["source", "target"].map(|name| dir.path().join(name));
    let file = std::fs::File::create(&source).expect("made");
    file.set_len(256 << 20).expect("sparse");
    let write = |data: &[u8], at| std::os::unix::fs::FileExt::write_all_at(&file, data, at).expect("written");
    write(b"x", 100 << 20);
    // Zeros that are read before they are known to be.
    write(&vec![0; 1 << 20], 10 << 20);
    let api = Api::start().await;
    let summary = run(&api.args(args(source.display(), &target)), &mut Vec::new()).await.expect("copied");
    let view = api.view();
    assert_eq!((view.status, view.percentage), (Status::Completed, 100.0));
    assert_eq!((view.bytes_transferred, view.total_bytes), (summary.written_bytes, 256 << 20));
    assert_eq!(view.bytes_transferred, LEAF as u64, "the leaf of one byte");
    assert_eq!(api.course().last(), Some(&(LEAF as u64, 100.0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_copy_goes_on_from_what_was_moved_before() {
    const SIZE: usize = 32 << 20;
    let dir = tempfile::tempdir().expect("a folder");
    let [source, target, resume] = ["source", "target", "resume"].map(|name| dir.path().join(name));
    let file = std::fs::File::create(&source).expect("made");
    file.set_len(SIZE as u64).expect("sparse");
    std::os::unix::fs::FileExt::write_all_at(&file, &noise(7, SIZE / 2), SIZE as u64 / 2).expect("data");
    let copying = Args { resume: Some(resume.clone()), ..args(source.display(), &target) };
    let first = Api::start().await;
    let slow = first.args(Args { rate: Some(4 << 20), ..copying.clone() });
    let killed = tokio::spawn(async move { run(&slow, &mut Vec::new()).await });
    let moved = |text: &str| {
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter_map(|line| line["moved"].as_u64()).max().unwrap_or(0)
    };
    let begun = Instant::now();
    while !std::fs::read_to_string(&resume).is_ok_and(|text| moved(&text) > 0) {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing becomes durable");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    killed.abort();
    assert!(killed.await.is_err(), "it was killed on its way");
    let before = moved(&std::fs::read_to_string(&resume).expect("there"));
    assert!(before > 0 && before < (SIZE / 2) as u64, "{before}");
    // The agent was started again, too, and knows nothing of it.
    let again = Api::start().await;
    let summary = run(&again.args(copying), &mut Vec::new()).await.expect("copied");
    assert!(summary.resumed_bytes > 0 && summary.written_bytes < (SIZE / 2) as u64, "{summary:?}");
    let view = again.view();
    assert_eq!((view.status, view.percentage), (Status::Completed, 100.0));
    assert_eq!(view.bytes_transferred, before + summary.written_bytes);
    let first_word = again.course()[0];
    assert!(first_word.0 >= before && first_word.1 >= 50.0, "{first_word:?}");
}

#[tokio::test]
async fn the_end_waits_but_a_moment_for_a_silent_server() {
    let dir = tempfile::tempdir().expect("a folder");
    // It takes connections, and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("bound"));
    let args = Args {
        progress_url: Some(url),
        job_id: Some(JOB.to_owned()),
        ..args("source", &dir.path().join("target"))
    };
    let report = Report::new(&args).expect("an address");
    report.begin(&About { size: 1, planned: 1, resumed: 0 }, &Moved::default());
    // An update is on its way when the copy ends.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let ended = Instant::now();
    report.end(true).await;
    let took = ended.elapsed();
    assert!((Duration::from_millis(250)..Duration::from_secs(1)).contains(&took), "{took:?}");
}

/// The same command once more: what is told under the job's id is the other one's.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_refused_for_another_one_says_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let [source, target] = ["source", "target"].map(|name| dir.path().join(name));
    for path in [&source, &target] {
        std::fs::write(path, noise(7, LEAF)).expect("written");
    }
    let _running = crate::copy::claim(&target).expect("free");
    let api = Api::start().await;
    let error = run(&api.args(args(source.display(), &target)), &mut Vec::new()).await.expect_err("refused");
    assert!(matches!(error, Error::Written { .. }), "{error}");
    assert!(api.course().is_empty());
}
