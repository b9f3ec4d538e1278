//! `migratekit failover test VM`

use super::super::client::{Channel, Connection, said};
use super::super::show::Output;
use super::{follow, one, subject};
use clap::{ArgGroup, Args};
use proto::v1;
use proto::v1::failover_service_client::FailoverServiceClient;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io::Write;

/// What a test is made of.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("ready").args(["ready_console", "ready_tcp", "ready_http", "ready_guest_agent"]))]
pub(super) struct Test {
    /// Name or uuid of the VM, or the migration's id.
    #[arg(value_name = "VM")]
    vm: String,
    /// Id of a restore point (`migration get` shows them). Default: the newest.
    #[arg(long, value_name = "ID")]
    restore_point: Option<String>,
    /// Remove the test by itself when its time is over.
    #[arg(long)]
    auto_cleanup: bool,
    /// How long it is kept then, such as 30m or 1h30m, at most 744h. Default: 24h.
    #[arg(long, value_name = "SPAN")]
    duration: Option<String>,
    /// Leave out what is policy (room, programs of the backend); what keeps data is looked at all the same.
    #[arg(long)]
    skip_validation: bool,
    /// Make no snapshot of the clones before they are changed.
    #[arg(long)]
    skip_snapshot: bool,
    /// Leave the guest's drivers as they are.
    #[arg(long)]
    skip_virtio_injection: bool,
    /// Which network of the target a network of the source becomes; it must not be live in any profile. May be repeated.
    /// Default: what the target profile says, else a network of its own.
    #[arg(long, value_name = "SRC=TARGET", value_parser = pair)]
    network: Vec<(String, String)>,
    /// Kept with the failover and shown; a number, true and false are taken as such. Known: cpu_count, memory_mb, disk_bus
    /// (virtio-blk, virtio-scsi, sata, ide). May be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    config: Vec<(String, String)>,
    /// The machine works when its serial console says this.
    #[arg(long, value_name = "TEXT")]
    ready_console: Option<String>,
    /// The machine works when its guest takes connections at this TCP port, such as 22.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    ready_tcp: Option<u16>,
    /// The machine works when a web server of its guest answers a GET, in clear: PORT, or PORT/PATH such as 80/health. No
    /// redirection is followed.
    #[arg(long, value_name = "PORT[/PATH]", value_parser = port_and_path)]
    ready_http: Option<(u16, String)>,
    /// Status that the answer has. Default: any from 200 to 399.
    #[arg(long, value_name = "STATUS", requires = "ready_http", value_parser = clap::value_parser!(u16).range(100..600))]
    ready_http_status: Option<u16>,
    /// Text that is in the first 64 KiB of the answer's body.
    #[arg(long, value_name = "TEXT", requires = "ready_http")]
    ready_http_text: Option<String>,
    /// The machine works when the QEMU guest agent in it answers.
    #[arg(long)]
    ready_guest_agent: bool,
    /// How long that is waited for after the start, such as 90s. Default: 5m.
    #[arg(long, value_name = "SPAN", requires = "ready")]
    ready_timeout: Option<String>,
    /// A machine that is not ready then is a failure, and taken back; by default it is a warning.
    #[arg(long, requires = "ready")]
    ready_required: bool,
    /// Wait for the end, with a line a step; exit code 1 when it failed.
    #[arg(long)]
    wait: bool,
}

/// What stands on both sides of the first `=`.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() && !value.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

/// `80` or `80/health?deep=1`.
fn port_and_path(text: &str) -> Result<(u16, String), String> {
    let (port, path) = text.find('/').map_or((text, "/"), |at| text.split_at(at));
    match port.parse() {
        Ok(port @ 1..) => Ok((port, path.to_owned())),
        Ok(0) | Err(_) => Err("write it as PORT or PORT/PATH, such as 80/health".to_owned()),
    }
}

/// Two values for one name; exit code 64.
#[derive(Debug, thiserror::Error)]
#[error("{option} {name:?} is given twice, as {one:?} and {other:?}")]
pub(crate) struct Twice {
    option: &'static str,
    name: String,
    one: String,
    other: String,
}

fn once(option: &'static str, given: &[(String, String)]) -> Result<BTreeMap<String, String>, Twice> {
    let mut all = BTreeMap::new();
    for (name, value) in given {
        if let Some(one) = all.insert(name.clone(), value.clone()) {
            return Err(Twice { option, name: name.clone(), one, other: value.clone() });
        }
    }
    Ok(all)
}

/// As JSON: what is none of its plain values is a text.
fn config(given: &BTreeMap<String, String>) -> String {
    let value = |text: &String| match serde_json::from_str(text) {
        Ok(plain @ (Value::Number(_) | Value::Bool(_))) => plain,
        _ => Value::String(text.clone()),
    };
    match given.is_empty() {
        true => String::new(),
        false => {
            Value::Object(given.iter().map(|(k, v)| (k.clone(), value(v))).collect::<Map<_, _>>()).to_string()
        }
    }
}

impl Test {
    /// What can be known of the arguments alone.
    pub(super) fn check(&self) -> Result<(), Twice> {
        once("--network", &self.network)?;
        once("--config", &self.config)?;
        Ok(())
    }

    fn ready(&mut self) -> Option<v1::FailoverReady> {
        let asked = self.ready_console.is_some()
            || self.ready_tcp.is_some()
            || self.ready_http.is_some()
            || self.ready_guest_agent;
        if !asked {
            return None;
        }
        let http = self.ready_http.take().map(|(port, path)| v1::FailoverHttp {
            port: port.into(),
            path,
            status: self.ready_http_status.map_or(0, u32::from),
            text: self.ready_http_text.take().unwrap_or_default(),
        });
        Some(v1::FailoverReady {
            console: self.ready_console.take().unwrap_or_default(),
            timeout: self.ready_timeout.take().unwrap_or_default(),
            required: self.ready_required,
            tcp_port: self.ready_tcp.map_or(0, u32::from),
            http,
            guest_agent: self.ready_guest_agent,
        })
    }

    fn request(mut self, vm: v1::Migration) -> Result<v1::FailoverServiceStartTestRequest, Twice> {
        let ready = self.ready();
        Ok(v1::FailoverServiceStartTestRequest {
            vm_id: vm.vm_uuid,
            vm_name: vm.vm_name,
            restore_point: self.restore_point.unwrap_or_default(),
            auto_cleanup: self.auto_cleanup,
            test_duration: self.duration.unwrap_or_default(),
            skip_validation: self.skip_validation,
            skip_snapshot: self.skip_snapshot,
            skip_virtio_injection: self.skip_virtio_injection,
            network_mappings: once("--network", &self.network)?.into_iter().collect(),
            custom_config: config(&once("--config", &self.config)?),
            wait_for_ready: ready,
        })
    }
}

pub(super) async fn run(
    test: Test,
    connection: &Connection,
    channel: Channel,
    output: Output,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let wait = test.wait;
    let vm = subject::vm(&channel, &test.vm).await?;
    let request = test.request(vm)?;
    let begun =
        FailoverServiceClient::new(channel.clone()).start_test(request).await.map_err(|s| said(&s))?;
    let begun = begun.into_inner().failover.unwrap_or_default();
    match wait {
        true => follow::until_done(connection, channel, begun, output, out).await,
        false => one(&begun, output, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_taken_once() {
        assert_eq!(pair("VM Network = lab=1"), Ok(("VM Network".to_owned(), "lab=1".to_owned())));
        for wrong in ["", "x", "=x", "x=", " = "] {
            pair(wrong).expect_err(wrong);
        }
        assert_eq!(port_and_path("80"), Ok((80, "/".to_owned())));
        assert_eq!(port_and_path("8080/health?a=/"), Ok((8080, "/health?a=/".to_owned())));
        for wrong in ["", "/", "0", "65536/", "http://x/", "-1/x", "80 /"] {
            port_and_path(wrong).expect_err(wrong);
        }
        let given = |all: &[(&str, &str)]| {
            let all: Vec<_> = all.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            once("--config", &all)
        };
        let said = given(&[("a", "1"), ("a", "2")]).expect_err("which?").to_string();
        assert!(said.contains("\"a\"") && said.contains("\"1\"") && said.contains("\"2\""), "{said}");
        let all = given(&[("memory_mb", "512"), ("disk_bus", "sata"), ("x", "[1]"), ("y", "true")]);
        let text = config(&all.expect("once each"));
        assert_eq!(text, r#"{"disk_bus":"sata","memory_mb":512,"x":"[1]","y":true}"#);
        assert_eq!(config(&BTreeMap::new()), "");
    }
}
