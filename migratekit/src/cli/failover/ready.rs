//! What a failover's machine is to show before it counts as working: options of a test and of a live failover.

use clap::{ArgGroup, Args};
use proto::v1;

/// See the module.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("ready").args(["ready_console", "ready_tcp", "ready_http", "ready_guest_agent"]))]
pub(super) struct Ready {
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
    /// A machine that is not ready then is a failure; by default it is a warning. A test is taken back then; a live failover waits
    /// for somebody's decision.
    #[arg(long, requires = "ready")]
    ready_required: bool,
}

impl From<Ready> for Option<v1::FailoverReady> {
    fn from(ready: Ready) -> Self {
        let asked = ready.ready_console.is_some()
            || ready.ready_tcp.is_some()
            || ready.ready_http.is_some()
            || ready.ready_guest_agent;
        let http = ready.ready_http.map(|(port, path)| v1::FailoverHttp {
            port: port.into(),
            path,
            status: ready.ready_http_status.map_or(0, u32::from),
            text: ready.ready_http_text.unwrap_or_default(),
        });
        asked.then(|| v1::FailoverReady {
            console: ready.ready_console.unwrap_or_default(),
            timeout: ready.ready_timeout.unwrap_or_default(),
            required: ready.ready_required,
            tcp_port: ready.ready_tcp.map_or(0, u32::from),
            http,
            guest_agent: ready.ready_guest_agent,
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_has_a_path_or_the_first_one() {
        assert_eq!(port_and_path("80"), Ok((80, "/".to_owned())));
        assert_eq!(port_and_path("8080/health?a=/"), Ok((8080, "/health?a=/".to_owned())));
        for wrong in ["", "/", "0", "65536/", "http://x/", "-1/x", "80 /"] {
            port_and_path(wrong).expect_err(wrong);
        }
    }
}
