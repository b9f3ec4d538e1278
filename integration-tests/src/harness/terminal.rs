//! The operator's terminal: the real `migratekit` against the world's control plane.

use super::{World, binary};
use anyhow::ensure;
use serde_json::Value;
use shared::tls::Role;
use std::process::Output;

impl World {
    /// `migratekit ARGUMENTS`, as the operator.
    ///
    /// # Errors
    /// When it cannot be run.
    pub async fn migratekit(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let files = self.ca.files(Role::Operator, "admin");
        let mut cli = tokio::process::Command::new(binary("migratekit")?);
        cli.args(arguments).args(["--oma", &self.address]);
        cli.arg("--ca").arg(&files.ca).arg("--cert").arg(&files.cert).arg("--key").arg(&files.key);
        Ok(cli.kill_on_drop(true).output().await?)
    }

    /// What it prints, of one that must succeed.
    ///
    /// # Errors
    /// When it does not.
    pub async fn said(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.migratekit(arguments).await?;
        ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The same, of `-o json`.
    ///
    /// # Errors
    /// When it does not succeed, or is no JSON.
    pub async fn said_json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let arguments: Vec<_> = arguments.iter().copied().chain(["-o", "json"]).collect();
        Ok(serde_json::from_str(&self.said(&arguments).await?)?)
    }

    /// Exit code and error, of one that must not succeed.
    ///
    /// # Errors
    /// When it does, or was ended by a signal.
    pub async fn refused(&self, arguments: &[&str]) -> anyhow::Result<(i32, String)> {
        let output = self.migratekit(arguments).await?;
        let code = output.status.code().filter(|code| *code != 0);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok((code.ok_or_else(|| anyhow::anyhow!("{arguments:?}: {}", output.status))?, error))
    }
}
