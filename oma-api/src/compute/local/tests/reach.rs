//! Whether a guest answers: of a real one, which has a web server and the real QEMU guest agent; and of one that is deaf.

use super::super::super::{Compute, Definition, Isolation, MachineName};
use super::host::{Guest, HELLO, Host, card, name, plain, volume};
use integration_tests::guest::{Drivers, Image, Sizes, Tools};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

/// A machine of the guest's own disks, with two cards; not started.
async fn machine(host: &Host, tools: &Tools) -> MachineName {
    let dir = tempfile::tempdir().expect("a folder");
    let made = Image::make(tools, dir.path(), Sizes::default(), Drivers::All).expect("made");
    let cards = vec![card(2, Isolation::Isolated), card(3, Isolation::Isolated)];
    let definition = Definition { nics: cards, memory_bytes: 256 << 20, ..plain() };
    let machine = name("real");
    host.compute.define(&machine, &definition).await.expect("defined");
    for (position, image) in [made.root, made.data].iter().enumerate() {
        use crate::storage::Storage as _;
        let disk = volume(&format!("real-{position}"));
        let size = image.metadata().expect("there").len();
        host.storage.create(&disk, size).await.expect("a volume");
        std::fs::copy(image, host.storage.path(&disk).await.expect("there")).expect("copied");
        host.compute.attach(&machine, position, &disk).await.expect("attached");
    }
    machine
}

/// Until the console has that text.
async fn says(host: &Host, machine: &MachineName, text: &str) {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let log = host.compute.console(machine, 0, usize::MAX).await.expect("a log");
        let said = String::from_utf8_lossy(&log.data).into_owned();
        if said.contains(text) {
            return;
        }
        assert!(Instant::now() < deadline, "it did not say {text:?}, but {said}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_is_reached_once_it_answers() {
    let tools = match Tools::find() {
        Ok(tools) => tools,
        Err(error) => return eprintln!("SKIPPED: {error:#}"),
    };
    let host = Host::new().await;
    let machine = machine(&host, &tools).await;
    let reach = async |port| host.compute.reach(&machine, port).await.expect("asked");
    assert_eq!(reach(80).await, None, "it does not run");
    host.compute.start(&machine).await.expect("started");
    let began = Instant::now();
    let early = (reach(80).await, host.compute.guest_agent(&machine).await.expect("asked"));
    assert_eq!(early, (None, false), "the firmware answers nobody, whatever QEMU takes for it");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    says(&host, &machine, "guest: ready").await;
    let at = reach(80).await.expect("it serves");
    assert!(at.ip().is_loopback());
    assert_eq!(reach(80).await, Some(at), "by the same way");
    assert_eq!(reach(23).await, None, "nobody is there");
    let mut stream = TcpStream::connect(at).await.expect("connected");
    stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").await.expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("boot 1 is well\n"), "{answer}");

    match tools.has_agent() {
        false => eprintln!("SKIPPED: there is no agent for the guest"),
        true => {
            let deadline = Instant::now() + Duration::from_secs(60);
            while !host.compute.guest_agent(&machine).await.expect("asked") {
                assert!(Instant::now() < deadline, "the agent does not answer");
            }
            let both = tokio::join!(host.compute.guest_agent(&machine), host.compute.guest_agent(&machine));
            assert!(matches!(both, (Ok(true), Ok(true))), "one after the other: {both:?}");
        }
    }
    // After a restart of the control plane the way is found again.
    let again = host.again().await;
    assert_eq!(again.reach(&machine, 80).await.expect("asked"), Some(at));
    host.cut(&machine).await;
    assert_eq!(reach(80).await, None);
    assert!(!host.compute.guest_agent(&machine).await.expect("asked"));
}

/// Without a card, and with one that its guest does nothing with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_answer_holds_nobody_up() {
    let host = Host::new().await;
    let definition = Definition { nics: vec![card(2, Isolation::Isolated)], ..plain() };
    let deaf = host.machine("deaf", &definition, Guest::Deaf).await;
    host.compute.start(&deaf).await.expect("started");
    host.says(&deaf, HELLO).await;
    let alone = host.up("alone", Guest::Deaf).await;
    for machine in [&deaf, &alone] {
        let began = Instant::now();
        assert_eq!(host.compute.reach(machine, 22).await.expect("asked"), None);
        assert!(!host.compute.guest_agent(machine).await.expect("asked"));
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    }
}
