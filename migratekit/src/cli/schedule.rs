//! `migratekit migration schedule …`

use super::client::{Channel, said};
use super::show::{self, Output};
use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use proto::v1;
use proto::v1::schedule_service_client::ScheduleServiceClient;
use serde_json::{Value, json};
use shared::config::{ByteSize, Period};
use std::io::Write;

#[derive(Debug, Subcommand)]
pub(super) enum Schedule {
    /// Give a VM's migration a schedule, in the place of the one it has.
    Set {
        /// Name or uuid of the VM, or the migration's id.
        #[arg(value_name = "VM")]
        vm: String,
        #[command(flatten)]
        spec: Spec,
        /// Only show when cycles would start.
        #[arg(long)]
        dry_run: bool,
    },
    /// Show it, and when the next cycle starts.
    Show {
        /// Name or uuid of the VM, or the migration's id.
        #[arg(value_name = "VM")]
        vm: String,
    },
    /// Take it away. A cycle that runs goes on.
    Clear {
        /// Name or uuid of the VM, or the migration's id.
        #[arg(value_name = "VM")]
        vm: String,
    },
    /// Show when cycles would start under a schedule; changes nothing.
    Preview {
        #[command(flatten)]
        spec: Spec,
        /// How many times.
        #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
        count: u32,
    },
}

/// What an operator writes.
#[derive(Debug, Args)]
pub(super) struct Spec {
    /// Between the starts of two cycles, such as 15m; at least 1m.
    #[arg(long, value_name = "SPAN", conflicts_with = "cron")]
    every: Option<Period>,
    /// Five fields, minute hour day-of-month month day-of-week, such as '30 2 * * mon-fri'.
    #[arg(long, value_name = "EXPRESSION")]
    cron: Option<String>,
    /// Of the cron expression and of all windows that name no other, such as Europe/Berlin. Default: UTC.
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// A window in which no cycle starts, such as 'mon-fri 08:00-18:00'. It may cross midnight, name its own time zone
    /// ('sat 22:00-06:00 Europe/Berlin'), and be given several times.
    #[arg(long, value_name = "WINDOW")]
    blackout: Vec<String>,
    /// What becomes of a cycle that runs when a blackout begins.
    #[arg(long, value_name = "WHAT", value_enum, default_value_t)]
    blackout_running: Running,
    /// How old the last restore point may get before it is said, such as 1h.
    #[arg(long, value_name = "SPAN")]
    rpo: Option<Period>,
    /// What its transfers may take in a window, such as 'mon-fri 08:00-18:00 20MiB' a second; 0 for no limit. May be given
    /// several times; outside of them `limit` holds.
    #[arg(long, value_name = "WINDOW RATE")]
    bandwidth: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Running {
    /// It is let end.
    #[default]
    Finish,
    /// It stops at a durable point and goes on behind the blackout.
    Pause,
}

impl Spec {
    fn to_wire(&self) -> anyhow::Result<v1::Schedule> {
        Ok(v1::Schedule {
            every_seconds: seconds("--every", self.every)?,
            cron: self.cron.clone().unwrap_or_default(),
            time_zone: self.time_zone.clone().unwrap_or_default(),
            blackout: self.blackout.clone(),
            blackout_running: match self.blackout_running {
                Running::Finish => v1::BlackoutRunning::Finish,
                Running::Pause => v1::BlackoutRunning::Pause,
            }
            .into(),
            rpo_seconds: seconds("--rpo", self.rpo)?,
            bandwidth: self.bandwidth.iter().map(|text| bandwidth(text)).collect::<anyhow::Result<_>>()?,
        })
    }
}

/// 0 on the wire is what was left out, so it cannot be what was written.
fn seconds(option: &str, period: Option<Period>) -> anyhow::Result<u64> {
    match period.map(|period| period.0.as_secs()) {
        Some(0) => anyhow::bail!("{option} is less than a second: give at least 1m"),
        seconds => Ok(seconds.unwrap_or(0)),
    }
}

/// The window, and behind its last space the rate.
fn bandwidth(text: &str) -> anyhow::Result<v1::BandwidthWindow> {
    let (window, rate) = text.trim().rsplit_once(' ').with_context(|| {
        format!("--bandwidth {text:?}: write a window and a rate, such as 'mon-fri 08:00-18:00 20MiB'")
    })?;
    let rate: ByteSize = rate.parse().with_context(|| format!("--bandwidth {text:?}"))?;
    Ok(v1::BandwidthWindow { window: window.trim().to_owned(), rate_bytes_per_second: rate.bytes() })
}

pub(super) async fn run(
    asked: Schedule,
    channel: Channel,
    output: Output,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut client = ScheduleServiceClient::new(channel);
    let state = match asked {
        Schedule::Set { spec, dry_run: true, .. } => return preview(client, &spec, 10, output, out).await,
        Schedule::Preview { spec, count } => return preview(client, &spec, count, output, out).await,
        Schedule::Set { vm, spec, dry_run: false } => {
            let request = v1::ScheduleServiceSetRequest { vm, schedule: Some(spec.to_wire()?) };
            client.set(request).await.map_err(|s| said(&s))?.into_inner().state
        }
        Schedule::Show { vm } => {
            let request = v1::ScheduleServiceGetRequest { vm };
            client.get(request).await.map_err(|s| said(&s))?.into_inner().state
        }
        Schedule::Clear { vm } => {
            client.delete(v1::ScheduleServiceDeleteRequest { vm }).await.map_err(|s| said(&s))?;
            return Ok(());
        }
    };
    let state = state.unwrap_or_default();
    match output {
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&state_json(&state))?)?,
        _ => {
            let next = match state.next_cycle_at.as_str() {
                "" => "-".to_owned(),
                at => format!("{} ({at})", show::when(at)),
            };
            writeln!(out, "schedule    {}\nnext cycle  {next}", state.text)?;
        }
    }
    Ok(())
}

async fn preview(
    mut client: ScheduleServiceClient<Channel>,
    spec: &Spec,
    count: u32,
    output: Output,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let request = v1::ScheduleServicePreviewRequest { schedule: Some(spec.to_wire()?), count };
    let times = client.preview(request).await.map_err(|s| said(&s))?.into_inner().times;
    match output {
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&json!({ "times": times }))?)?,
        _ if times.is_empty() => {
            writeln!(std::io::stderr(), "no cycle starts by itself: give --every or --cron")?
        }
        _ => times.iter().try_for_each(|time| writeln!(out, "{time}"))?,
    }
    Ok(())
}

/// As REST shows it.
fn state_json(state: &v1::ScheduleState) -> Value {
    let or_null = |text: &str| if text.is_empty() { Value::Null } else { json!(text) };
    let s = state.schedule.clone().unwrap_or_default();
    json!({
        "schedule": {
            "every_seconds": Some(s.every_seconds).filter(|seconds| *seconds > 0),
            "cron": or_null(&s.cron),
            "time_zone": s.time_zone,
            "blackout": s.blackout,
            "blackout_running": match s.blackout_running() {
                v1::BlackoutRunning::Pause => "pause",
                v1::BlackoutRunning::Finish | v1::BlackoutRunning::Unspecified => "finish",
            },
            "rpo_seconds": Some(s.rpo_seconds).filter(|seconds| *seconds > 0),
            "bandwidth": s.bandwidth.iter().map(|w| json!({
                "window": w.window, "rate_bytes_per_second": w.rate_bytes_per_second,
            })).collect::<Vec<_>>(),
        },
        "set_at": state.set_at,
        "next_cycle_at": or_null(&state.next_cycle_at),
        "text": state.text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bandwidth_is_a_window_and_a_rate() {
        let got = bandwidth("mon-fri 08:00-18:00 Europe/Berlin 20MiB").expect("one");
        assert_eq!(
            (got.window.as_str(), got.rate_bytes_per_second),
            ("mon-fri 08:00-18:00 Europe/Berlin", 20 << 20)
        );
        assert_eq!(bandwidth("daily 22:00-06:00 0").expect("no limit").rate_bytes_per_second, 0);
        for wrong in ["", "20MiB", "daily 22:00-06:00", "daily 22:00-06:00 fast"] {
            let error = format!("{:#}", bandwidth(wrong).expect_err("none"));
            assert!(error.contains("--bandwidth"), "{error}");
        }
    }

    #[test]
    fn no_interval_becomes_none_by_being_too_short() {
        assert!(seconds("--every", Some("500ms".parse().expect("a span"))).is_err());
        assert_eq!(seconds("--every", None).expect("left out"), 0);
    }
}
