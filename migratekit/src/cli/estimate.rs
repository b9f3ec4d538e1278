//! `migratekit migration estimate VM`

use super::client::{Channel, said};
use super::show::{Output, bytes};
use proto::v1;
use proto::v1::migration_service_client::MigrationServiceClient;
use serde_json::json;
use std::io::Write;
use std::time::Duration;

pub(super) async fn run(
    vm: String,
    channel: Channel,
    output: Output,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let request = v1::EstimateRequest { vm };
    let answer = MigrationServiceClient::new(channel).estimate(request).await.map_err(|s| said(&s))?;
    let e = answer.into_inner();
    match output {
        Output::Json => {
            let shown = json!({
                "size": e.size_bytes,
                "eta_ms": e.eta_ms,
                "transfer_bytes_second": e.transfer_bytes_second,
                "predicted_downtime_ms": e.predicted_downtime_ms,
                "dirty_bytes_second": e.dirty_bytes_second,
                "next_bytes": e.next_bytes,
                "trend": e.trend,
                "basis": e.basis,
            });
            writeln!(out, "{}", serde_json::to_string_pretty(&shown)?)?;
        }
        Output::Table | Output::Wide => write!(out, "{}", text(&e))?,
    }
    Ok(())
}

fn text(e: &v1::EstimateResponse) -> String {
    let time = |millis: u64| format!("{:.1} s", Duration::from_millis(millis).as_secs_f64());
    let basis = match e.basis.as_str() {
        "measured" => "this migration's own cycles",
        "agent_history" => "cycles of other VMs of its agent",
        _ => "nothing measured yet: a guess",
    };
    let unknown = || "not measured (it takes two cycles)".to_owned();
    let trend = match e.trend.as_str() {
        "converging" => "cycles that follow each other get shorter",
        "non_converging" => "the VM writes faster than is copied",
        _ => "not measured",
    };
    [
        ("size", bytes(e.size_bytes)),
        (
            "next cycle",
            e.next_bytes
                .zip(e.eta_ms)
                .map_or_else(unknown, |(next, eta)| format!("{}, {}", bytes(next), time(eta))),
        ),
        ("copied", format!("{}/s", bytes(e.transfer_bytes_second))),
        ("written", e.dirty_bytes_second.map_or_else(unknown, |rate| format!("{}/s", bytes(rate)))),
        (
            "downtime",
            e.predicted_downtime_ms.map_or_else(unknown, |millis| {
                format!("{} for the final cycle, and what the target takes to start", time(millis))
            }),
        ),
        ("trend", trend.to_owned()),
        ("based on", basis.to_owned()),
    ]
    .iter()
    .map(|(what, value)| format!("{what:<11} {value}\n"))
    .collect()
}
