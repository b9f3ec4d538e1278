//! Whether a request may go unasked while no token was made: only from this machine, to this machine, and not on behalf of
//! a web page from elsewhere.
//!
//! A browser on this machine reaches loopback as any program does. A page from elsewhere can make it ask (its `Origin` says
//! so), and a name that its owner points to 127.0.0.1 makes the page's origin look like ours (the `Host` says so: DNS
//! rebinding). A proxy on this machine asks for others (it says so, if it is honest).

use super::Refusal;
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri};
use std::net::{IpAddr, SocketAddr};

/// What a proxy adds.
const OF_PROXIES: [&str; 5] = ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"];

/// Whether both ends are on this machine.
pub fn is_loopback(listener: SocketAddr, peer: SocketAddr) -> bool {
    [listener, peer].iter().all(|address| address.ip().to_canonical().is_loopback())
}

/// Checks what the request says of itself; both ends are on loopback already.
///
/// # Errors
/// [`Refusal::Proxied`], [`Refusal::Host`], [`Refusal::Origin`].
pub fn check(uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    if let Some(header) = OF_PROXIES.into_iter().find(|name| headers.contains_key(*name)) {
        return Err(Refusal::Proxied { header });
    }
    let mut hosts = headers.get_all(HOST).iter();
    let named = hosts.next().map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    let foreign = |host: &str| Refusal::Host { host: host.to_owned() };
    if hosts.next().is_some() {
        return Err(foreign("named twice"));
    }
    // In an absolute request line the host stands twice; both have to be ours.
    for host in
        uri.authority().map(Authority::as_str).into_iter().chain([named.as_deref().unwrap_or_default()])
    {
        if !is_ours(host) {
            return Err(foreign(host));
        }
    }
    for origin in headers.get_all(ORIGIN) {
        let origin = String::from_utf8_lossy(origin.as_bytes());
        let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if host.is_none_or(|host| Some(host) != named.as_deref()) {
            return Err(Refusal::Origin { origin: origin.into_owned() });
        }
    }
    Ok(())
}

/// `localhost`, `127.0.0.1`, `[::1]`, with or without a port.
fn is_ours(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    if authority.as_str().contains('@') {
        return false;
    }
    let name = authority.host();
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderName;

    fn asked(uri: &str, headers: &[(&str, &str)]) -> Result<(), &'static str> {
        let headers = headers.iter().map(|(name, value)| {
            (name.parse::<HeaderName>().expect("a name"), value.parse().expect("a value"))
        });
        check(&uri.parse().expect("a URI"), &headers.collect()).map_err(|refusal| refusal.code().1)
    }

    #[test]
    fn only_both_ends_on_this_machine_are_loopback() {
        let yes = |listener: &str, peer: &str| {
            is_loopback(listener.parse().expect("an address"), peer.parse().expect("an address"))
        };
        assert!(yes("127.0.0.1:8082", "127.0.0.1:4000") && yes("[::1]:8082", "[::1]:4000"));
        assert!(yes("[::ffff:127.0.0.1]:8082", "[::ffff:127.0.0.2]:4000"));
        assert!(!yes("0.0.0.0:8082", "127.0.0.1:4000"), "others reach it, too");
        assert!(!yes("127.0.0.1:8082", "192.0.2.1:4000") && !yes("192.0.2.7:8082", "127.0.0.1:4000"));
    }

    #[test]
    fn a_host_that_is_not_loopback_is_a_rebound_name() {
        for host in ["localhost", "LOCALHOST:8082", "127.0.0.1:8082", "127.8.9.1", "[::1]:8082", "[::1]"] {
            assert_eq!(asked("/", &[("host", host)]), Ok(()), "{host}");
        }
        for host in [
            "evil.example:8082",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "192.0.2.1",
            "0.0.0.0",
            "",
            "a@localhost",
            "localhost:8082@evil.example",
            "[::]",
        ] {
            assert_eq!(asked("/", &[("host", host)]), Err("FOREIGN_HOST"), "{host}");
        }
        assert_eq!(asked("/", &[]), Err("FOREIGN_HOST"), "none at all");
        assert_eq!(asked("/", &[("host", "localhost"), ("host", "localhost")]), Err("FOREIGN_HOST"));
        assert_eq!(asked("http://evil.example/", &[("host", "localhost")]), Err("FOREIGN_HOST"));
        assert_eq!(asked("http://localhost/", &[("host", "localhost")]), Ok(()));
    }

    #[test]
    fn pages_of_other_origins_and_proxies_are_refused() {
        let from = |origin: &str| asked("/", &[("host", "localhost:8082"), ("origin", origin)]);
        assert_eq!(from("http://localhost:8082"), Ok(()));
        for origin in ["http://evil.example", "null", "http://localhost:3000", "http://127.0.0.1:8082", ""] {
            assert_eq!(from(origin), Err("FOREIGN_ORIGIN"), "{origin}");
        }
        for header in ["forwarded", "via", "x-forwarded-for", "x-real-ip"] {
            assert_eq!(
                asked("/", &[("host", "localhost"), (header, "192.0.2.1")]),
                Err("PROXIED"),
                "{header}"
            );
        }
    }
}
