//! `migratekit failover test VM`

use super::super::client::{Channel, Connection, said};
use super::super::show::Output;
use super::ready::Ready;
use super::{follow, one, subject};
use clap::Args;
use proto::v1;
use proto::v1::failover_service_client::FailoverServiceClient;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io::Write;

/// What a test is made of.
#[derive(Debug, Args)]
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
    #[command(flatten)]
    ready: Ready,
    /// Wait for the end, with a line a step; exit code 1 when it failed.
    #[arg(long)]
    wait: bool,
}

/// What stands on both sides of the first `=`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() && !value.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("write it as NAME=VALUE".to_owned()),
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

pub(super) fn once(
    option: &'static str,
    given: &[(String, String)],
) -> Result<BTreeMap<String, String>, Twice> {
    let mut all = BTreeMap::new();
    for (name, value) in given {
        if let Some(one) = all.insert(name.clone(), value.clone()) {
            return Err(Twice { option, name: name.clone(), one, other: value.clone() });
        }
    }
    Ok(all)
}

/// As JSON: what is none of its plain values is a text.
pub(super) fn config(given: &BTreeMap<String, String>) -> String {
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

    fn request(self, vm: v1::Migration) -> Result<v1::FailoverServiceStartTestRequest, Twice> {
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
            wait_for_ready: self.ready.into(),
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
