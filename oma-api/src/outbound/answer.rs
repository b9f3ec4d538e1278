//! What is known after a call that gave no success, and what of a foreign answer is shown.

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

#[cfg(test)]
mod tests {
    use super::*;

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
