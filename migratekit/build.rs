//! Finds the system's libnbd.

use std::process::ExitCode;

/// The oldest libnbd with `nbd_get_uri`, block sizes and `nbd_set_pread_initialize`; Debian 12 has 1.14.
const OLDEST: &str = "1.14";

fn main() -> ExitCode {
    match pkg_config::Config::new().atleast_version(OLDEST).probe("libnbd") {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("libnbd {OLDEST} or newer was not found.");
            eprintln!(
                "Install it: apt-get install libnbd-dev pkg-config (or libnbd-devel on Fedora and RHEL)."
            );
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
