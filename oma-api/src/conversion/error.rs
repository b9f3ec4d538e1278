//! Why a guest could not be looked at or converted.

use super::fish;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "{program} is not here: install the package {package} (looked for in {looked}), or run `deploy/install-deps.sh conversion`"
    )]
    NoTool { program: String, package: &'static str, looked: String },
    #[error(
        "there are no virtio drivers for Windows in {}: put virtio-win.iso, or its content, there, or set \
         conversion.virtio_win to where they are", looked.display()
    )]
    NoVirtioWin { looked: PathBuf },
    #[error(
        "neither rhsrvany.exe nor pvvxsvc.exe is in {}: put it there, or set conversion.virt_tools to the folder \
         that has it", looked.display()
    )]
    NoRhsrvany { looked: PathBuf },
    #[error("a guest without disks cannot be converted")]
    NoDisks,
    #[error("the disk {} cannot be used", path.display())]
    Disk {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the guest's disks cannot be looked at, nothing was written")]
    Look {
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The tool ended well all the same.
    #[error(
        "{guest} was not made ready for virtio: {said}; add drivers for it to {}, and begin with a new clone",
        looked.display()
    )]
    NoDrivers { guest: String, said: String, looked: PathBuf, tail: Vec<String> },
    /// The tool ended well all the same.
    #[error("{guest} was converted and would still not boot: {why}; see the log of the conversion")]
    StillMissing { guest: String, why: String, tail: Vec<String> },
    #[error(
        "{guest} could not be converted ({status}): {why}; the clone may be damaged, begin with a new one"
    )]
    Failed { guest: String, status: String, why: String, tail: Vec<String> },
    #[error("stopped{}", left(.wrote))]
    Stopped { wrote: Wrote, tail: Vec<String> },
    #[error("not done after {} s{}", after.as_secs(), left(.wrote))]
    TooLong { after: Duration, wrote: Wrote, tail: Vec<String> },
    #[error("{program} cannot be run")]
    Run {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot {what} {}", place.display())]
    Io {
        what: &'static str,
        place: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// What an attempt that was cut off did to the disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrote {
    Nothing,
    /// They may be half converted.
    Perhaps,
}

fn left(wrote: &Wrote) -> &'static str {
    match wrote {
        Wrote::Nothing => ", nothing was written",
        Wrote::Perhaps => ": the clone may be half converted, begin with a new one",
    }
}

impl Error {
    /// By which an operator, and what he scripts, knows it.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Stopped { .. } => "VIRTIO_STOPPED",
            Self::NoTool { .. } | Self::NoVirtioWin { .. } | Self::NoRhsrvany { .. } => "VIRTIO_PREREQUISITE",
            Self::NoDisks
            | Self::Disk { .. }
            | Self::Look { .. }
            | Self::NoDrivers { .. }
            | Self::StillMissing { .. }
            | Self::Failed { .. }
            | Self::TooLong { .. }
            | Self::Run { .. }
            | Self::Io { .. } => "VIRTIO_FAILED",
        }
    }

    /// The last lines of what the tool printed; empty if it was not run.
    pub fn log_tail(&self) -> &[String] {
        match self {
            Self::NoDrivers { tail, .. }
            | Self::StillMissing { tail, .. }
            | Self::Failed { tail, .. }
            | Self::Stopped { tail, .. }
            | Self::TooLong { tail, .. } => tail,
            Self::NoTool { .. }
            | Self::NoVirtioWin { .. }
            | Self::NoRhsrvany { .. }
            | Self::NoDisks
            | Self::Disk { .. }
            | Self::Look { .. }
            | Self::Run { .. }
            | Self::Io { .. } => &[],
        }
    }
}

impl From<fish::Error> for Error {
    fn from(source: fish::Error) -> Self {
        Self::Look { source: source.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_to_do_and_what_was_written() {
        let tail = vec!["Finishing off".to_owned()];
        let cut = |wrote| Error::Stopped { wrote, tail: tail.clone() };
        assert_eq!(cut(Wrote::Nothing).to_string(), "stopped, nothing was written");
        assert!(cut(Wrote::Perhaps).to_string().contains("half converted"));
        let failed = Error::NoDrivers {
            guest: "Windows Server 2019".into(),
            said: "there are none".into(),
            looked: "/srv/vw".into(),
            tail: tail.clone(),
        };
        assert_eq!((failed.code(), failed.log_tail()), ("VIRTIO_FAILED", tail.as_slice()));
        assert!(failed.to_string().contains("/srv/vw"));
        assert_eq!(Error::NoDisks.code(), "VIRTIO_FAILED");
    }
}
