//! gRPC errors that a program can act on and a person can read: `google.rpc.ErrorInfo` with a reason, and
//! `RequestInfo` with a correlation id.

use crate::correlation::{self, CorrelationId};
use std::collections::HashMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// What a refusal carries, for reflection: so that `grpcurl` can print its reason.
pub use tonic_types::pb::FILE_DESCRIPTOR_SET as DESCRIPTOR_SET;

/// Domain of every reason.
pub const DOMAIN: &str = "migratekit";

/// A status with its reason (upper snake case) and the request's correlation id, under which it is logged here.
pub fn status(code: Code, reason: &str, message: impl Into<String>) -> Status {
    let message = bounded(message.into());
    let correlation_id = correlation::current().unwrap_or_else(CorrelationId::generate);
    // Not `message`: in JSON it would stand in the place of the line itself.
    tracing::info!(%correlation_id, ?code, reason, why = %message, "refused");
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    details.set_request_info(correlation_id.as_str(), "");
    Status::with_error_details(code, message, details)
}

/// Headers carry it, twice: percent-encoded, and in the details as base64. Beyond 16 KiB of headers clients (hyper's, Go's)
/// give the whole connection up, and a message may repeat what somebody sent.
fn bounded(mut message: String) -> String {
    const MOST: usize = 12 << 10;
    let of_char = |c: char| if matches!(c, ' '..='~') && c != '%' { 1 } else { 3 * c.len_utf8() };
    let mut bytes = 0;
    let end = message.char_indices().find(|(_, c)| {
        bytes += of_char(*c) + (c.len_utf8() * 4).div_ceil(3);
        bytes > MOST
    });
    if let Some((end, _)) = end {
        message.truncate(end);
        message.push_str(" … (cut)");
    }
    message
}

/// The reason inside a status, if its maker gave one.
pub fn reason_of(status: &Status) -> Option<String> {
    status.get_error_details().error_info().map(|info| info.reason.clone())
}

/// A message whose field cannot be used.
pub fn invalid(error: &super::Invalid) -> Status {
    status(Code::InvalidArgument, "INVALID_ARGUMENT", error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Red when what somebody sent comes back in headers that end the connection for all its other calls.
    #[test]
    fn a_message_fits_into_headers_whatever_it_repeats() {
        for part in ["x", "%", "ü", "\u{1f980}", "\0"] {
            let status = status(Code::NotFound, "VM_UNKNOWN", format!("no VM {}", part.repeat(1 << 20)));
            let mut headers = http::HeaderMap::new();
            status.add_header(&mut headers).expect("words");
            let bytes: usize =
                headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
            assert!((8 << 10..16 << 10).contains(&bytes), "{part:?}: {bytes}");
            assert!(
                status.message().ends_with("(cut)") && reason_of(&status).as_deref() == Some("VM_UNKNOWN")
            );
        }
        assert_eq!(status(Code::NotFound, "X", "no VM web-01").message(), "no VM web-01");
    }
}
