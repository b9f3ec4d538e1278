//! A command that is not carried out: HTTP status, exception number and text as CloudStack gives them.

use serde_json::{Value, json};

/// What stands in an answer's, or a failed job's, error object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// HTTP status and `errorcode` alike.
    pub(super) code: u16,
    /// `cserrorcode`: which of CloudStack's exceptions. A 401 has none.
    pub(super) exception: Option<u32>,
    pub(super) text: String,
}

impl Refusal {
    pub(super) fn new(code: u16, exception: u32, text: impl Into<String>) -> Self {
        Self { code, exception: Some(exception), text: text.into() }
    }

    /// The signature, or who signed it, is not known. The same for a command that does not exist.
    pub(super) fn unverified() -> Self {
        let text = "unable to verify user credentials and/or request signature".to_owned();
        Self { code: 401, exception: None, text }
    }

    /// A parameter is missing or malformed.
    pub(super) fn parameter(text: impl Into<String>) -> Self {
        Self::new(431, 9999, text)
    }

    /// A well-formed parameter says something impossible.
    pub(super) fn value(text: impl Into<String>) -> Self {
        Self::new(431, 4350, text)
    }

    pub(super) fn runtime(text: impl Into<String>) -> Self {
        Self::new(530, 4250, text)
    }

    pub(super) fn internal(text: impl Into<String>) -> Self {
        Self::new(530, 9999, text)
    }

    pub(super) fn permission(text: impl Into<String>) -> Self {
        Self::new(531, 4365, text)
    }

    pub(super) fn unsupported(text: impl Into<String>) -> Self {
        Self::new(432, 9999, text)
    }

    pub(super) fn capacity(text: impl Into<String>) -> Self {
        Self::new(533, 4325, text)
    }

    pub(super) fn quota(exception: u32, text: impl Into<String>) -> Self {
        Self::new(535, exception, text)
    }

    /// As a failed job's result has it.
    pub(super) fn of_job(&self) -> Value {
        json!({"errorcode": self.code, "errortext": self.text})
    }

    /// As an answer has it.
    pub(super) fn of_answer(&self) -> Value {
        match self.exception {
            Some(exception) => json!({
                "uuidList": [], "errorcode": self.code, "cserrorcode": exception, "errortext": self.text
            }),
            None => json!({"uuidList": [], "errorcode": self.code, "errortext": self.text}),
        }
    }
}
