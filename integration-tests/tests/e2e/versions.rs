//! One side is a version older or newer than the other: they agree on what both know, and the rest is left out.
//!
//! The middle rewrites what they say into what another version would have said: fields left out that came later,
//! fields, messages and capabilities added that nobody here knows.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use integration_tests::harness::{Options, World, hash_file};
use integration_tests::middle::{Kind, Middle, Rewrite, message, unknown_field, unknown_message};
use proto::v1::{self, connect_request::Kind as Up, connect_response::Kind as Down};
use proto::v1::{push_request::Kind as Ask, push_response::Kind as Answer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// What a rewriting of decoded messages does to the bytes.
fn with<M: prost::Message + Default>(bytes: &Bytes, change: impl FnOnce(&mut M)) -> Vec<Bytes> {
    match M::decode(bytes.clone()) {
        Ok(mut decoded) => {
            change(&mut decoded);
            vec![message(&decoded)]
        }
        Err(_) => vec![bytes.clone()],
    }
}

fn hello(bytes: &Bytes, change: impl FnOnce(&mut v1::Hello)) -> Vec<Bytes> {
    with::<v1::ConnectRequest>(bytes, |m| {
        if let Some(Up::Hello(hello)) = &mut m.kind {
            change(hello);
        }
    })
}

fn welcome(bytes: &Bytes, change: impl FnOnce(&mut v1::Welcome)) -> Vec<Bytes> {
    with::<v1::ConnectResponse>(bytes, |m| {
        if let Some(Down::Welcome(welcome)) = &mut m.kind {
            change(welcome);
        }
    })
}

/// Before capabilities, before hashes of leaves in chunks.
fn older_agent() -> Rewrite {
    Arc::new(|kind: Option<&Kind>, bytes: Bytes| match kind.map(Kind::as_str) {
        Some("ConnectRequest.hello") => hello(&bytes, |hello| {
            hello.protocol_versions = vec![0, 1];
            hello.capabilities.clear();
            hello.software_version = "0.0.9".to_owned();
        }),
        Some("PushRequest.chunk") => with::<v1::PushRequest>(&bytes, |m| {
            if let Some(Ask::Chunk(chunk)) = &mut m.kind {
                chunk.leaf_hashes.clear();
            }
        }),
        _ => vec![bytes],
    })
}

/// Before capabilities, before compression.
fn older_oma() -> Rewrite {
    Arc::new(|kind: Option<&Kind>, bytes: Bytes| match kind.map(Kind::as_str) {
        Some("ConnectResponse.welcome") => welcome(&bytes, |welcome| {
            welcome.capabilities.clear();
            welcome.software_version = "0.0.9".to_owned();
        }),
        Some("PushResponse.opened") => with::<v1::PushResponse>(&bytes, |m| {
            if let Some(Answer::Opened(opened)) = &mut m.kind {
                opened.compressions.clear();
            }
        }),
        _ => vec![bytes],
    })
}

/// All that it says has a field more, it knows a version more, and it has something to say that is news to the other.
fn newer_agent() -> Rewrite {
    Arc::new(|kind: Option<&Kind>, bytes: Bytes| match kind.map(Kind::as_str) {
        Some("ConnectRequest.hello") => hello(&bytes, |hello| {
            hello.protocol_versions.push(2);
            hello.capabilities.push("teleport".to_owned());
        })
        .iter()
        .map(unknown_field)
        .collect(),
        Some(kind) if kind.starts_with("ConnectRequest.") => {
            vec![unknown_message(), unknown_field(&bytes), unknown_message()]
        }
        Some(kind) if kind.starts_with("PushRequest.") => vec![unknown_field(&bytes)],
        _ => vec![bytes],
    })
}

fn newer_oma() -> Rewrite {
    Arc::new(|kind: Option<&Kind>, bytes: Bytes| match kind.map(Kind::as_str) {
        Some("ConnectResponse.welcome") => {
            welcome(&bytes, |welcome| welcome.capabilities.push("teleport".to_owned()))
                .iter()
                .map(unknown_field)
                .collect()
        }
        Some(kind) if kind.starts_with("ConnectResponse.") => {
            vec![unknown_message(), unknown_field(&bytes), unknown_message()]
        }
        Some("PushResponse.opened") => with::<v1::PushResponse>(&bytes, |m| {
            if let Some(Answer::Opened(opened)) = &mut m.kind {
                // A compression that is news to the agent, and preferred.
                opened.compressions.insert(0, 77);
            }
        })
        .iter()
        .map(unknown_field)
        .collect(),
        Some(kind) if kind.starts_with("PushResponse.") => vec![unknown_field(&bytes)],
        _ => vec![bytes],
    })
}

/// A file that shrinks, with a hole.
fn disk(folder: &Path) -> anyhow::Result<PathBuf> {
    let path = folder.join("disk.raw");
    let line = "two sides that do not know all of each other\n".repeat(40);
    let mut text: Vec<u8> = (0..2000u32).flat_map(|n| format!("{n:>9} {line}").into_bytes()).collect();
    text.resize(usize::try_from(9 * MIB + 512)?, 0);
    std::fs::write(&path, text)?;
    Ok(path)
}

struct Between {
    world: World,
    middle: Middle,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Between {
    async fn start(rewrite: Rewrite) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = disk(folder.path())?;
        let mut options = Options::files(&[("root", &file)]);
        options.transfer.push_str("compression = \"fast\"\n");
        let mut world = World::start(&options).await?;
        let middle = Middle::between(&mut world).await?;
        middle.rewrite(rewrite);
        world.agent_restart()?;
        Ok(Self { world, middle, file, _folder: folder })
    }

    /// A full copy, one by comparison (a file has no change ids), a verification of either arm.
    async fn cycles(&self) -> anyhow::Result<()> {
        self.world.begin().await?;
        for round in 0..2u8 {
            std::os::unix::fs::FileExt::write_all_at(
                &std::fs::File::options().write(true).open(&self.file)?,
                &[round + 1; 100],
                u64::from(round) * 3 * MIB,
            )?;
            let m = self.world.sync().await?;
            ensure!(hash_file(&self.world.replica(&m, "root")?)? == hash_file(&self.file)?, "round {round}");
            ensure!(m.findings.is_empty() && m.error_reason.is_empty(), "{m:?}");
        }
        for source in [false, true] {
            let (verdict, mismatches) = self.world.verify(source).await?;
            ensure!(verdict.equal, "{mismatches:?}");
        }
        Ok(())
    }

    fn compressed(&self) -> u64 {
        self.middle.seen("PushRequest.compressed")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_one_version_older_is_served() -> anyhow::Result<()> {
    let between = Between::start(older_agent()).await?;
    between.cycles().await?;
    let last = between.world.agent.logged()?;
    ensure!(last.contains("version=1"), "{last}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_one_version_older_gets_no_compressed_chunk() -> anyhow::Result<()> {
    let between = Between::start(older_oma()).await?;
    between.cycles().await?;
    let plain = between.middle.seen("PushRequest.chunk");
    ensure!(between.compressed() == 0 && plain > 0, "{} compressed, {plain} plain", between.compressed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_one_version_newer_is_taken_at_what_is_known() -> anyhow::Result<()> {
    let between = Between::start(newer_agent()).await?;
    between.cycles().await?;
    ensure!(between.compressed() > 0, "nothing was compressed: the other test proves nothing");
    let welcomed = between.world.agent.logged()?;
    ensure!(welcomed.contains("version=1") && !welcomed.contains("teleport"), "{welcomed}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_one_version_newer_is_taken_at_what_is_known() -> anyhow::Result<()> {
    let between = Between::start(newer_oma()).await?;
    between.cycles().await?;
    ensure!(between.compressed() > 0, "a compression that is unknown keeps the known one from being used");
    Ok(())
}

/// Nothing in common: both sides say so, nothing fails, and it goes on when they fit again.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_common_version_both_say_so_and_nothing_fails() -> anyhow::Result<()> {
    let mut between = Between::start(Arc::new(|_: Option<&Kind>, bytes: Bytes| vec![bytes])).await?;
    between.world.begin().await?;
    between.middle.rewrite(Arc::new(|kind: Option<&Kind>, bytes: Bytes| match kind.map(Kind::as_str) {
        Some("ConnectRequest.hello") => hello(&bytes, |hello| hello.protocol_versions = vec![2, 3]),
        _ => vec![bytes],
    }));
    between.world.act(v1::Action::Sync).await?;
    between.middle.cut(integration_tests::middle::How::Close);
    let soon = Duration::from_secs(30);
    let said = between.world.agent.wait_for("the OMA refuses this agent", soon)?;
    ensure!(said.contains("NO_COMMON_VERSION") && said.contains("[2, 3]"), "{said}");
    between.world.oma.wait_for("agent refused", soon)?;
    let m = between.world.get().await?;
    ensure!(m.state() != v1::State::Failed, "{m:?}");
    between.middle.rewrite(newer_agent());
    between.world.agent_restart()?;
    let m = between.world.synced().await.context("fitting again")?;
    ensure!(hash_file(&between.world.replica(&m, "root")?)? == hash_file(&between.file)?);
    Ok(())
}
