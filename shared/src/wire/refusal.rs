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
    let message = message.into();
    let correlation_id = correlation::current().unwrap_or_else(CorrelationId::generate);
    // Not `message`: in JSON it would stand in the place of the line itself.
    tracing::info!(%correlation_id, ?code, reason, why = %message, "refused");
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    details.set_request_info(correlation_id.as_str(), "");
    Status::with_error_details(code, message, details)
}

/// The reason inside a status, if its maker gave one.
pub fn reason_of(status: &Status) -> Option<String> {
    status.get_error_details().error_info().map(|info| info.reason.clone())
}

/// A message whose field cannot be used.
pub fn invalid(error: &super::Invalid) -> Status {
    status(Code::InvalidArgument, "INVALID_ARGUMENT", error.to_string())
}
