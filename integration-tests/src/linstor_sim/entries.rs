//! The entries of an answer (`ApiCallRc`): how a return code is put together, and which status follows from them.

use serde_json::{Map, Value, json};

/// What a call does: two bits of the code.
pub(super) const CREATE: i64 = 1;
pub(super) const MODIFY: i64 = 2;
pub(super) const DELETE: i64 = 3;

/// What it does that to: five bits.
pub(super) mod object {
    pub(in crate::linstor_sim) const SNAPSHOT: i64 = 0x03;
    pub(in crate::linstor_sim) const CONTROLLER: i64 = 0x04;
    pub(in crate::linstor_sim) const POOL: i64 = 0x05;
    pub(in crate::linstor_sim) const CONNECTION: i64 = 0x09;
    pub(in crate::linstor_sim) const VOLUME: i64 = 0x0B;
    pub(in crate::linstor_sim) const VOLUME_DEFINITION: i64 = 0x0C;
    pub(in crate::linstor_sim) const RESOURCE: i64 = 0x0D;
    pub(in crate::linstor_sim) const DEFINITION: i64 = 0x0E;
    pub(in crate::linstor_sim) const NODE: i64 = 0x0F;
    pub(in crate::linstor_sim) const GROUP: i64 = 0x11;
    pub(in crate::linstor_sim) const VOLUME_GROUP: i64 = 0x12;
    /// Of an unreadable body.
    pub(in crate::linstor_sim) const NONE: i64 = 0x1F;
}

/// What an entry says happened, where it is no error (those have numbers of their own, from 200).
pub(super) const CREATED: i64 = 1;
pub(super) const DELETED: i64 = 2;
pub(super) const MODIFIED: i64 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Success,
    Information,
    Warning,
    Error,
}

/// One entry.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    op: i64,
    object: i64,
    pub(super) code: i64,
    pub(super) message: String,
    details: Option<String>,
    cause: Option<String>,
    correction: Option<String>,
    refs: Vec<(String, String)>,
    report: bool,
}

/// What all entries of a call have in common.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    op: i64,
    object: i64,
    refs: Vec<(String, String)>,
}

impl Frame {
    pub(super) fn new(op: i64, object: i64, refs: &[(&str, &str)]) -> Self {
        let refs = refs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { op, object, refs }
    }

    /// For answers to questions: no operation and no object.
    pub(super) fn bare() -> Self {
        Self::new(0, 0, &[])
    }

    fn entry(&self, kind: Kind, code: i64, message: impl Into<String>) -> Entry {
        Entry {
            kind,
            op: self.op,
            object: self.object,
            code,
            message: message.into(),
            details: None,
            cause: None,
            correction: None,
            refs: self.refs.clone(),
            report: false,
        }
    }

    pub(super) fn success(&self, code: i64, message: impl Into<String>) -> Entry {
        self.entry(Kind::Success, code, message)
    }

    pub(super) fn info(&self, code: i64, message: impl Into<String>) -> Entry {
        self.entry(Kind::Information, code, message)
    }

    pub(super) fn warn(&self, code: i64, message: impl Into<String>) -> Entry {
        self.entry(Kind::Warning, code, message)
    }

    pub(super) fn error(&self, code: i64, message: impl Into<String>) -> Entry {
        self.entry(Kind::Error, code, message)
    }

    /// The satellite is off: what was changed is stored all the same.
    pub(super) fn offline(&self, node: &str) -> Entry {
        self.warn(1002, format!("No active connection to satellite '{node}'")).details(
            "The controller is trying to (re-) establish a connection to the satellite. The controller stored the \
             changes and as soon the satellite is connected, it will receive this update.",
        )
    }

    /// Something of that name is not there: `Node 'x' not found.`
    pub(super) fn missing(&self, code: i64, what: &str, name: &str) -> Entry {
        self.error(code, format!("{what} '{name}' not found."))
    }

    /// The same with the words that a change adds.
    pub(super) fn not_there(&self, code: i64, what: &str, name: &str) -> Entry {
        let small = what.to_lowercase();
        self.missing(code, what, name)
            .cause(format!("The specified {small} '{name}' could not be found in the database"))
            .correction(format!("Create a {small} with the name '{name}' first."))
    }
}

impl Entry {
    pub(super) fn of(mut self, object: i64) -> Self {
        self.object = object;
        self
    }

    pub(super) fn op(mut self, op: i64) -> Self {
        self.op = op;
        self
    }

    /// Refers to this as well.
    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.refs.push((name.to_owned(), value.into()));
        self
    }

    /// Refers to nothing.
    pub(super) fn alone(mut self) -> Self {
        self.refs.clear();
        self
    }

    pub(super) fn details(mut self, text: impl Into<String>) -> Self {
        self.details = Some(text.into());
        self
    }

    pub(super) fn cause(mut self, text: impl Into<String>) -> Self {
        self.cause = Some(text.into());
        self
    }

    pub(super) fn correction(mut self, text: impl Into<String>) -> Self {
        self.correction = Some(text.into());
        self
    }

    /// There is an error report about it.
    pub(super) fn reported(mut self) -> Self {
        self.report = true;
        self
    }

    pub(super) fn has_report(&self) -> bool {
        self.report
    }

    pub(super) fn ret_code(&self) -> i64 {
        let kind: i64 = match self.kind {
            Kind::Success => 0,
            Kind::Information => 1,
            Kind::Warning => -2,
            Kind::Error => -1,
        };
        kind << 62 | self.op << 24 | self.object << 18 | self.code
    }

    pub(super) fn json(&self, report: Option<&str>) -> Value {
        let mut out = Map::new();
        out.insert("ret_code".to_owned(), json!(self.ret_code()));
        out.insert("message".to_owned(), json!(self.message));
        let texts = [("details", &self.details), ("cause", &self.cause), ("correction", &self.correction)];
        for (name, text) in texts {
            if let Some(text) = text {
                out.insert(name.to_owned(), json!(text));
            }
        }
        if !self.refs.is_empty() {
            let refs: Map<_, _> =
                self.refs.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            out.insert("obj_refs".to_owned(), Value::Object(refs));
        }
        if let Some(report) = report {
            out.insert("error_report_ids".to_owned(), json!([report]));
        }
        out.insert("created_at".to_owned(), json!(jiff::Timestamp::now().to_string()));
        Value::Object(out)
    }
}

/// The first error decides: not found, denied, or the rest, among them what exists, is invalid or in use.
pub(super) fn status(entries: &[Entry], otherwise: u16) -> u16 {
    match entries.iter().find(|entry| entry.kind == Kind::Error).map(|entry| entry.code) {
        None => otherwise,
        Some(300..=399) => 404,
        Some(400..=499) => 403,
        Some(_) => 500,
    }
}
