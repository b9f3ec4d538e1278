//! Certificates in a folder: `ca.pem ca.key`, and `ROLE-NAME.pem ROLE-NAME.key` for each holder.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use shared::ids::AgentId;
use shared::tls::{Files, Role};

use super::{Ca, Error, Leaf, Pair, Validity};

/// Who gets a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// What it is.
    pub role: Role,
    /// Its name within the role.
    pub name: AgentId,
    /// What it is dialled by; empty for one that only dials.
    pub hosts: Vec<String>,
}

/// What to do with files of an earlier run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Write nothing, and say which file is there.
    Refuse,
    /// Keep the CA, replace the certificates.
    Replace,
}

/// A folder of certificates.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

/// What [`make`] wrote.
#[derive(Clone, Debug)]
pub struct Made {
    /// Whether the CA was there before.
    pub reused_ca: bool,
    /// The files of every holder, in the order asked for.
    pub files: Vec<Files>,
}

impl Folder {
    /// Nothing is read or made yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn ca_paths(&self) -> [PathBuf; 2] {
        ["ca.pem", "ca.key"].map(|name| self.path.join(name))
    }

    /// Where the files of a holder lie.
    pub fn files(&self, role: Role, name: &str) -> Files {
        let [ca, _] = self.ca_paths();
        let file = |ending: &str| self.path.join(format!("{}-{name}.{ending}", role.as_str()));
        Files { ca, cert: file("pem"), key: file("key") }
    }

    /// The CA that is there; `None` when neither half is.
    ///
    /// # Errors
    /// [`Error::HalfCa`], [`Error::File`], or [`Error::Crypto`] when the files are something else.
    pub fn ca(&self) -> Result<Option<Ca>, Error> {
        let [cert, key] = self.ca_paths();
        match (cert.exists(), key.exists()) {
            (false, false) => return Ok(None),
            (false, true) => return Err(Error::HalfCa { path: cert }),
            (true, false) => return Err(Error::HalfCa { path: key }),
            (true, true) => {}
        }
        let read = |path: &Path| {
            let text = fs::read_to_string(path);
            text.map_err(|source| Error::File { path: path.to_owned(), action: "read", source })
        };
        Ca::from_pair(Pair { cert_pem: read(&cert)?, key_pem: read(&key)? }).map(Some)
    }

    /// Writes a pair under the names of `files`; the key readable by its owner only.
    ///
    /// # Errors
    /// [`Error::File`]; whichever file was complete before stays complete.
    pub fn write(&self, pair: &Pair, cert: &Path, key: &Path) -> Result<(), Error> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.path);
        made.map_err(|source| Error::File { path: self.path.clone(), action: "made", source })?;
        replace(key, &pair.key_pem, 0o600)?;
        replace(cert, &pair.cert_pem, 0o644)
    }
}

/// Makes a CA, or takes the one that is there, and a certificate for every holder.
///
/// # Errors
/// With [`Existing::Refuse`], [`Error::Exists`] before anything is written; otherwise see [`Error`].
pub fn make(folder: &Folder, holders: &[Holder], days: u32, existing: Existing) -> Result<Made, Error> {
    let files: Vec<_> =
        holders.iter().map(|holder| folder.files(holder.role, holder.name.as_str())).collect();
    if existing == Existing::Refuse {
        let certificates = files.iter().flat_map(|files| [&files.cert, &files.key]).cloned();
        if let Some(path) = folder.ca_paths().into_iter().chain(certificates).find(|path| path.exists()) {
            return Err(Error::Exists { path });
        }
    }
    let found = folder.ca()?;
    let reused_ca = found.is_some();
    let ca = found.map_or_else(|| Ca::new("MigrateKit development CA"), Ok)?;
    // All are made before the first is written: a host name that cannot be used leaves the folder as it was.
    let pairs: Vec<_> =
        holders.iter().map(|holder| ca.issue(&leaf(holder, days))).collect::<Result<_, _>>()?;
    if !reused_ca {
        let [cert, key] = folder.ca_paths();
        folder.write(ca.pair(), &cert, &key)?;
    }
    for (pair, files) in pairs.iter().zip(&files) {
        folder.write(pair, &files.cert, &files.key)?;
    }
    Ok(Made { reused_ca, files })
}

fn leaf(holder: &Holder, days: u32) -> Leaf {
    let hosts: Vec<_> = holder.hosts.iter().map(String::as_str).collect();
    Leaf::new(holder.role, holder.name.as_str(), &hosts).valid(Validity::days(days))
}

/// Through a second file and a rename: a daemon that starts meanwhile sees the old text or the new one.
fn replace(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let failed = |source| Error::File { path: path.to_owned(), action: "written", source };
    let mut beside = path.to_owned().into_os_string();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    // Removed first: an old file would keep its own, wider rights.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&beside, path).map_err(failed)
}
