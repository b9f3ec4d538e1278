use std::io::Write as _;
use std::path::Path;

use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Daemon {
    listen: String,
    #[serde(default)]
    transfer: Transfer,
    #[serde(default)]
    disks: Vec<Disk>,
    source: Option<Source>,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Transfer {
    connections: Option<u8>,
    window: Option<ByteSize>,
    deadline: Option<Period>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Disk {
    key: String,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum Source {
    Qemu { socket: String },
    Plain { uri: String },
}

fn refused(text: &str) -> (Error, String) {
    let error = parse::<Daemon>(Path::new("/etc/oma.toml"), text).expect_err("must be refused");
    let shown = error.to_string();
    assert!(!shown.contains('\n'), "one line: {shown}");
    assert!(shown.contains("/etc/oma.toml"), "names the file: {shown}");
    (error, shown)
}

fn unknown(text: &str) -> (usize, String, Option<String>, String) {
    match refused(text) {
        (Error::UnknownKey { line, key, nearest, .. }, shown) => (line, key, nearest, shown),
        (other, _) => panic!("expected an unknown key, got {other:?}"),
    }
}

#[test]
fn a_whole_file_is_read() {
    let text = "listen = 'a:1'\n[transfer]\nwindow = '64MiB'\ndeadline = '30s'\n[[disks]]\nkey = 'd'\n[source]\nkind = 'qemu'\nsocket = '/s'";
    let read: Daemon = parse(Path::new("x"), text).expect("good");
    let transfer =
        Transfer { connections: None, window: Some(ByteSize::mib(64)), deadline: Some(Period::seconds(30)) };
    let source = Some(Source::Qemu { socket: "/s".to_owned() });
    assert_eq!(
        read,
        Daemon { listen: "a:1".to_owned(), transfer, disks: vec![Disk { key: "d".to_owned() }], source }
    );
}

#[test]
fn unknown_keys_name_line_table_and_neighbour() {
    let (line, key, nearest, shown) = unknown("\n\nlisten = 'a:1'\nlissten = 'b'\n");
    assert_eq!((line, key.as_str(), nearest.as_deref()), (4, "lissten", Some("listen")), "{shown}");
    assert!(shown.contains("/etc/oma.toml:4: unknown key `lissten`: did you mean `listen`?"), "{shown}");

    let (line, key, nearest, shown) = unknown("listen = 'a'\n[transfer]\n# why\nconections = 4\n");
    assert_eq!(
        (line, key.as_str(), nearest.as_deref()),
        (4, "transfer.conections", Some("connections")),
        "{shown}"
    );

    let (line, key, nearest, shown) = unknown("listen = 'a'\ntransfer = { Dead-line = '1s' }\n");
    assert_eq!(
        (line, key.as_str(), nearest.as_deref()),
        (2, "transfer.Dead-line", Some("deadline")),
        "{shown}"
    );

    let (line, key, nearest, shown) =
        unknown("listen = 'a'\n[[disks]]\nkey = 'a'\n[[disks]]\nkey = 'b'\nkee = 'c'\n");
    assert_eq!((line, key.as_str(), nearest.as_deref()), (6, "disks[1].kee", Some("key")), "{shown}");

    let (line, key, nearest, shown) = unknown("listen = 'a'\n[trasnfer]\n");
    assert_eq!((line, key.as_str(), nearest.as_deref()), (2, "trasnfer", Some("transfer")), "{shown}");
}

#[test]
fn a_key_like_no_other_gets_the_list() {
    let (_, _, nearest, shown) = unknown("listen = 'a'\nzzz = 1\n");
    assert_eq!(nearest, None);
    assert!(shown.contains("`listen`, `transfer`, `disks`, `source`"), "{shown}");
}

/// Tagged enums are read through a buffer that has lost its places; the key is named nevertheless.
#[test]
fn unknown_keys_of_tagged_tables_are_named() {
    let (line, key, nearest, shown) =
        unknown("listen = 'a'\n[source]\nkind = 'qemu'\nsocket = 's'\nsokcet = 't'\n");
    assert_eq!((line, key.as_str(), nearest.as_deref()), (5, "source.sokcet", Some("socket")), "{shown}");
}

#[test]
fn wrong_and_missing_values_say_where() {
    for (text, expect) in [
        ("listen = 5\n", "/etc/oma.toml:1: `listen`: invalid type: integer `5`, expected a string"),
        ("\n", "the required key `listen` is missing at the top of the file"),
        ("listen = 'a'\n[[disks]]\n", "the required key `key` is missing in `disks[0]`"),
        (
            "listen = 'a'\n[transfer]\nwindow = '64M'\n",
            "/etc/oma.toml:3: `transfer.window`: \"64M\" is not a size",
        ),
        (
            "listen = 'a'\n[transfer]\nwindow = -1\n",
            "/etc/oma.toml:3: `transfer.window`: \"-1\" is not a size",
        ),
        ("listen = 'a'\n[transfer]\ndeadline = 30\n", "expected a span of time with its unit"),
        (
            "listen = 'a'\n[transfer]\nconnections = 300\n",
            "/etc/oma.toml:3: `transfer.connections`: invalid value",
        ),
        (
            "listen = 'a'\n[source]\nkind = 'vmware'\n",
            "`source.kind`: unknown variant `vmware`, expected `qemu` or `plain`",
        ),
    ] {
        let (error, shown) = refused(text);
        assert!(matches!(error, Error::Value { .. }), "{error:?}");
        assert!(shown.contains(expect), "{shown}\nshould hold: {expect}");
    }
}

#[test]
fn what_is_not_toml_has_line_and_column() {
    let (error, shown) = refused("listen = 'a'\nfoo = = 3\n");
    assert!(matches!(error, Error::Syntax { line: 2, column: 7, .. }), "{error:?}");
    assert!(shown.starts_with("/etc/oma.toml:2:7: this is not TOML: "), "{shown}");
    let (error, _) = refused("listen = 'a'\nlisten = 'b'\n");
    assert!(matches!(error, Error::Syntax { line: 2, .. }), "a key given twice: {error:?}");
}

#[test]
fn files_that_cannot_be_read() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let absent = dir.path().join("no.toml");
    assert!(matches!(load::<Daemon>(&absent), Err(Error::Missing { path }) if path == absent));
    assert!(matches!(load::<Daemon>(dir.path()), Err(Error::Unreadable { .. })), "a folder");
    let mut binary = tempfile::NamedTempFile::new_in(dir.path()).expect("temporary file");
    binary.write_all(&[0xff, 0xfe, 0x00]).expect("write");
    assert!(matches!(load::<Daemon>(binary.path()), Err(Error::Unreadable { .. })), "no text");
}

#[test]
fn an_example_is_read_with_all_its_keys() {
    let text = "# The port.\nlisten = 'a:1'\n#[transfer]\n# Of one disk.\n#window = \"1MiB\"\n";
    let read: Daemon = parse(Path::new("x"), &with_all_keys(text)).expect("good");
    assert_eq!(read.transfer.window, Some(ByteSize::mib(1)));
    let wrong = with_all_keys("listen = 'a:1'\n#lisen = 'b'\n");
    assert!(matches!(parse::<Daemon>(Path::new("x"), &wrong), Err(Error::UnknownKey { line: 2, .. })));
}

#[test]
fn no_text_makes_it_panic() {
    use proptest::prelude::*;
    proptest!(|(text in "[a-z\\[\\]{}='\"\\n .0-9é]{0,60}")| {
        let _ = parse::<Daemon>(Path::new("x"), &text);
    });
}
