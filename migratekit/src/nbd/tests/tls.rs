//! Whom a TLS connection trusts.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::*;

/// A CA of its own, with a server's certificate for `host`, as libnbd and nbdkit want the files named.
fn certificates(dir: &Path, host: &str) {
    std::fs::create_dir_all(dir).expect("made");
    let mut ca = CertificateParams::new(Vec::new()).expect("valid");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().expect("a key")).expect("signed");
    let key = KeyPair::generate().expect("a key");
    let mut server = CertificateParams::new(vec![host.to_owned()]).expect("valid");
    server.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let server = server.signed_by(&key, &ca).expect("signed");
    for (name, text) in [
        ("ca-cert.pem", ca.pem()),
        ("server-cert.pem", server.pem()),
        ("server-key.pem", key.serialize_pem()),
    ] {
        std::fs::write(dir.join(name), text).expect("written");
    }
}

fn connect_to(port: u16, ca: &Path) -> Result<u64, Error> {
    let uri: NbdUri = format!("nbds://localhost:{port}/?tls-certificates={}", ca.display()).parse()?;
    connect(&uri, &ConnectOptions::default()).map(|handle| handle.export().size)
}

#[test]
fn only_a_server_of_the_right_ca_and_name_is_trusted() {
    let dir = tempfile::tempdir().expect("a folder");
    let (ours, theirs, named) =
        (dir.path().join("ours"), dir.path().join("theirs"), dir.path().join("named"));
    certificates(&ours, "localhost");
    certificates(&theirs, "localhost");
    certificates(&named, "elsewhere");
    let tls = |certificates: &Path| format!("--tls-certificates={}", certificates.display());

    let (_server, port) = Server::nbdkit_tcp(&["--tls=require", &tls(&ours), "memory", "1M"]);
    assert_eq!(connect_to(port, &ours).expect("trusted"), 1 << 20);
    let error = connect_to(port, &theirs).expect_err("another CA");
    assert!(matches!(error, Error::Tls { .. }), "{error:?}");
    let plain: NbdUri = format!("nbd://localhost:{port}/").parse().expect("valid");
    let error = connect(&plain, &quick()).err().expect("the server wants TLS");
    assert!(error.to_string().contains("use nbds://"), "{error}");

    let (_server, port) = Server::nbdkit_tcp(&["--tls=require", &tls(&named), "memory", "1M"]);
    let error = connect_to(port, &named).expect_err("another name");
    assert!(matches!(error, Error::Tls { .. }), "{error:?}");

    let (_server, port) = Server::nbdkit_tcp(&["--tls=off", "memory", "1M"]);
    let error = connect_to(port, &ours).expect_err("no TLS at all");
    assert!(matches!(error, Error::Tls { .. }), "{error:?}");
}

#[test]
fn a_shared_key_works_over_a_unix_socket() {
    let server = Server::nbdkit_with(&["--tls=require", "--tls-psk={dir}/keys", "memory", "1M"], |dir| {
        std::fs::write(dir.join("keys"), format!("ann:{}\n", "5a".repeat(32))).expect("written");
        std::fs::write(dir.join("wrong"), format!("ann:{}\n", "a5".repeat(32))).expect("written");
    });
    let uri = |keys: &str| -> NbdUri {
        let (socket, keys) = (server.socket(), server.dir().join(keys));
        format!("nbds+unix://ann@/?socket={}&tls-psk-file={}", socket.display(), keys.display())
            .parse()
            .expect("valid")
    };
    assert_eq!(open(&uri("keys")).export().size, 1 << 20);
    assert!(matches!(connect(&uri("wrong"), &quick()), Err(Error::Tls { .. })));
}
