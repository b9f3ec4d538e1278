//! Finds the nearest known key for one that nothing reads.
//!
//! serde offers the list of a struct's fields only in the text of its error; that text is taken apart here, and a
//! test holds its form, so that a change of serde's wording is noticed and costs the hint at most.

/// Above this share of changed letters two names have nothing to do with each other.
const NEAR: f64 = 0.6;

pub(super) struct Unknown {
    pub(super) key: String,
    known: Vec<String>,
}

/// `None`: the message is about something else.
pub(super) fn parse(message: &str) -> Option<Unknown> {
    let rest = message.strip_prefix("unknown field `")?;
    let (key, rest) = rest.split_once('`')?;
    // "…, expected `a`", "…, expected one of `a`, `b`", "…, there are no fields"
    let known = rest.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    Some(Unknown { key: key.to_owned(), known })
}

/// The key with the tables before it, whether or not `table` (from the path of the error) ends with it already.
pub(super) fn full_key(table: &str, key: &str) -> String {
    match table {
        "" => key.to_owned(),
        _ if table == key || table.ends_with(&format!(".{key}")) => table.to_owned(),
        _ => format!("{table}.{key}"),
    }
}

/// Where the key stands: at `start`, or, where the parser knows only the place of its table (tagged enums are read
/// through a buffer), at the first line from there that begins with it.
pub(super) fn find(text: &str, start: usize, key: &str) -> usize {
    let begins_with_key = |line: &str| {
        let line = line.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '['));
        line.strip_prefix(key)
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || "_-".contains(c)))
    };
    let mut at = start;
    for line in text.get(start..).unwrap_or_default().split_inclusive('\n') {
        if begins_with_key(line) {
            return at;
        }
        at += line.len();
    }
    start
}

impl Unknown {
    pub(super) fn nearest(&self) -> Option<String> {
        let plain = |s: &str| s.to_ascii_lowercase().replace('-', "_");
        let wanted = plain(&self.key);
        let scored =
            self.known.iter().map(|known| (strsim::normalized_damerau_levenshtein(&wanted, known), known));
        let (score, best) = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
        (score >= NEAR).then(|| best.clone())
    }

    pub(super) fn hint(&self) -> String {
        let list = || self.known.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ");
        match (self.nearest(), self.known.is_empty()) {
            (Some(nearest), _) => format!("did you mean `{nearest}`? Known here: {}", list()),
            (None, false) => format!("remove it, or use one of the keys known here: {}", list()),
            // serde keeps the list to itself where a struct has flattened parts.
            (None, true) => "remove it, or look it up in the example in deploy/examples".to_owned(),
        }
    }
}
