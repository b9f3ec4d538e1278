//! The processes of this host, as `/proc` tells of them. They end while they are looked at, and what others' say may not
//! be read: what cannot be read is not there.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// Longest name that is repeated.
const LONGEST: usize = 64;

/// A process, for people: `process 1234 (qemu-system-x86_64, mk-test-420570c7-1756882765)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub process: u32,
    /// What it was started as.
    program: Option<String>,
    /// What a QEMU calls itself, which says whose it is.
    called: Option<String>,
}

impl Named {
    pub(crate) fn of(process: u32) -> Self {
        let line = command_line(process);
        let program =
            line.first().and_then(|path| Path::new(path).file_name()).map(|n| plain(&n.to_string_lossy()));
        let called = called(&line).map(|name| plain(&name));
        Self { process, program: program.filter(|p| !p.is_empty()), called: called.filter(|c| !c.is_empty()) }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.process)?;
        match (&self.program, &self.called) {
            (Some(program), Some(called)) => write!(f, " ({program}, {called})"),
            (Some(name), None) | (None, Some(name)) => write!(f, " ({name})"),
            (None, None) => Ok(()),
        }
    }
}

/// All there are.
pub(crate) fn all() -> io::Result<impl Iterator<Item = u32>> {
    Ok(fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()))
}

/// All but this one.
pub(crate) fn others() -> io::Result<impl Iterator<Item = u32>> {
    let own = std::process::id();
    Ok(all()?.filter(move |process| *process != own))
}

/// Where `/proc` has something of it.
pub(crate) fn place(process: u32, what: &str) -> PathBuf {
    Path::new("/proc").join(process.to_string()).join(what)
}

/// What it was started with; empty where that is not known.
pub(crate) fn command_line(process: u32) -> Vec<OsString> {
    let line = fs::read(place(process, "cmdline")).unwrap_or_default();
    let line = line.strip_suffix(&[0]).unwrap_or(&line);
    if line.is_empty() {
        return Vec::new();
    }
    line.split(|byte| *byte == 0).map(|argument| OsString::from_vec(argument.to_vec())).collect()
}

/// The name of its process that a QEMU was told (`-name guest=…,process=…`); a comma in a value is doubled.
pub(crate) fn called(line: &[OsString]) -> Option<String> {
    let at = line.iter().position(|argument| argument == "-name")?;
    let options = line.get(at + 1)?.to_str()?.replace(",,", "\0");
    options.split(',').find_map(|option| option.strip_prefix("process=")).map(|name| name.replace('\0', ","))
}

/// Short, and without what a terminal would obey.
fn plain(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_named_for_people() {
        let named = |program: Option<&str>, called: Option<&str>| {
            Named { process: 7, program: program.map(plain), called: called.map(plain) }.to_string()
        };
        assert_eq!(named(Some("qemu"), Some("mk-test-1")), "process 7 (qemu, mk-test-1)");
        assert_eq!(named(Some("a\u{1b}[2J\nb"), None), "process 7 (a[2Jb)");
        assert_eq!(named(None, None), "process 7");
        assert!(named(Some(&"x".repeat(1000)), None).len() < 100);
    }

    #[test]
    fn a_qemu_says_what_it_is_called() {
        let line = |options: &str| ["qemu", "-name", options].map(OsString::from);
        let name = |options: &str| called(&line(options));
        assert_eq!(name("guest=web,process=mk-m,debug-threads=on").as_deref(), Some("mk-m"));
        assert_eq!(name("guest=a,,process=mk-not,process=mk-m").as_deref(), Some("mk-m"));
        assert_eq!(name("guest=web"), None);
        assert_eq!(called(&["qemu".into(), "-name".into()]), None);
    }
}
