//! What is known after a call that gave no success, and what of a foreign answer is shown.

use bytes::Bytes;

/// Characters of a foreign body that an error shows.
const EXCERPT: usize = 200;

/// Whether a change that gave no success was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not.
    NotDone,
    /// Nobody knows, or in part: look for what it should have made before it is sent again.
    Unknown,
}

/// What may be done after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// The same, later: it was not done, and things may stand otherwise then.
    Later,
    /// Nothing: the same would end the same.
    Never,
    /// It may have been done: look, then the same.
    Looked,
}

/// The beginning of a body that is none of the peer's own, for people: on one line, without what a terminal would obey.
pub fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(EXCERPT).collect();
    match plain.trim() {
        "" => "an empty body".to_owned(),
        plain => plain.to_owned(),
    }
}

/// A body without these: what a server, or something on the way, repeats of a request must not get into an error or a log.
pub fn hide(body: Bytes, secrets: &[&str]) -> Bytes {
    let text = String::from_utf8_lossy(&body);
    let held: Vec<_> = secrets.iter().filter(|it| !it.is_empty() && text.contains(**it)).collect();
    if held.is_empty() {
        return body;
    }
    held.iter().fold(text.into_owned(), |text, secret| text.replace(**secret, "…")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_repeats_of_a_secret_is_hidden() {
        let said = Bytes::from_static(b"<pre>apiKey=KEY&signature=x SECRET KEY</pre>");
        assert_eq!(
            hide(said.clone(), &["KEY", "SECRET", ""]),
            "<pre>apiKey=…&signature=x … …</pre>".as_bytes()
        );
        assert_eq!(hide(said.clone(), &["", "none"]), said);
        let no_text = Bytes::from_static(b"\xff\xfe");
        assert_eq!(hide(no_text.clone(), &["KEY"]), no_text, "as it is");
    }

    #[test]
    fn of_a_foreign_body_the_beginning_is_shown() {
        for (body, shown) in [
            (&b"<h1>Bad Message 414</h1>\n<pre>"[..], "<h1>Bad Message 414</h1> <pre>"),
            (b" \n", "an empty body"),
            (b"\x1b[2J", "[2J"),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
        ] {
            assert_eq!(excerpt(body), shown);
        }
        assert_eq!(excerpt(&vec![b'x'; 100_000]).len(), EXCERPT);
    }
}
