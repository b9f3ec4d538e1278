//! `migratekit status`

use super::client::{Connection, said};
use super::show::{self, Output};
use clap::Args;
use comfy_table::Cell;
use proto::v1;
use proto::v1::status_service_client::StatusServiceClient;
use serde_json::json;
use std::io::Write;

/// Show how the control plane stands with what it needs: the target's servers, room there, and cycles that do not get on.
///
/// Asks the target nothing: it is what the control plane knows. Exit codes: 0; 1 when the control plane cannot be asked.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// How the result is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(args: Status, out: &mut impl Write) -> anyhow::Result<()> {
    let mut client = StatusServiceClient::new(args.connection.open().await?);
    let answer = client.get(v1::StatusServiceGetRequest {}).await.map_err(|s| said(&s))?;
    shown(&answer.into_inner(), args.output, out)
}

fn state_of(server: &v1::TargetServer) -> String {
    let name = server.state().as_str_name();
    name.strip_prefix("CIRCUIT_STATE_").unwrap_or(name).to_lowercase()
}

fn shown(status: &v1::StatusServiceGetResponse, output: Output, out: &mut impl Write) -> anyhow::Result<()> {
    if output == Output::Json {
        let servers = status.servers.iter().map(|of| {
            json!({ "name": of.name, "state": state_of(of), "silent_seconds": of.silent_seconds,
                    "why": Some(&of.why).filter(|why| !why.is_empty()) })
        });
        let waiting = status.waiting.iter().map(|of| {
            json!({ "migration_id": of.migration_id, "vm": of.vm, "job_id": of.job_id, "committing": of.committing,
                    "reason": of.reason, "message": of.message })
        });
        let all = json!({
            "version": status.version,
            "servers": servers.collect::<Vec<_>>(),
            "space_low": Some(&status.space_low).filter(|why| !why.is_empty()),
            "waiting": waiting.collect::<Vec<_>>(),
        });
        return Ok(writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?);
    }
    writeln!(out, "control plane  {}", status.version)?;
    for of in &status.servers {
        let why = match of.silent_seconds {
            0 if of.why.is_empty() => "answers".to_owned(),
            silent => format!("has not answered for {silent} s ({}): {}", state_of(of), of.why),
        };
        writeln!(out, "{:<13}  {why}", of.name)?;
    }
    let room = if status.space_low.is_empty() { "enough" } else { &status.space_low };
    writeln!(out, "room           {room}")?;
    if status.waiting.is_empty() {
        return Ok(writeln!(out, "waiting        none")?);
    }
    let mut table = show::table(&["VM", "WAITS", "REASON", "WHY"]);
    for of in &status.waiting {
        let what = if of.committing { "commit" } else { "cycle" };
        table.add_row([Cell::new(&of.vm), Cell::new(what), Cell::new(&of.reason), Cell::new(&of.message)]);
    }
    Ok(writeln!(out, "{table}")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_away_and_who_waits_for_it_are_shown() -> anyhow::Result<()> {
        let status = v1::StatusServiceGetResponse {
            version: "1.0".to_owned(),
            servers: vec![v1::TargetServer {
                name: "linstor".to_owned(),
                state: v1::CircuitState::HalfOpen.into(),
                silent_seconds: 45,
                why: "nobody there".to_owned(),
            }],
            waiting: vec![v1::WaitingCycle {
                vm: "web".to_owned(),
                committing: true,
                reason: "STORAGE_UNAVAILABLE".to_owned(),
                ..v1::WaitingCycle::default()
            }],
            ..v1::StatusServiceGetResponse::default()
        };
        let mut text = Vec::new();
        shown(&status, Output::Table, &mut text)?;
        let text = String::from_utf8(text)?;
        assert!(
            text.contains("linstor        has not answered for 45 s (half_open): nobody there"),
            "{text}"
        );
        assert!(text.contains("commit") && text.contains("STORAGE_UNAVAILABLE"), "{text}");
        let mut text = Vec::new();
        shown(&status, Output::Json, &mut text)?;
        let value: serde_json::Value = serde_json::from_slice(&text)?;
        assert_eq!(
            (&value["servers"][0]["state"], &value["waiting"][0]["vm"]),
            (&json!("half_open"), &json!("web"))
        );
        Ok(())
    }
}
