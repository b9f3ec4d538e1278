//! Bodies: JSON where it was asked for, else XML, both as the recorded server spelled them.

use super::refusal::Refusal;
use serde_json::{Value, json};
use std::fmt::Write as _;

pub(super) const VERSION: &str = "4.22.0.0-SNAPSHOT";

/// How the answer is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Xml,
}

/// A status with its body.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) body: String,
    /// `X-Description`: an error's text once more.
    pub(super) description: Option<String>,
}

impl Answer {
    pub(super) fn done(format: Format, envelope: &str, value: &Value) -> Self {
        Self::of(format, 200, envelope, value, true)
    }

    pub(super) fn refused(format: Format, envelope: &str, refusal: &Refusal) -> Self {
        let (status, value) = (refusal.code, refusal.of_answer());
        // Those that the server did not let in do not learn its version.
        let mut answer = Self::of(format, status, envelope, &value, refusal.exception.is_some());
        answer.description = refusal.exception.map(|_| refusal.text.clone());
        answer
    }

    fn of(format: Format, status: u16, envelope: &str, value: &Value, with_version: bool) -> Self {
        let (content_type, body) = match format {
            Format::Json => ("application/json;charset=utf-8", json!({envelope: value}).to_string()),
            Format::Xml => ("text/xml;charset=utf-8", document(envelope, value, with_version)),
        };
        Self { status, content_type, body, description: None }
    }

    pub(super) fn html(status: u16, body: &str) -> Self {
        let content_type = "text/html;charset=iso-8859-1";
        Self { status, content_type, body: body.to_owned(), description: None }
    }
}

fn document(name: &str, value: &Value, with_version: bool) -> String {
    let version = if with_version { format!(" cloud-stack-version=\"{VERSION}\"") } else { String::new() };
    let mut text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><{name}{version}>");
    inside(&mut text, value);
    let _ = write!(text, "</{name}>");
    text
}

/// Members as elements; a list's items each under the list's name, an empty list not at all.
fn inside(text: &mut String, value: &Value) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let items = match value {
                    Value::Array(items) => items.as_slice(),
                    one => std::slice::from_ref(one),
                };
                for item in items {
                    let _ = write!(text, "<{name}>");
                    inside(text, item);
                    let _ = write!(text, "</{name}>");
                }
            }
        }
        Value::String(plain) => {
            for c in plain.chars() {
                match c {
                    '<' => text.push_str("&lt;"),
                    '>' => text.push_str("&gt;"),
                    '&' => text.push_str("&amp;"),
                    '"' => text.push_str("&quot;"),
                    other => text.push(other),
                }
            }
        }
        Value::Null => {}
        other => text.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_wish_for_json_it_is_xml() {
        let answer = Answer::refused(Format::Xml, "errorresponse", &Refusal::unverified());
        assert_eq!(
            answer.body,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><errorresponse><errorcode>401</errorcode><errortext>unable to \
             verify user credentials and/or request signature</errortext></errorresponse>"
        );
        let zones = json!({"count": 1, "zone": [{"name": "a<b", "tags": []}]});
        let answer = Answer::done(Format::Xml, "listzonesresponse", &zones);
        assert!(
            answer.body.ends_with("<count>1</count><zone><name>a&lt;b</name></zone></listzonesresponse>")
        );
    }
}
