//! Machines that run: seen, typed into, found again.

use super::super::super::{Compute, Error, Machine, State};
use super::host::{Guest, HELLO, Host, volume};

async fn state(compute: &dyn Compute, machine: &super::super::super::MachineName) -> State {
    let found: Option<Machine> = compute.find(machine).await.expect("looked");
    found.expect("there").state
}

#[tokio::test]
async fn a_guest_starts_once_speaks_and_is_spoken_to() {
    let host = Host::new().await;
    let machine = host.machine("m", &super::host::plain(), Guest::Deaf).await;
    assert_eq!(state(&host.compute, &machine).await, State::Stopped);
    host.compute.start(&machine).await.expect("started");
    assert_eq!(state(&host.compute, &machine).await, State::Running);
    let process = host.process(&machine).expect("it runs");
    host.compute.start(&machine).await.expect("it runs already");
    assert_eq!(host.process(&machine), Some(process), "no second one");

    host.says(&machine, HELLO).await;
    let mut said = Vec::new();
    let mut from = 0;
    loop {
        let part = host.compute.console(&machine, from, 7).await.expect("a log");
        assert_eq!((part.offset, part.end), (from, HELLO.len() as u64));
        assert!(part.data.len() <= 7);
        if part.data.is_empty() {
            break;
        }
        from += part.data.len() as u64;
        said.extend(part.data);
    }
    assert_eq!(String::from_utf8_lossy(&said), HELLO);
    let behind = host.compute.console(&machine, 1 << 40, 7).await.expect("a log");
    assert_eq!((behind.offset, behind.data.len(), behind.end), (from, 0, from));

    // More than the UART holds, from two at a time.
    let [one, two] = ["the first text, of forty bytes or so\r\n", "the second one, longer than the UART\r\n"];
    let typed = tokio::join!(host.compute.type_text(&machine, one), host.compute.type_text(&machine, two));
    assert!(matches!(typed, (Ok(()), Ok(()))), "{typed:?}");
    // Neither began before the other's end was taken; the last bytes may still be on their way back.
    let both = [format!("{one}{two}"), format!("{two}{one}")];
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    let echoed = loop {
        let log = host.compute.console(&machine, from, usize::MAX).await.expect("a log");
        let echoed = String::from_utf8_lossy(&log.data).into_owned();
        if echoed.len() >= both[0].len() {
            break echoed;
        }
        assert!(tokio::time::Instant::now() < deadline, "{echoed:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert!(both.contains(&echoed), "{echoed:?}");

    let pictures = tokio::join!(host.compute.screenshot(&machine), host.compute.screenshot(&machine));
    for picture in [pictures.0, pictures.1] {
        let picture = picture.expect("asked").expect("it has a screen");
        assert_eq!(&picture[..8], b"\x89PNG\r\n\x1a\n");
    }
    host.cut(&machine).await;
    assert_eq!(state(&host.compute, &machine).await, State::Stopped);

    // The log goes on where it was.
    host.compute.start(&machine).await.expect("started again");
    host.says(&machine, &format!("{echoed}{HELLO}")).await;
}

#[tokio::test]
async fn it_outlives_its_control_plane() {
    let host = Host::new().await;
    let machine = host.up("m", Guest::Deaf).await;
    let process = host.process(&machine);
    let again = host.again().await;
    assert_eq!(state(&again, &machine).await, State::Running);
    again.start(&machine).await.expect("it runs already");
    again.type_text(&machine, "still there").await.expect("typed");
    host.says(&machine, "still there").await;
    assert_eq!(host.process(&machine), process);
    assert!(matches!(again.remove(&machine).await, Err(Error::Running { .. })));
    assert!(matches!(again.attach(&machine, 1, &volume("x")).await, Err(Error::Storage(_))));
    host.empty_volume(&volume("x")).await;
    assert!(matches!(again.attach(&machine, 1, &volume("x")).await, Err(Error::Running { .. })));
    again.attach(&machine, 0, &volume("m")).await.expect("that one it has");
    // Even a folder that was being removed is left alone while its machine runs.
    std::fs::rename(host.folder(&machine), host.machines().join("m.tmp")).expect("renamed");
    host.again().await;
    std::fs::rename(host.machines().join("m.tmp"), host.folder(&machine)).expect("it is still there");
    host.cut(&machine).await;
    again.remove(&machine).await.expect("removed");
    assert_eq!(std::fs::read_dir(host.machines()).expect("there").count(), 0);
}

#[tokio::test]
async fn who_starts_at_the_same_time_starts_one() {
    let host = Host::new().await;
    let machine = host.machine("m", &super::host::plain(), Guest::Deaf).await;
    // Two control planes, as no claim kept them apart: within one, callers take turns.
    let (one, two) = (host.again().await, host.again().await);
    let started = tokio::join!(one.start(&machine), two.start(&machine));
    let process = host.process(&machine).expect("one runs");
    // The second may find the disk in use, if it looks while the first one opens it.
    let fine = |outcome: &Result<(), Error>| matches!(outcome, Ok(()) | Err(Error::VolumeInUse { .. }));
    assert!(fine(&started.0) && fine(&started.1), "{started:?}");
    assert!(started.0.is_ok() || started.1.is_ok(), "{started:?}");
    host.compute.start(&machine).await.expect("it runs");
    assert_eq!(host.process(&machine), Some(process));
    host.says(&machine, HELLO).await;
}

#[tokio::test]
async fn a_volume_is_one_machine_s_at_a_time() {
    let host = Host::new().await;
    let first = host.up("first", Guest::Deaf).await;
    let second = super::host::name("second");
    host.compute.define(&second, &super::host::plain()).await.expect("defined");
    host.compute.attach(&second, 0, &volume("first")).await.expect("attached");
    let refused = host.compute.start(&second).await.expect_err("in use");
    assert!(
        matches!(&refused, Error::VolumeInUse { name, volume: of } if *name == second && *of == volume("first")),
        "{refused}"
    );
    assert_eq!(state(&host.compute, &second).await, State::Stopped);
    host.cut(&first).await;
    host.compute.start(&second).await.expect("it is free");
}
