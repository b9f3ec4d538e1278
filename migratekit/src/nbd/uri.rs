//! The address of an NBD export.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use super::Error;

/// An NBD URI whose server can be verified when it asks for TLS. `Display` leaves passwords out.
///
/// Libnbd 1.14 verifies a server's certificate only where it has a host name and finds `ca-cert.pem` in
/// `tls-certificates`. Over a Unix socket, without that parameter, or with a folder that is not there, it connects to
/// anyone (measured), so those are refused here.
#[derive(Clone, PartialEq, Eq)]
pub struct NbdUri(Arc<Parts>);

#[derive(PartialEq, Eq)]
struct Parts {
    raw: String,
    shown: String,
    tls: bool,
    socket: Option<PathBuf>,
    export: String,
}

impl NbdUri {
    /// The URI of the default export behind a Unix socket.
    pub fn unix(socket: &Path) -> Result<Self, Error> {
        Self::unix_export(socket, "")
    }

    /// The URI of the export `name` behind a Unix socket.
    pub fn unix_export(socket: &Path, name: &str) -> Result<Self, Error> {
        let mut raw = String::from("nbd+unix:///");
        encode(name.as_bytes(), &mut raw);
        raw.push_str("?socket=");
        encode(socket.as_os_str().as_encoded_bytes(), &mut raw);
        raw.parse()
    }

    /// As written, secrets included. For the library only.
    pub(super) fn raw(&self) -> &str {
        &self.0.raw
    }

    /// Whether the connection must be encrypted.
    pub fn is_tls(&self) -> bool {
        self.0.tls
    }

    /// The Unix socket it names.
    pub fn socket(&self) -> Option<&Path> {
        self.0.socket.as_deref()
    }

    /// The host it names; `None` for a Unix socket, which is on this machine.
    pub fn host(&self) -> Option<&str> {
        let place = self.0.shown.split_once("://")?.1.split(['/', '?']).next()?;
        let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
        let host = match place.strip_prefix('[') {
            Some(v6) => v6.split(']').next()?,
            None => place.split(':').next()?,
        };
        Some(host).filter(|host| !host.is_empty())
    }

    /// The name of the export; empty for the default one.
    pub fn export(&self) -> &str {
        &self.0.export
    }

    /// Whether `text` looks like an NBD URI (and not like a path).
    pub fn is_uri(text: &str) -> bool {
        text.split_once("://").is_some_and(|(scheme, _)| scheme.starts_with("nbd"))
    }
}

impl FromStr for NbdUri {
    type Err = Error;

    fn from_str(raw: &str) -> Result<Self, Error> {
        let shown = redact(raw);
        let bad = |detail: &str| Error::BadUri { uri: shown.clone(), detail: detail.to_owned() };
        let (scheme, rest) = raw.split_once("://").ok_or_else(|| bad("it has no scheme such as nbd://"))?;
        let (tls, unix) = match scheme {
            "nbd" | "nbd+vsock" => (false, false),
            "nbds" | "nbds+vsock" => (true, false),
            "nbd+unix" => (false, true),
            "nbds+unix" => (true, true),
            _ => {
                return Err(bad(
                    "the scheme must be nbd, nbds, nbd+unix, nbds+unix, nbd+vsock or nbds+vsock",
                ));
            }
        };
        if raw.bytes().any(|b| b == 0 || b.is_ascii_control() || b == b' ') {
            return Err(bad("it has a space or a control character in it: write it as %20"));
        }
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let export = place.split_once('/').map_or("", |(_, path)| path);
        let parameter = |name: &str| {
            query
                .split('&')
                .filter_map(|p| p.split_once('='))
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value)
        };
        let socket = parameter("socket").map(|s| PathBuf::from(decode(s)));
        if unix && socket.is_none() {
            return Err(bad("a Unix socket is named like this: nbd+unix:///EXPORT?socket=/run/disk.sock"));
        }
        if tls && parameter("tls-psk-file").is_none() {
            let named = scheme == "nbds";
            let folder = parameter("tls-certificates").map(|d| PathBuf::from(decode(d)));
            match folder {
                _ if !named => {
                    return Err(bad(
                        "the certificate of a server without a host name cannot be verified: use tls-psk-file=FILE, or nbds://HOST",
                    ));
                }
                None => {
                    return Err(bad(
                        "it does not say which CA to trust: add tls-certificates=DIR (with ca-cert.pem in it) or tls-psk-file=FILE",
                    ));
                }
                Some(dir) if std::fs::File::open(dir.join("ca-cert.pem")).is_err() => {
                    return Err(bad(&format!(
                        "{} cannot be read, so the server could not be verified",
                        dir.join("ca-cert.pem").display()
                    )));
                }
                Some(_) => {}
            }
        }
        Ok(Self(Arc::new(Parts { raw: raw.to_owned(), tls, socket, export: decode(export), shown })))
    }
}

impl fmt::Display for NbdUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.shown)
    }
}

impl fmt::Debug for NbdUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NbdUri({})", self.0.shown)
    }
}

/// Replaces the password of `scheme://user:password@host`.
fn redact(raw: &str) -> String {
    let Some((scheme, rest)) = raw.split_once("://") else { return raw.to_owned() };
    let authority = rest.split(['/', '?']).next().unwrap_or(rest);
    match authority
        .rsplit_once('@')
        .and_then(|(info, _)| info.split_once(':').map(|(user, _)| (info.len(), user)))
    {
        Some((end, user)) => format!("{scheme}://{user}:***{}", &rest[end..]),
        None => raw.to_owned(),
    }
}

fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let hex =
            |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
        match (byte, hex(ahead.next()), hex(ahead.next())) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                bytes = ahead;
            }
            _ => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn encode(bytes: &[u8], out: &mut String) {
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(uri: &str) -> String {
        uri.parse::<NbdUri>().expect_err(uri).to_string()
    }

    #[test]
    fn parts_are_found() {
        let uri = NbdUri::unix_export(Path::new("/run/a b/s.sock"), "disk 1").expect("valid");
        assert_eq!(uri.socket(), Some(Path::new("/run/a b/s.sock")));
        assert_eq!(uri.export(), "disk 1");
        assert_eq!(uri.to_string(), "nbd+unix:///disk%201?socket=/run/a%20b/s.sock");
        let tcp: NbdUri = "nbd://[::1]:10809/x".parse().expect("valid");
        assert_eq!((tcp.export(), tcp.is_tls(), tcp.socket()), ("x", false, None));
        assert!(NbdUri::is_uri("nbd://h") && !NbdUri::is_uri("/dev/sda") && !NbdUri::is_uri("http://h"));
    }

    #[test]
    fn passwords_are_not_shown() {
        let uri: NbdUri = "nbd://ann:secret@host:1/x".parse().expect("valid");
        assert_eq!(uri.to_string(), "nbd://ann:***@host:1/x");
        assert!(!format!("{uri:?}").contains("secret"));
        assert!(!refused("http://ann:secret@host/").contains("secret"));
        assert_eq!(
            "nbd://ann@host/a:b@c".parse::<NbdUri>().expect("valid").to_string(),
            "nbd://ann@host/a:b@c"
        );
    }

    #[test]
    fn what_cannot_be_verified_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let with = format!("nbds://host/?tls-certificates={}", dir.path().display());
        assert!(refused(&with).contains("ca-cert.pem cannot be read"));
        std::fs::write(dir.path().join("ca-cert.pem"), "").expect("written");
        assert!(with.parse::<NbdUri>().is_ok());
        assert!(refused("nbds://host/x").contains("tls-certificates=DIR"));
        let unix = format!("nbds+unix:///?socket=/s&tls-certificates={}", dir.path().display());
        assert!(refused(&unix).contains("cannot be verified"));
        assert!("nbds+unix://ann@/?socket=/s&tls-psk-file=/k".parse::<NbdUri>().is_ok());
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(refused("/dev/sda").contains("scheme"));
        assert!(refused("nbd+unix:///x").contains("?socket="));
        assert!(refused("nbd://a b/").contains("%20"));
        assert!(refused("nbd://a\0b/").contains("control"));
        assert_eq!(decode("%4"), "%4");
        assert_eq!(decode("a%zzb%41"), "a%zzbA");
    }
}
