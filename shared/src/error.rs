//! Errors as people read them.

/// An error with its causes: "what: why: why". For the one place where it is logged or answered.
pub fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |inner| inner.source())
        .fold(error.to_string(), |text, inner| format!("{text}: {inner}"))
}
