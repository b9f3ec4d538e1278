//! `migratekit failover report`.

use super::super::client::{Channel, said};
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use proto::v1;
use proto::v1::failover_service_client::FailoverServiceClient;
use std::io::Write;
use std::path::PathBuf;

/// Of which failover, and how.
#[derive(Debug, Args)]
pub(super) struct Report {
    /// The job, such as enhanced-test-failover-420570c7-f61f-a930-77c5-1e876786cb3c-1756882765.
    #[arg(value_name = "JOB")]
    job: String,
    /// What it is written in; html is one page, with all that it shows.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Write it there instead of to stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    Json,
    #[default]
    Markdown,
    Html,
}

impl From<Format> for v1::FailoverReportFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Json => Self::Json,
            Format::Markdown => Self::Markdown,
            Format::Html => Self::Html,
        }
    }
}

pub(super) async fn run(args: Report, channel: Channel, out: &mut impl Write) -> anyhow::Result<()> {
    let format = v1::FailoverReportFormat::from(args.format).into();
    let request = v1::FailoverServiceReportRequest { job_id: args.job, format };
    let answer = FailoverServiceClient::new(channel).report(request).await.map_err(|s| said(&s))?;
    let document = answer.into_inner().document;
    match args.out {
        None => Ok(out.write_all(document.as_bytes())?),
        Some(file) => {
            std::fs::write(&file, document).with_context(|| format!("cannot write {}", file.display()))?;
            Ok(writeln!(std::io::stderr(), "the report is in {}", file.display())?)
        }
    }
}
