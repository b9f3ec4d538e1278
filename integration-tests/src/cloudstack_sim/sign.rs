//! Judges signatures, by code of its own: what the product's client signs is checked here and not by itself.
//!
//! HMAC-SHA1 over `name=value` in the order of the names' bytes as they are spelled, values as Java's `URLEncoder` spells
//! them (with `%20` for a space), the whole then in lower case.

use super::refusal::Refusal;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::civil::DateTime;
use std::collections::BTreeMap;

/// Names as they are spelled on the wire; of one that is sent twice the last.
pub(super) type Sent = BTreeMap<String, String>;

/// The value of a name in whichever case it is spelled.
pub(super) fn any_case<'a>(sent: &'a Sent, name: &str) -> Option<&'a str> {
    sent.iter().find(|(sent, _)| sent.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// What the signature is made of.
pub(super) fn to_sign(sent: &Sent) -> String {
    let pairs = sent.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("signature"));
    let pairs: Vec<_> = pairs.map(|(name, value)| format!("{name}={}", java(value))).collect();
    pairs.join("&").to_lowercase()
}

/// As `java.net.URLEncoder`, with the plus of a space made `%20`.
fn java(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'*' | b'_' => {
                text.push(char::from(byte))
            }
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

/// Whether the request was signed with this secret and is not too old.
pub(super) fn verify(sent: &Sent, secret: &str, now: Timestamp) -> Result<(), Refusal> {
    if any_case(sent, "signatureversion") == Some("3") {
        let expires = any_case(sent, "expires").and_then(instant).ok_or_else(Refusal::unverified)?;
        if expires < now {
            return Err(Refusal::unverified());
        }
    }
    let signature = any_case(sent, "signature").and_then(|text| STANDARD.decode(text).ok());
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    let matches = |signature: Vec<u8>| hmac::verify(&key, to_sign(sent).as_bytes(), &signature).is_ok();
    if signature.is_some_and(matches) { Ok(()) } else { Err(Refusal::unverified()) }
}

/// Seconds and a zone; milliseconds and a missing zone are refused.
fn instant(text: &str) -> Option<Timestamp> {
    let (local, zone) = text.split_at_checked(19)?;
    let local: DateTime = local.parse().ok()?;
    let seconds = match zone {
        "Z" => 0,
        _ => {
            let (sign, digits) = (zone.get(..1)?, zone.get(1..)?.replace(':', ""));
            let minutes: i64 = match digits.len() {
                4 => digits[..2].parse::<i64>().ok()? * 60 + digits[2..].parse::<i64>().ok()?,
                _ => return None,
            };
            match sign {
                "+" => minutes * 60,
                "-" => -minutes * 60,
                _ => return None,
            }
        }
    };
    let utc = local.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    Some(utc - jiff::SignedDuration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_the_one_that_a_real_server_signed() {
        let vectors: Vec<serde_json::Value> =
            serde_json::from_str(include_str!("../../../oma-api/src/cloudstack/signing-vectors.json"))
                .unwrap();
        for vector in vectors {
            let params = vector["params"].as_object().unwrap();
            let mut sent: Sent =
                params.iter().map(|(k, v)| (k.clone(), v.as_str().unwrap().to_owned())).collect();
            assert_eq!(to_sign(&sent), vector["string_to_sign"].as_str().unwrap());
            sent.insert("signature".to_owned(), vector["signature_base64"].as_str().unwrap().to_owned());
            let secret = vector["secret"].as_str().unwrap();
            let now = "2026-11-22T00:00:00Z".parse().unwrap();
            assert_eq!(verify(&sent, secret, now), Ok(()), "{vector}");
            assert!(verify(&sent, "another", now).is_err());
        }
    }

    #[test]
    fn an_end_has_seconds_and_a_zone() {
        for good in ["2026-11-21T11:00:59+0000", "2026-11-21T11:00:59Z", "2026-11-21T13:00:59+02:00"] {
            assert_eq!(instant(good), "2026-11-21T11:00:59Z".parse().ok(), "{good}");
        }
        for bad in ["2026-11-21T11:00:59", "2026-11-21T11:00:59.123+0000", "soon", ""] {
            assert_eq!(instant(bad), None, "{bad}");
        }
    }
}
