//! Files that hold a secret.

use super::Finding;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Whether it is there, and nobody's but its owner's.
pub(crate) fn secret(what: &str, path: &Path) -> Finding {
    let shown = path.display();
    match std::fs::metadata(path) {
        Err(error) => {
            Finding::missing(what, format!("{shown} cannot be read ({error}): make it, readable for oma-api"))
        }
        Ok(file) if !file.is_file() => Finding::missing(what, format!("{shown} is no file")),
        Ok(file) if file.permissions().mode() & 0o077 != 0 => {
            let mode = file.permissions().mode() & 0o777;
            Finding::doubtful(
                what,
                format!("{shown} has mode {mode:04o}, so that others may read it: chmod 0600"),
            )
        }
        Ok(_) => Finding::well(what, format!("{shown}, which only its owner reads")),
    }
}
