//! Errors as people read them.

/// An error with its causes: "what: why: why". For the one place where it is logged or answered. A cause that an error of
/// a library has said itself is not said again.
pub fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |inner| inner.source()).fold(error.to_string(), |text, inner| {
        let why = inner.to_string();
        if text.ends_with(&why) { text } else { format!("{text}: {why}") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Said(&'static str, #[source] Option<Box<Said>>);

    #[test]
    fn a_cause_is_said_once() {
        let because = |what, why| Said(what, Some(Box::new(why)));
        let denied = || Said("1045: denied", None);
        let error = because("not opened", because("refused: 1045: denied", denied()));
        assert_eq!(chain(&error), "not opened: refused: 1045: denied");
        assert_eq!(
            chain(&because("not opened", because("refused", denied()))),
            "not opened: refused: 1045: denied"
        );
    }
}
