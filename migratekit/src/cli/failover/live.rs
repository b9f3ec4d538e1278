//! `migratekit failover live VM`

use super::super::client::{Channel, Connection, said};
use super::super::show::Output;
use super::ready::Ready;
use super::test::{Twice, config, once, pair};
use super::{follow, one, subject};
use clap::{Args, ValueEnum};
use proto::v1;
use proto::v1::failover_service_client::FailoverServiceClient;
use std::io::Write;

/// How a VM moves.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: migratekit failover live shop-db --ready-console login: --commit-policy rollback \
--commit-timeout 2h --wait"
)]
pub(super) struct Live {
    /// Name or uuid of the VM, or the migration's id.
    #[arg(value_name = "VM")]
    vm: String,
    /// Without the source, as of a restore point: what the VM wrote after it is lost.
    #[arg(long, conflicts_with_all = ["power_off_timeout", "force_power_off"])]
    unplanned: bool,
    /// How much of what the VM wrote last may be lost, such as 15m; refused where it is more.
    #[arg(long, value_name = "SPAN", requires = "unplanned")]
    accept_loss: Option<String>,
    /// Id of a restore point (`migration get` shows them). Default: the newest. A planned failover makes its own.
    #[arg(long, value_name = "ID", requires = "unplanned")]
    restore_point: Option<String>,
    /// How long the guest may take to power itself off, such as 5m; 0s: cut its power at once, with --force-power-off. Default: 5m.
    #[arg(long, value_name = "SPAN")]
    power_off_timeout: Option<String>,
    /// Cut its power when that time is over; by default the failover is taken back then.
    #[arg(long)]
    force_power_off: bool,
    /// What becomes of it when nobody commits it or rolls it back. Default: none, it waits.
    #[arg(long, value_enum)]
    commit_policy: Option<CommitPolicy>,
    /// When that is done, from its success on, such as 2h, at most 744h. Default: 24h.
    #[arg(long, value_name = "SPAN", requires = "commit_policy")]
    commit_timeout: Option<String>,
    /// Do without what policy asks for (a passed test; the source's verification where there is no source), for this reason, which
    /// is recorded.
    #[arg(long = "override", value_name = "REASON")]
    override_reason: Option<String>,
    /// Leave out what is policy (room, programs of the backend); what keeps data is looked at all the same.
    #[arg(long)]
    skip_validation: bool,
    /// Make no snapshot of the clones before they are changed.
    #[arg(long)]
    skip_snapshot: bool,
    /// Leave the guest's drivers as they are.
    #[arg(long)]
    skip_virtio_injection: bool,
    /// Which network of the target a network of the source becomes. May be repeated. Default: what the target profile says, else
    /// a network of its own.
    #[arg(long, value_name = "SRC=TARGET", value_parser = pair)]
    network: Vec<(String, String)>,
    /// Kept with the failover and shown; a number, true and false are taken as such. Known: cpu_count, memory_mb, disk_bus
    /// (virtio-blk, virtio-scsi, sata, ide). May be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    config: Vec<(String, String)>,
    /// Kept with the failover and shown, such as email=admin@example.org. May be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    notify: Vec<(String, String)>,
    #[command(flatten)]
    ready: Ready,
    /// Wait for the end, with a line a step; exit code 1 when it failed.
    #[arg(long)]
    wait: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CommitPolicy {
    /// It waits.
    None,
    /// It is committed.
    Commit,
    /// It is taken back.
    Rollback,
}

impl CommitPolicy {
    const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Commit => "commit",
            Self::Rollback => "rollback",
        }
    }
}

impl Live {
    /// What can be known of the arguments alone.
    pub(super) fn check(&self) -> Result<(), Twice> {
        once("--network", &self.network)?;
        once("--config", &self.config)?;
        once("--notify", &self.notify)?;
        Ok(())
    }

    fn request(self, vm: v1::Migration) -> Result<v1::FailoverServiceStartLiveRequest, Twice> {
        let power_off = v1::FailoverPowerOff {
            timeout: self.power_off_timeout.unwrap_or_default(),
            force: self.force_power_off,
        };
        Ok(v1::FailoverServiceStartLiveRequest {
            vm_id: vm.vm_uuid,
            vm_name: vm.vm_name,
            skip_validation: self.skip_validation,
            skip_snapshot: self.skip_snapshot,
            skip_virtio_injection: self.skip_virtio_injection,
            network_mappings: once("--network", &self.network)?.into_iter().collect(),
            custom_config: config(&once("--config", &self.config)?),
            notification_config: config(&once("--notify", &self.notify)?),
            wait_for_ready: self.ready.into(),
            unplanned: self.unplanned,
            restore_point: self.restore_point.unwrap_or_default(),
            accept_loss: self.accept_loss.unwrap_or_default(),
            power_off: (!self.unplanned).then_some(power_off),
            commit_policy: self.commit_policy.map(CommitPolicy::as_str).unwrap_or_default().to_owned(),
            commit_timeout: self.commit_timeout.unwrap_or_default(),
            override_reason: self.override_reason.unwrap_or_default(),
        })
    }
}

pub(super) async fn run(
    live: Live,
    connection: &Connection,
    channel: Channel,
    output: Output,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let wait = live.wait;
    let vm = subject::vm(&channel, &live.vm).await?;
    let request = live.request(vm)?;
    let begun =
        FailoverServiceClient::new(channel.clone()).start_live(request).await.map_err(|s| said(&s))?;
    let begun = begun.into_inner().failover.unwrap_or_default();
    match wait {
        true => follow::until_done(connection, channel, begun, output, out).await,
        false => one(&begun, output, out),
    }
}

/// `migratekit failover rollback`
pub(super) async fn roll_back(
    which: super::Decided,
    connection: &Connection,
    channel: Channel,
    output: Output,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let job_id = subject::live_of(&channel, &which.of).await?;
    let request = v1::FailoverServiceRollbackRequest { job_id };
    let begun = FailoverServiceClient::new(channel.clone()).rollback(request).await.map_err(|s| said(&s))?;
    let begun = begun.into_inner().failover.unwrap_or_default();
    match which.wait {
        true => follow::until_back(connection, channel, begun, output, out).await,
        false => one(&begun, output, out),
    }
}

/// `migratekit failover commit`
pub(super) async fn commit(
    which: super::Decided,
    channel: Channel,
    output: Output,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let job_id = subject::live_of(&channel, &which.of).await?;
    let request = v1::FailoverServiceCommitRequest { job_id };
    let answer = FailoverServiceClient::new(channel.clone()).commit(request).await.map_err(|s| said(&s))?;
    let committed = answer.into_inner().failover.unwrap_or_default();
    let left = match which.wait {
        true => follow::settled(&channel, &committed.migration_id, follow::REMOVAL).await?,
        false => None,
    };
    one(&committed, output, out)?;
    match left {
        Some(why) => anyhow::bail!("it is committed, but not all of the replica could be removed: {why}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        live: Live,
    }

    fn request(line: &str) -> Result<v1::FailoverServiceStartLiveRequest, String> {
        let line = Line::try_parse_from(["live", "web"].into_iter().chain(line.split_whitespace()));
        let vm =
            v1::Migration { vm_uuid: "u".to_owned(), vm_name: "web".to_owned(), ..v1::Migration::default() };
        line.map_err(|e| e.to_string())?.live.request(vm).map_err(|e| e.to_string())
    }

    #[test]
    fn a_line_says_how_a_vm_moves() {
        let usual = request("").expect("good");
        assert_eq!(usual.power_off, Some(v1::FailoverPowerOff::default()));
        assert_eq!((usual.vm_id.as_str(), usual.vm_name.as_str(), usual.unplanned), ("u", "web", false));
        let line = "--power-off-timeout 0s --force-power-off --commit-policy rollback --commit-timeout 2h \
                    --override fire --network LAN=prod --notify email=a@b --config memory_mb=512 \
                    --ready-console login: --ready-timeout 90s --ready-required";
        let all = request(line).expect("good");
        assert_eq!(all.power_off, Some(v1::FailoverPowerOff { timeout: "0s".to_owned(), force: true }));
        assert_eq!((all.commit_policy.as_str(), all.commit_timeout.as_str()), ("rollback", "2h"));
        assert_eq!((all.override_reason.as_str(), &all.network_mappings["LAN"][..]), ("fire", "prod"));
        assert_eq!(all.notification_config, r#"{"email":"a@b"}"#);
        assert_eq!(all.custom_config, r#"{"memory_mb":512}"#);
        let ready = all.wait_for_ready.expect("asked for");
        assert_eq!((ready.console.as_str(), ready.timeout.as_str(), ready.required), ("login:", "90s", true));
        let lost = request("--unplanned --accept-loss 15m --restore-point rp").expect("good");
        assert_eq!((lost.unplanned, lost.accept_loss.as_str(), lost.power_off), (true, "15m", None));
    }

    #[test]
    fn what_has_no_meaning_together_is_refused() {
        for line in [
            "--accept-loss 15m",
            "--restore-point rp",
            "--unplanned --force-power-off",
            "--unplanned --power-off-timeout 5m",
            "--commit-timeout 2h",
            "--commit-policy perhaps",
            "--network a=1 --network a=2",
        ] {
            request(line).expect_err(line);
        }
    }
}
