//! Whether what a conversion needs is on this machine: asked before a failover begins, not in its middle.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::child;
use super::error::Error;
use super::settings::{self, Settings};

/// What else than virt-v2v is run, and which Debian package has it. Unpackers are of initramfs images.
const PROGRAMS: [(&str, &str); 5] = [
    ("guestfish", "guestfish"),
    ("setpriv", "util-linux"),
    ("gzip", "gzip"),
    ("xz", "xz-utils"),
    ("lz4", "lz4"),
];

/// How deep a driver lies below virtio-win (`viostor/2k19/amd64/viostor.sys`).
const DEEPEST: usize = 6;

/// Whether a source's word for the guest (`windows9Server64Guest`, `winNetStandardGuest`) means Windows.
pub(super) fn is_windows(hint: &str) -> bool {
    hint.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("win"))
}

/// The programs, for every guest.
pub(super) fn programs(settings: &Settings) -> Result<(), Error> {
    let path = settings::path();
    let tool = (settings.tool.as_str(), "virt-v2v");
    for (program, package) in [tool].into_iter().chain(PROGRAMS) {
        if child::find(OsStr::new(program), &path).is_none() {
            let looked = if program.contains('/') { program.into() } else { path.to_string_lossy() };
            return Err(Error::NoTool { program: program.to_owned(), package, looked: looked.into_owned() });
        }
    }
    Ok(())
}

/// What Windows guests need besides: it is not in any distribution, so that it is the operator's to bring.
pub(super) fn windows(settings: &Settings) -> Result<(), Error> {
    let drivers = settings.virtio_win();
    if !is_iso(&drivers) && !has_driver(&drivers, DEEPEST) {
        return Err(Error::NoVirtioWin { looked: drivers });
    }
    let tools = settings.virt_tools();
    if !["rhsrvany.exe", "pvvxsvc.exe"].into_iter().any(|name| tools.join(name).is_file()) {
        return Err(Error::NoRhsrvany { looked: tools });
    }
    Ok(())
}

/// By the mark of its volume descriptor.
fn is_iso(path: &Path) -> bool {
    let mut mark = [0; 5];
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut mark, 16 * 2048 + 1));
    read.is_ok() && &mark == b"CD001"
}

/// Whether there is a block driver for any Windows. For which one is virt-v2v's to say.
fn has_driver(folder: &Path, depth: usize) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| {
        let path = entry.path();
        let driver = entry.file_name().eq_ignore_ascii_case("viostor.sys");
        (driver && path.is_file()) || (depth > 0 && path.is_dir() && has_driver(&path, depth - 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn file(folder: &Path, path: &str, content: &[u8]) -> PathBuf {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().expect("below a folder")).expect("a folder");
        std::fs::write(&path, content).expect("a file");
        path
    }

    #[test]
    fn a_source_says_windows_in_many_words() {
        for hint in ["windows9Server64Guest", "winNetEnterpriseGuest", "Windows Server 2019"] {
            assert!(is_windows(hint), "{hint}");
        }
        for hint in ["debian12_64Guest", "rhel9_64Guest", "darwin", "", "wi", "\u{e9}\u{e9}"] {
            assert!(!is_windows(hint), "{hint}");
        }
    }

    #[test]
    fn what_is_missing_is_said_with_where_it_was_looked_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = Settings { tool: "/nowhere/virt-v2v-in-place".into(), ..Settings::default() };
        let error = programs(&settings).expect_err("it is nowhere").to_string();
        assert!(
            error.contains("/nowhere/virt-v2v-in-place is not here: install the package virt-v2v"),
            "{error}"
        );

        let (drivers, tools) = (folder.path().join("vw"), folder.path().join("vt"));
        let settings = Settings {
            virtio_win: Some(drivers.clone()),
            virt_tools: Some(tools.clone()),
            ..Settings::default()
        };
        assert!(matches!(windows(&settings), Err(Error::NoVirtioWin { looked }) if looked == drivers));
        file(&drivers, "NetKVM/2k19/amd64/netkvm.sys", b"x");
        assert!(matches!(windows(&settings), Err(Error::NoVirtioWin { .. })), "no driver for disks");
        file(&drivers, "viostor/2k19/amd64/VIOSTOR.SYS", b"x");
        assert!(matches!(windows(&settings), Err(Error::NoRhsrvany { looked }) if looked == tools));
        file(&tools, "rhsrvany.exe", b"x");
        windows(&settings).expect("all is there");
    }

    #[test]
    fn drivers_may_be_an_iso() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut image = vec![0; 20 * 2048];
        assert!(!is_iso(&file(folder.path(), "empty.iso", &image)));
        image[16 * 2048 + 1..][..5].copy_from_slice(b"CD001");
        assert!(is_iso(&file(folder.path(), "virtio-win.iso", &image)));
    }
}
