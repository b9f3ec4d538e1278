//! Every kind of source into every kind of target, beside nbdcopy: equal bytes, or both refuse.
//!
//! Targets are full of old data and a little larger than the disk, so that zeros which were not written show, and so
//! does a tail that was touched.

use std::os::unix::fs::FileExt as _;

use super::*;

const OLD: u8 = 0xAA;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    File,
    Nbd,
    NoExtents,
    NoZero,
    NoMultiConn,
    /// Requests of whole 4 KiB only.
    Blocks4K,
    /// At most 32 MiB a request.
    Most32M,
    /// Encrypted, with a shared key.
    Tls,
    /// By qemu-nbd.
    Qcow2,
}

const KINDS: [Kind; 9] = [
    Kind::File,
    Kind::Nbd,
    Kind::NoExtents,
    Kind::NoZero,
    Kind::NoMultiConn,
    Kind::Blocks4K,
    Kind::Most32M,
    Kind::Tls,
    Kind::Qcow2,
];

impl Kind {
    fn arguments(self) -> Option<&'static [&'static str]> {
        const FILES: &str = "dir={dir}/files";
        Some(match self {
            Self::File | Self::Qcow2 => return None,
            Self::Nbd => &["file", FILES],
            Self::NoExtents => &["--filter=noextents", "file", FILES],
            Self::NoZero => &["--filter=nozero", "file", FILES],
            Self::NoMultiConn => &["--filter=multi-conn", "file", FILES, "multi-conn-mode=disable"],
            Self::Blocks4K => &[
                "--filter=blocksize-policy",
                "file",
                FILES,
                "blocksize-minimum=4096",
                "blocksize-error-policy=error",
            ],
            Self::Most32M => &[
                "--filter=blocksize-policy",
                "file",
                FILES,
                "blocksize-maximum=32M",
                "blocksize-error-policy=error",
            ],
            Self::Tls => &["--tls=require", "--tls-psk={dir}/keys", "file", FILES],
        })
    }

    /// nbdcopy cannot, either (see `pair`).
    fn takes(self, size: usize) -> bool {
        self != Self::Blocks4K || size.is_multiple_of(4096)
    }

    /// No qcow2 image ends within a sector.
    fn can_be(self, size: usize) -> bool {
        self != Self::Qcow2 || size.is_multiple_of(512)
    }
}

/// Disks by name, in the order of their size.
fn disks() -> Vec<(&'static str, Vec<u8>)> {
    let mut sparse = noise(11, 48 * LEAF);
    sparse[2 * LEAF..20 * LEAF].fill(0);
    sparse[21 * LEAF + 4096..47 * LEAF].fill(0);
    let mut odd = noise(12, 3 * LEAF + 513);
    odd[LEAF..2 * LEAF].fill(0);
    vec![
        ("empty", Vec::new()),
        ("one", vec![7]),
        ("odd", odd),
        ("full", noise(13, 20 * LEAF)),
        ("zero", vec![0; 33 * LEAF]),
        ("sparse", sparse),
    ]
}

/// Some disks, served in one way.
struct Shelf {
    kind: Kind,
    /// One for all; for qcow2 one each, with the file's name.
    servers: Vec<(Server, &'static str)>,
}

impl Shelf {
    /// A disk of zeros is allocated, the others have holes where they can.
    fn new(kind: Kind, disks: &[(&'static str, Vec<u8>)]) -> Self {
        let file = |path: PathBuf, name: &str, data: &[u8]| {
            let file = std::fs::File::create(path).expect("made");
            file.set_len(data.len() as u64).expect("sized");
            for (leaf, part) in data.chunks(LEAF).enumerate() {
                if name == "zero" || part.iter().any(|b| *b != 0) {
                    file.write_all_at(part, (leaf * LEAF) as u64).expect("written");
                }
            }
        };
        let servers = match kind {
            Kind::Qcow2 => disks
                .iter()
                .map(|(name, data)| {
                    let server = Server::qemu(&["-f", "qcow2", "{dir}/image"], |dir| {
                        file(dir.join("raw"), name, data);
                        let [raw, image] = ["raw", "image"].map(|file| dir.join(file).display().to_string());
                        tool(&["qemu-img", "convert", "-f", "raw", "-O", "qcow2", &raw, &image]);
                    });
                    (server, *name)
                })
                .collect(),
            kind => {
                let prepare = |dir: &Path| {
                    std::fs::create_dir(dir.join("files")).expect("made");
                    disks.iter().for_each(|(name, data)| file(dir.join("files").join(name), name, data));
                    std::fs::write(dir.join("keys"), format!("ann:{}\n", "5a".repeat(32))).expect("written");
                };
                // A folder of files needs no server, but it does no harm.
                let arguments = kind.arguments().unwrap_or(&["file", "dir={dir}/files"]);
                vec![(Server::nbdkit_with(arguments, prepare), "")]
            }
        };
        Self { kind, servers }
    }

    fn server(&self, name: &str) -> &Server {
        let named = self.servers.iter().find(|(_, image)| image.is_empty() || *image == name);
        &named.expect("on the shelf").0
    }

    /// As the command line takes it.
    fn address(&self, name: &str) -> String {
        let server = self.server(name);
        let socket = server.socket().display().to_string();
        match self.kind {
            Kind::File => server.dir().join("files").join(name).display().to_string(),
            Kind::Qcow2 => format!("nbd+unix:///?socket={socket}"),
            Kind::Tls => {
                let keys = server.dir().join("keys");
                format!("nbds+unix://ann@/{name}?socket={socket}&tls-psk-file={}", keys.display())
            }
            _ => format!("nbd+unix:///{name}?socket={socket}"),
        }
    }

    /// What is in storage, the servers killed.
    fn stored(mut self, names: &[&str]) -> Vec<Vec<u8>> {
        self.servers.iter_mut().for_each(|(server, _)| server.kill());
        let read = |name: &&str| {
            let dir = self.server(name).dir();
            let file = match self.kind {
                Kind::Qcow2 => {
                    let [image, raw] = ["image", "stored"].map(|file| dir.join(file).display().to_string());
                    tool(&["qemu-img", "convert", "-f", "qcow2", "-O", "raw", &image, &raw]);
                    dir.join("stored")
                }
                _ => dir.join("files").join(name),
            };
            std::fs::read(file).expect("there")
        };
        names.iter().map(read).collect()
    }
}

/// Whether nbdcopy could. Version 1.14.2 hangs now and then when the target cannot zero (measured: 13 of 150 runs, with
/// nothing of ours about), so it may try several times.
async fn nbdcopy(source: &str, target: &str) -> bool {
    for _ in 0..8 {
        let mut nbdcopy = tokio::process::Command::new("nbdcopy")
            .args(["--flush", "--", source, target])
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("libnbd-bin is installed");
        if let Ok(status) = tokio::time::timeout(Duration::from_secs(5), nbdcopy.wait()).await {
            return status.expect("a child of ours").success();
        }
        nbdcopy.kill().await.expect("a child of ours");
    }
    panic!("nbdcopy hangs from {source} to {target}");
}

/// One disk by us and by nbdcopy into targets of one kind.
async fn pair(source: &Shelf, name: &'static str, disk: &[u8], kind: Kind) {
    let what = format!("{name} of {} bytes from {:?} to {kind:?}", disk.len(), source.kind);
    let room = disk.len().next_multiple_of(4096) + LEAF;
    let target = Shelf::new(kind, &[("ours", vec![OLD; room]), ("theirs", vec![OLD; room])]);
    if kind == Kind::File {
        // nbdcopy cuts an existing file; so both make theirs.
        for name in ["ours", "theirs"] {
            std::fs::remove_file(target.address(name)).expect("removed");
        }
    }
    let args = Args { verify: true, ..args(source.address(name), target.address("ours").as_ref()) };
    let ours = run(&args, &mut Vec::new()).await;
    let nbdcopy = nbdcopy(&source.address(name), &target.address("theirs")).await;
    let takes = source.kind.takes(disk.len()) && kind.takes(disk.len());
    assert_eq!((ours.is_ok(), nbdcopy), (takes, takes), "{what}: {ours:?}");
    let Ok(summary) = ours else {
        if source.kind.takes(disk.len()) {
            let stored = target.stored(&["ours"]).remove(0);
            assert!(stored.iter().all(|b| *b == OLD), "{what}: refused, but touched");
        }
        return;
    };
    let beyond = if kind == Kind::File { 0 } else { room - disk.len() };
    assert_eq!((summary.beyond_bytes, summary.flushed), (beyond as u64, true), "{what}");
    assert_eq!(summary.verified_bytes, Some(disk.len() as u64), "{what}");
    let stored = target.stored(&["ours", "theirs"]);
    assert!(stored[0] == stored[1], "{what}: not as nbdcopy has it");
    assert!(stored[0][..disk.len()] == *disk, "{what}: both are wrong");
    assert!(stored[0][disk.len()..].iter().all(|b| *b == OLD), "{what}: beyond the disk");
}

async fn from(kind: Kind) {
    let disks: Vec<_> = disks().into_iter().filter(|(_, disk)| kind.can_be(disk.len())).collect();
    let source = Shelf::new(kind, &disks);
    for (name, disk) in &disks {
        for target in KINDS {
            pair(&source, name, disk, target).await;
        }
    }
}

/// One test for each source, so that they run beside each other.
macro_rules! matrix {
    ($($name:ident: $kind:ident),* $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            from(Kind::$kind).await;
        }
    )*};
}

matrix! {
    a_file_into_everything: File,
    an_export_into_everything: Nbd,
    an_export_without_extents_into_everything: NoExtents,
    an_export_without_zeroing_into_everything: NoZero,
    an_export_without_multi_conn_into_everything: NoMultiConn,
    an_export_of_4k_blocks_into_everything: Blocks4K,
    an_export_of_at_most_32m_into_everything: Most32M,
    an_encrypted_export_into_everything: Tls,
    a_qcow2_image_into_everything: Qcow2,
}
