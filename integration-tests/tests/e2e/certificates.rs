//! Who gets in: certificates that must be refused, each with its reason in both logs, and connections that say nothing.

use crate::hand::reason;
use anyhow::Context as _;
use integration_tests::harness::{Daemon, Options, World, binary, eventually, write_agent_config};
use migratekit::dev_ca::{Ca, Leaf, Validity};
use proto::v1;
use proto::v1::migration_service_client::MigrationServiceClient;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use shared::tls::{Files, Role};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};

const SOON: Duration = Duration::from_secs(60);

fn options() -> Options {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    Options::files(&[("root", &file)])
}

/// Issues a certificate and writes it beside the world's; peers are checked by the world's CA.
fn issue(world: &World, ca: &Ca, name: &str, leaf: &Leaf) -> anyhow::Result<Files> {
    let pair = ca.issue(leaf)?;
    let path = |ending: &str| world.dir.join(format!("{name}.{ending}"));
    let files = Files { ca: world.dir.join("ca/ca.pem"), cert: path("pem"), key: path("key") };
    world.ca.write(&pair, &files.cert, &files.key)?;
    Ok(files)
}

/// Waits until the daemon has logged a line with all of these, after its first `from` bytes.
async fn logged(daemon: &Daemon, from: usize, words: &[&str]) -> anyhow::Result<()> {
    eventually(&format!("a log line with {words:?}"), SOON, || async {
        let log = daemon.logged()?;
        let found = log[from..].lines().any(|line| words.iter().all(|word| line.contains(word)));
        Ok(found.then_some(()))
    })
    .await
    .with_context(|| daemon.logged().unwrap_or_default())
}

/// An agent with these certificates, dialling this address.
fn start_agent(world: &World, files: &Files, address: &str, name: &str) -> anyhow::Result<Daemon> {
    let name = format!("{name}.toml");
    write_agent_config(&world.dir, files, address, &options(), None, &name)?;
    Daemon::start("vma-agent", &world.dir.join(&name), &world.dir.join(format!("{name}.log")), &[])
}

/// A second OMA with these certificates, which says its port.
fn start_oma(world: &World, files: &Files, name: &str) -> anyhow::Result<(Daemon, String)> {
    let config = world.dir.join(format!("{name}.toml"));
    let [ca, cert, key] = [&files.ca, &files.cert, &files.key].map(|path| path.display().to_string());
    let state = world.dir.join(name).display().to_string();
    let text = format!(
        "listen = \"127.0.0.1:0\"\ndatabase_url = \"sqlite://{state}.db\"\nstate_dir = \"{state}\"\n\
         [tls]\nca = \"{ca}\"\ncert = \"{cert}\"\nkey = \"{key}\"\n\
         [storage]\nkind = \"local\"\npath = \"{state}.replicas\"\n[rest]\nlisten = \"127.0.0.1:0\"\n"
    );
    std::fs::write(&config, text)?;
    let mut oma = Daemon::start("oma-api", &config, &world.dir.join(format!("{name}.log")), &[])?;
    let ready = oma.wait_for("control plane ready", SOON)?;
    let port = ready.split("listen=127.0.0.1:").nth(1).and_then(|rest| rest.split_whitespace().next());
    let address = format!("localhost:{}", port.context("no port in the log")?);
    Ok((oma, address))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_not_valid_is_refused_in_both_logs() -> anyhow::Result<()> {
    let world = World::start(&options()).await?;
    let ours = world.ca.ca()?.context("made by the world")?;
    let stranger = Ca::new("A stranger's CA")?;
    // The same name, another key.
    let impostor = Ca::new("MigrateKit development CA")?;
    let good = Leaf::new(Role::Agent, "vma-01", &[]);
    let cases = [
        (
            "stranger",
            &stranger,
            good.clone(),
            "not signed by the configured CA",
            "not signed by the CA the peer trusts",
        ),
        ("impostor", &impostor, good.clone(), "but not its signature", "does not fit the CA the peer trusts"),
        (
            "expired",
            &ours,
            good.clone().valid(Validity::expired()),
            "has expired",
            "our certificate has expired",
        ),
        ("early", &ours, good.valid(Validity::not_yet()), "not yet valid", "expired or is not yet valid"),
    ];
    for (name, ca, leaf, in_oma, in_agent) in cases {
        let files = issue(&world, ca, name, &leaf)?;
        let from = world.oma.logged()?.len();
        let agent = start_agent(&world, &files, &world.address, name)?;
        logged(&world.oma, from, &["connection refused", in_oma]).await.context(name)?;
        logged(&agent, 0, &["the peer refused the connection", in_agent]).await.context(name)?;
    }
    // None at all.
    let from = world.oma.logged()?.len();
    let why = nobody(&world).await?;
    assert!(why.contains("CertificateRequired"), "{why}");
    logged(&world.oma, from, &["connection refused", "the peer presented no certificate"]).await
}

/// Shakes hands without a certificate, and says what came of it.
async fn nobody(world: &World) -> anyhow::Result<String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(world.dir.join("ca/ca.pem"))?)?;
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let tcp = TcpStream::connect(&world.address).await?;
    let name = ServerName::try_from("localhost")?;
    let shaken = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
    let outcome = match shaken {
        // In TLS 1.3 the refusal arrives after the client thinks it is done.
        Ok(mut stream) => stream.read_u8().await.map(|_| ()),
        Err(error) => Err(error),
    };
    Ok(format!("{:?}", outcome.err().context("was let in without a certificate")?))
}

/// The CA is right, the holder is not: neither of these may do what it asks.
#[tokio::test(flavor = "multi_thread")]
async fn a_valid_certificate_is_good_for_its_own_role_only() -> anyhow::Result<()> {
    let world = World::start(&options()).await?;
    let ours = world.ca.ca()?.context("made by the world")?;
    let mut unnamed = Leaf::new(Role::Agent, "vma-01", &[]);
    unnamed.uris.clear();
    let unnamed = issue(&world, &ours, "unnamed", &unnamed)?;
    let mut twice = Leaf::new(Role::Agent, "vma-01", &[]);
    twice.uris.push("spiffe://migratekit/operator/admin".to_owned());
    let twice = issue(&world, &ours, "twice", &twice)?;
    let [oma, agent, operator] = [(Role::Oma, "main"), (Role::Agent, "vma-01"), (Role::Operator, "admin")]
        .map(|(r, n)| world.ca.files(r, n));

    // The agent itself will not start with them...
    let ends = [
        (&unnamed, "no URI in its SAN"),
        (&twice, "more than one URI"),
        (&oma, "it is oma/main, not of role agent"),
    ];
    for (number, (files, why)) in ends.into_iter().enumerate() {
        let daemon = start_agent(&world, files, &world.address, &format!("misfit-{number}"))?;
        logged(&daemon, 0, &[why]).await?;
    }
    // ...and a program that does is refused by the OMA, which says why to both.
    let cases = [
        (&unnamed, Call::Agent, "CERTIFICATE_NAMES_NOBODY", "no URI in its SAN"),
        (&twice, Call::Operator, "CERTIFICATE_NAMES_NOBODY", "more than one URI"),
        (&oma, Call::Agent, "WRONG_ROLE", "this certificate is oma/main"),
        (&oma, Call::Operator, "WRONG_ROLE", "this certificate is oma/main"),
        (&agent, Call::Operator, "WRONG_ROLE", "this certificate is agent/vma-01"),
        (&operator, Call::Agent, "WRONG_ROLE", "this certificate is operator/admin"),
        (&operator, Call::Push, "WRONG_ROLE", "this certificate is operator/admin"),
    ];
    for (files, call, expected, why) in cases {
        let from = world.oma.logged()?.len();
        let status = call.make(&world, files).await?;
        assert_eq!(reason(&status), expected, "{call:?} with {}: {status:?}", files.cert.display());
        assert!(status.message().contains(why), "{status:?}");
        logged(&world.oma, from, &["request refused", why]).await?;
    }
    Ok(())
}

#[derive(Clone, Copy, Debug)]
enum Call {
    Agent,
    Push,
    Operator,
}

impl Call {
    /// The refusal.
    async fn make(self, world: &World, files: &Files) -> anyhow::Result<tonic::Status> {
        let channel = world.channel_as(files).await?;
        let refused = match self {
            Self::Operator => {
                let request = v1::ListRequest::default();
                MigrationServiceClient::new(channel).list(request).await.err()
            }
            Self::Agent => {
                let requests = tokio_stream::pending();
                v1::agent_service_client::AgentServiceClient::new(channel).connect(requests).await.err()
            }
            Self::Push => {
                let requests = tokio_stream::pending();
                v1::transfer_service_client::TransferServiceClient::new(channel).push(requests).await.err()
            }
        };
        refused.context("was not refused")
    }
}

/// The agent looks as closely at its OMA.
#[tokio::test(flavor = "multi_thread")]
async fn an_oma_that_is_not_one_is_refused_in_both_logs() -> anyhow::Result<()> {
    let world = World::start(&options()).await?;
    let ours = world.ca.ca()?.context("made by the world")?;
    let good = Leaf::new(Role::Oma, "other", &["localhost"]);
    let stranger = Ca::new("A stranger's CA")?;
    let cases = [
        ("oma-elsewhere", &ours, Leaf::new(Role::Oma, "other", &["elsewhere.example"]), "not valid for name"),
        ("oma-expired", &ours, good.clone().valid(Validity::expired()), "has expired"),
        ("oma-stranger", &stranger, good, "not signed by the configured CA"),
    ];
    for (name, ca, leaf, in_agent) in cases {
        let files = issue(&world, ca, name, &leaf)?;
        let (oma, address) = start_oma(&world, &files, name)?;
        let agent =
            start_agent(&world, &world.ca.files(Role::Agent, "vma-01"), &address, &format!("{name}-agent"))?;
        logged(&agent, 0, &[in_agent]).await.context(name)?;
        logged(&oma, 0, &["connection refused", "the peer refused the connection"]).await.context(name)?;
    }
    // Another agent's certificate, in the hands of somebody who listens: our own control plane does not start with it.
    let files = issue(&world, &ours, "oma-agent", &Leaf::new(Role::Agent, "vma-02", &["localhost"]))?;
    let refused = start_oma(&world, &files, "oma-agent").err().context("started as an agent")?;
    assert!(format!("{refused:#}").contains("it is agent/vma-02, not of role oma"), "{refused:#}");
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("localhost:{}", listener.local_addr()?.port());
    let acceptor = tokio_rustls::TlsAcceptor::from(files.server()?);
    let agent = start_agent(&world, &world.ca.files(Role::Agent, "vma-01"), &address, "to-an-agent")?;
    let (stream, _) = listener.accept().await?;
    let ended = acceptor.accept(stream).await;
    logged(&agent, 0, &["not an OMA but agent/vma-02"]).await?;
    drop(ended);
    Ok(())
}

/// Who is refused reads why, and not that a connection broke; and `--check-config` would have said it before.
#[tokio::test(flavor = "multi_thread")]
async fn the_refused_read_why() -> anyhow::Result<()> {
    let world = World::start(&options()).await?;
    let ours = world.ca.ca()?.context("made by the world")?;
    let expired = Leaf::new(Role::Operator, "admin", &[]).valid(Validity::expired());
    let files = issue(&world, &ours, "expired", &expired)?;
    for _ in 0..5 {
        let mut cli = std::process::Command::new(binary("migratekit")?);
        cli.args(["vm", "list", "--oma", &world.address]).arg("--ca").arg(&files.ca);
        let output = cli.arg("--cert").arg(&files.cert).arg("--key").arg(&files.key).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("has expired"), "{said}");
    }
    let expired = Leaf::new(Role::Agent, "vma-01", &[]).valid(Validity::expired());
    let files = issue(&world, &ours, "expired-agent", &expired)?;
    write_agent_config(&world.dir, &files, &world.address, &options(), None, "expired-agent.toml")?;
    let mut check = std::process::Command::new(binary("vma-agent")?);
    let output =
        check.arg("--check-config").arg("--config").arg(world.dir.join("expired-agent.toml")).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(64) && said.contains("has expired"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_cut_off_and_the_crowd_kept_out() -> anyhow::Result<()> {
    let mut world = World::start(&options()).await?;
    world.agent.kill();
    let config = world.dir.join("oma.toml");
    let text = std::fs::read_to_string(&config)?;
    std::fs::write(&config, text.replace("[limits]\n", "[limits]\nconnections = 3\n"))?;
    world.oma_restart(&[])?;
    let began = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(TcpStream::connect(&world.address).await?);
    }
    // One too many: closed at once, long before the others' time is up.
    let mut fourth = TcpStream::connect(&world.address).await?;
    let end = tokio::time::timeout(SOON, fourth.read(&mut [0; 1])).await?;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    logged(&world.oma, 0, &["too many are open", "limit=3"]).await?;
    for mut stream in silent {
        let end = tokio::time::timeout(SOON, stream.read(&mut [0; 1])).await?;
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
    assert!(began.elapsed() >= Duration::from_secs(3), "a silent peer had its 3 s for the handshake");
    logged(&world.oma, 0, &["connection refused", "no TLS handshake within 3s"]).await?;
    // A good certificate, and then nothing.
    let tcp = TcpStream::connect(&world.address).await?;
    let connector = tokio_rustls::TlsConnector::from(world.ca.files(Role::Operator, "admin").client()?);
    let mut stream = connector.connect(ServerName::try_from("localhost")?, tcp).await?;
    // The server's tickets, if any, are no application data: this read ends with the connection.
    let end = tokio::time::timeout(SOON, stream.read(&mut [0; 1])).await?;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    logged(&world.oma, 0, &["connection refused", "no HTTP/2 preface within 2s"]).await?;
    // The crowd is gone, and there is room again.
    MigrationServiceClient::new(world.channel().await?).list(v1::ListRequest::default()).await?;
    Ok(())
}
