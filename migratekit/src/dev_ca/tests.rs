use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use shared::tls::Identity;

use super::*;

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("one certificate")
}

/// What a client that trusts `ca` thinks of a server with this certificate, dialled as `host`.
fn accepts(ca: &Ca, pair: &Pair, host: &'static str) -> Result<(), rustls::Error> {
    shared::tls::install_provider();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(der(&ca.pair().cert_pem)).expect("a CA");
    let verifier =
        rustls::client::WebPkiServerVerifier::builder(Arc::new(roots)).build().expect("a verifier");
    let host = ServerName::try_from(host).expect("a name");
    verifier.verify_server_cert(&der(&pair.cert_pem), &[], &host, &[], UnixTime::now()).map(drop)
}

#[test]
fn a_good_certificate_is_accepted_and_says_who_it_is() {
    let ca = Ca::new("test").expect("a CA");
    let pair = ca
        .issue(&Leaf::new(Role::Agent, "vma-01", &["localhost", "127.0.0.1", "::1"]))
        .expect("a certificate");
    for host in ["localhost", "127.0.0.1", "::1"] {
        accepts(&ca, &pair, host).expect(host);
    }
    let identity = Identity::of_certificate(&der(&pair.cert_pem)).expect("an identity");
    assert_eq!(identity.to_string(), "agent/vma-01");
}

#[test]
fn each_bad_certificate_is_refused_for_its_own_reason() {
    use rustls::CertificateError as Why;
    let ca = Ca::new("test").expect("a CA");
    let other = Ca::new("test").expect("another CA of the same name");
    let good = Leaf::new(Role::Oma, "oma", &["localhost"]);
    let why = |issuer: &Ca, leaf: &Leaf, host| match accepts(
        &ca,
        &issuer.issue(leaf).expect("a certificate"),
        host,
    ) {
        Err(rustls::Error::InvalidCertificate(why)) => why,
        other => panic!("should be refused: {other:?}"),
    };
    let expired = why(&ca, &good.clone().valid(Validity::expired()), "localhost");
    assert!(matches!(expired, Why::Expired | Why::ExpiredContext { .. }), "{expired:?}");
    let early = why(&ca, &good.clone().valid(Validity::not_yet()), "localhost");
    assert!(matches!(early, Why::NotValidYet | Why::NotValidYetContext { .. }), "{early:?}");
    let name = why(&ca, &good, "example.org");
    assert!(matches!(name, Why::NotValidForName | Why::NotValidForNameContext { .. }), "{name:?}");
    let issuer = why(&other, &good, "localhost");
    assert!(matches!(issuer, Why::UnknownIssuer | Why::BadSignature), "{issuer:?}");
}

#[test]
fn names_that_cannot_stand_in_a_certificate_are_refused() {
    let ca = Ca::new("test").expect("a CA");
    let error = ca.issue(&Leaf::new(Role::Oma, "oma", &["bücher.example"])).expect_err("not ASCII");
    assert!(error.to_string().contains("bücher.example"), "{error}");
}

#[test]
fn private_keys_do_not_show_in_debug() {
    let ca = Ca::new("test").expect("a CA");
    let pair = ca.issue(&Leaf::new(Role::Oma, "oma", &[])).expect("a certificate");
    assert!(!format!("{ca:?} {pair:?}").contains("PRIVATE KEY"));
}

fn holder(role: Role, name: &str) -> Holder {
    let name = name.parse().expect("a name");
    Holder { role, name, hosts: vec!["localhost".to_owned()] }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a file")
}

#[test]
fn a_folder_is_made_whole_and_works() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let out = dir.path().join("new").join("tls");
    let holders = [holder(Role::Oma, "oma"), holder(Role::Agent, "a"), holder(Role::Agent, "b")];
    let made = make(&Folder::new(&out), &holders, 30, Existing::Refuse).expect("made");
    assert!(!made.reused_ca);
    assert_eq!(made.files.len(), 3);
    for (files, holder) in made.files.iter().zip(&holders) {
        files.server().expect("usable by a listener");
        files.client().expect("usable for dialling");
        let identity = files.identity().expect("an identity");
        assert_eq!((identity.role, &identity.name), (holder.role, &holder.name));
        let mode = std::fs::metadata(&files.key).expect("the key").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", files.key.display());
    }
    let ca_mode = std::fs::metadata(out.join("ca.key")).expect("the CA's key").permissions().mode();
    assert_eq!(ca_mode & 0o777, 0o600);
    let names: Vec<_> =
        std::fs::read_dir(&out).expect("the folder").map(|e| e.expect("an entry").file_name()).collect();
    assert_eq!(names.len(), 8, "a pair for the CA and each holder, nothing left over: {names:?}");
}

#[test]
fn nothing_is_overwritten_without_being_asked() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let folder = Folder::new(dir.path());
    let first = make(&folder, &[holder(Role::Oma, "oma")], 30, Existing::Refuse).expect("made");
    let before = [read(&first.files[0].cert), read(&first.files[0].key), read(&first.files[0].ca)];
    let again = make(&folder, &[holder(Role::Agent, "a")], 30, Existing::Refuse).expect_err("a CA is there");
    assert!(matches!(&again, Error::Exists { path } if path.ends_with("ca.pem")), "{again:?}");
    assert!(!folder.files(Role::Agent, "a").cert.exists(), "nothing was written");

    let wide = dir.path().join("oma-oma.key.new");
    std::fs::write(&wide, "left over").expect("a file with wide rights");
    let second = make(&folder, &[holder(Role::Oma, "oma")], 30, Existing::Replace).expect("replaced");
    assert!(second.reused_ca);
    assert_eq!(read(&second.files[0].ca), before[2], "the CA is the same");
    assert_ne!(read(&second.files[0].cert), before[0]);
    assert_ne!(read(&second.files[0].key), before[1]);
    second.files[0].server().expect("certificate and key belong together");
    let mode = std::fs::metadata(&second.files[0].key).expect("the key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let ca = folder.ca().expect("readable").expect("there");
    let pair = Pair { cert_pem: read(&second.files[0].cert), key_pem: String::new() };
    accepts(&ca, &pair, "localhost").expect("issued by the CA that was there before");
}

#[test]
fn half_a_ca_is_named() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let folder = Folder::new(dir.path());
    make(&folder, &[], 30, Existing::Refuse).expect("made");
    std::fs::remove_file(dir.path().join("ca.key")).expect("removed");
    let error = make(&folder, &[], 30, Existing::Replace).expect_err("the key is gone");
    assert!(matches!(&error, Error::HalfCa { path } if path.ends_with("ca.key")), "{error:?}");
}

#[test]
fn a_bad_host_leaves_no_file() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let mut bad = holder(Role::Agent, "a");
    bad.hosts.push("ü".to_owned());
    make(&Folder::new(dir.path()), &[holder(Role::Oma, "oma"), bad], 30, Existing::Refuse)
        .expect_err("no DNS name");
    assert_eq!(std::fs::read_dir(dir.path()).expect("the folder").count(), 0);
}
