//! The plug-in over REST asks of a controller what CloudStack's own was recorded asking, and makes of the answers the same.

use super::super::{Rest, plugin};
use crate::recordings::{Recording, exchanges};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::ops::RangeInclusive;

/// A request as the plug-in made it, and what it was answered.
#[derive(Clone, Debug)]
struct Asked {
    line: String,
    body: Value,
    status: u64,
    answer: Value,
}

/// What CloudStack's plug-in asked in a part of a scenario, in order.
fn asked(scenario: &str, part: RangeInclusive<u64>) -> Vec<Asked> {
    let all = exchanges(Recording::HandOver).unwrap().into_iter();
    let own = all.filter(|one| {
        one["scenario"] == scenario
            && part.contains(&one["n"].as_u64().unwrap())
            && one["api"] == "linstor"
            && one["by"] == "cloudstack plug-in"
    });
    own.map(|one| Asked {
        line: format!("{} {}", one["method"].as_str().unwrap(), one["path"].as_str().unwrap()),
        body: one.get("body").cloned().unwrap_or_default(),
        status: one["status"].as_u64().unwrap(),
        answer: one["answer"].clone(),
    })
    .collect()
}

fn request(stream: &mut TcpStream) -> (String, Value) {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).unwrap();
        bytes.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
        if body.len() == length.parse::<usize>().unwrap() {
            let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
            return (line, serde_json::from_str(body).unwrap_or_default());
        }
    }
}

/// Answers as recorded; every request has to be the recorded one.
fn controller(asked: Vec<Asked>) -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        for wanted in asked {
            let (mut stream, _) = listener.accept().unwrap();
            assert_eq!(request(&mut stream), (wanted.line, wanted.body));
            let body = wanted.answer.to_string();
            let head = format!("HTTP/1.1 {} X\r\nContent-Length: {}\r\n\r\n", wanted.status, body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        }
    });
    (url, thread)
}

/// The volume whose resource is asked about.
fn volume(asked: &[Asked]) -> String {
    let line = asked.iter().find(|one| one.line.contains("/cs-")).map(|one| one.line.clone()).unwrap();
    line.split_once("/cs-").unwrap().1[..36].to_owned()
}

#[test]
fn one_that_is_there_is_taken_with_the_same_words() {
    let asked = asked("09-property-adoption", 26..=31);
    assert_eq!(asked.len(), 6, "{asked:#?}");
    let id = volume(&asked);
    let (url, thread) = controller(asked);
    assert_eq!(plugin::create(&Rest::new(&url), "cloudstack", &id, "x", 1 << 30), Ok(()));
    thread.join().unwrap();
}

#[test]
fn one_that_only_begins_alike_is_an_error_with_the_controllers_words() {
    let asked: Vec<_> = asked("09-property-adoption", 49..=53);
    assert_eq!(asked.len(), 4, "{asked:#?}");
    let id = volume(&asked);
    let (url, thread) = controller(asked);
    let failed = plugin::create(&Rest::new(&url), "cloudstack", &id, "y", 1 << 30);
    assert_eq!(failed, Err(format!("Resource definition 'cs-{id}' not found.")));
    thread.join().unwrap();
}

#[test]
fn in_another_group_a_stray_is_spawned_with_the_same_words() {
    let asked: Vec<_> = asked("06e-groups-paths-case-destroy-migrate", 52..=59);
    let id = volume(&asked.iter().filter(|one| one.line.starts_with("PUT")).cloned().collect::<Vec<_>>());
    let lines: Vec<_> = asked.iter().map(|one| one.line.clone()).collect();
    assert!(lines.iter().any(|line| line.ends_with("/spawn")), "{lines:?}");
    // How the stray is numbered is not understood: the recorded one is 8.
    let own =
        asked[0].answer.as_array().unwrap().iter().filter(|one| one["resource_group_name"] == "cloudstack");
    let shift = |text: String| text.replace(&format!("{id}-8"), &format!("{id}-{}", own.clone().count()));
    let mut asked: Vec<_> = asked.clone();
    // The real one asks for the stranger's group first.
    asked.swap(1, 2);
    for one in &mut asked {
        one.line = shift(one.line.clone());
        one.body = serde_json::from_str(&shift(one.body.to_string())).unwrap();
    }
    let (url, thread) = controller(asked);
    assert_eq!(plugin::create(&Rest::new(&url), "cloudstack", &id, "o2", 1 << 30), Ok(()));
    thread.join().unwrap();
}
