//! The key and the secret of an account.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Who asks. Read from files, so that neither stands in a configuration that is shown around; their `Debug` shows nothing.
#[derive(Clone)]
pub struct Credentials {
    pub(super) key: String,
    pub(super) secret: String,
}

/// They cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error("cannot read the {what} of CloudStack in {}", path.display())]
    Read {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} holds no {what} of CloudStack: it is to hold the key alone, on one line", path.display())]
    Form { what: &'static str, path: PathBuf },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

impl Credentials {
    /// Reads both. Called anew whenever the server refuses them: an operator may have changed the files.
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn read(key: &Path, secret: &Path) -> Result<Self, Unusable> {
        Ok(Self { key: line("API key", key)?, secret: line("secret key", secret)? })
    }
}

fn line(what: &'static str, path: &Path) -> Result<String, Unusable> {
    let text = std::fs::read_to_string(path).map_err(|source| Unusable::Read {
        what,
        path: path.to_owned(),
        source,
    })?;
    let text = text.trim();
    match !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err(Unusable::Form { what, path: path.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_read_and_never_shown() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let [key, secret] = ["key", "secret"].map(|name| dir.path().join(name));
        std::fs::write(&key, "plgWJf\n")?;
        std::fs::write(&secret, "VDaACY\n")?;
        let read = Credentials::read(&key, &secret)?;
        assert_eq!((read.key.as_str(), read.secret.as_str()), ("plgWJf", "VDaACY"));
        assert_eq!(format!("{read:?}"), "Credentials(…)");
        for bad in ["", "\n", "two lines\nhere", "api key"] {
            std::fs::write(&secret, bad)?;
            let error = Credentials::read(&key, &secret).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains("holds no secret key"), "{bad:?}: {error}");
        }
        std::fs::remove_file(&secret)?;
        assert!(matches!(Credentials::read(&key, &secret), Err(Unusable::Read { .. })));
        Ok(())
    }
}
