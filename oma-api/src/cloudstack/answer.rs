//! What a body says: a value, or a refusal. Nothing a server sends makes this panic.

use super::error::Refusal;
use crate::outbound::excerpt;
use serde_json::Value;

/// A body, understood.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    /// What stands in the envelope `<command>response`.
    Value(Value),
    Refusal(Refusal),
    /// None of CloudStack's: its beginning, for people.
    Strange(String),
}

impl Answer {
    pub(super) fn of(body: &[u8]) -> Self {
        let Some(inner) = serde_json::from_slice(body).ok().and_then(envelope) else {
            return Self::Strange(excerpt(body));
        };
        match refusal(&inner) {
            Some(refusal) => Self::Refusal(refusal),
            None => Self::Value(inner),
        }
    }
}

/// The one member of the outermost object. Where the server could not tell the command it is called `null`, and an error.
fn envelope(whole: Value) -> Option<Value> {
    let Value::Object(members) = whole else { return None };
    let mut members = members.into_iter();
    let (name, inner) = members.next()?;
    let is_one = name.ends_with("response") && inner.is_object() || refusal(&inner).is_some();
    (members.next().is_none() && is_one).then_some(inner)
}

/// An error, of an answer or of a job's result.
pub(super) fn refusal(of: &Value) -> Option<Refusal> {
    let code = of.get("errorcode")?.as_u64()?;
    let exception = of.get("cserrorcode").and_then(Value::as_u64).and_then(|code| u32::try_from(code).ok());
    let text = of.get("errortext").and_then(Value::as_str).unwrap_or("no reason was given").to_owned();
    Some(Refusal { code: u16::try_from(code).unwrap_or(u16::MAX), exception, text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(body: &Value) -> Answer {
        Answer::of(body.to_string().as_bytes())
    }

    #[test]
    fn an_envelope_is_opened() {
        assert_eq!(of(&json!({"listvolumesresponse": {}})), Answer::Value(json!({})));
        let made = json!({"id": "1", "jobid": "2"});
        assert_eq!(of(&json!({"createvolumeresponse": made})), Answer::Value(made));
    }

    #[test]
    fn an_error_is_told_from_a_value_whatever_the_status() {
        let said = json!({"errorresponse": {"uuidList": [], "errorcode": 432, "cserrorcode": 9999, "errortext": "no"}});
        assert_eq!(
            of(&said),
            Answer::Refusal(Refusal { code: 432, exception: Some(9999), text: "no".to_owned() })
        );
        let bare = json!({"listzonesresponse": {"errorcode": 401, "errortext": "unable to verify"}});
        assert_eq!(
            of(&bare),
            Answer::Refusal(Refusal { code: 401, exception: None, text: "unable to verify".to_owned() })
        );
        // What a job came to stands inside of its own answer.
        let job = json!({"queryasyncjobresultresponse": {"jobstatus": 2, "jobresult": {"errorcode": 530}}});
        assert!(matches!(of(&job), Answer::Value(_)));
    }

    #[test]
    fn what_is_none_of_its_answers_is_shown_in_part() {
        for (body, shown) in [
            (&b"<h1>Bad Message 414</h1>\n<pre>"[..], "<h1>Bad Message 414</h1> <pre>"),
            (b"", "an empty body"),
            (b"[]", "[]"),
            (b"{}", "{}"),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
            (b"{\"a\":{},\"b\":{}}", "{\"a\":{},\"b\":{}}"),
        ] {
            assert_eq!(Answer::of(body), Answer::Strange(shown.to_owned()));
        }
    }
}
