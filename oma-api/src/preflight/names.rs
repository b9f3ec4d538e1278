//! What the VM will be called.
//!
//! CloudStack's name of a VM is a host name: 1 to 63 letters, digits and dashes, a letter in front and no dash at the
//! end. The display name has no such rule and stays as it is.

use super::{Code, Facts, Finding, Place};
use std::collections::BTreeMap;

const LONGEST: usize = 63;

/// The nearest name that the target takes; a usable one is its own.
pub(super) fn usable(name: &str) -> String {
    let mut made = String::new();
    for c in name.chars() {
        match c {
            c if c.is_ascii_alphanumeric() => made.push(c),
            _ if made.ends_with('-') => {}
            _ => made.push('-'),
        }
    }
    let mut made = made.trim_matches('-').to_owned();
    if !made.starts_with(|c: char| c.is_ascii_alphabetic()) {
        made.insert_str(0, "vm-");
    }
    made.truncate(LONGEST);
    made.trim_end_matches('-').to_owned()
}

/// Host names are the same in upper and lower case.
fn folded(name: &str) -> String {
    usable(name).to_ascii_lowercase()
}

/// `web-2`, and so on.
fn free(name: &str, taken: &BTreeMap<String, String>) -> Option<String> {
    (2..=taken.len().saturating_add(2)).find_map(|number| {
        let end = format!("-{number}");
        let mut name = name.to_owned();
        name.truncate(LONGEST - end.len());
        let name = format!("{}{end}", name.trim_end_matches('-'));
        (!taken.contains_key(&folded(&name))).then_some(name)
    })
}

pub(super) fn look(facts: &Facts, found: &mut Vec<Finding>) {
    let name = &facts.vm.name;
    let made = usable(name);
    // By name: whoever has it first, of several the one with the lowest id.
    let mut taken: BTreeMap<String, String> = BTreeMap::new();
    for other in facts.others() {
        if let Place::Target { migration, .. } = &other.place {
            let by = format!("migration {migration} of VM {}", other.vm);
            let entry = taken.entry(folded(&other.name)).or_insert_with(|| by.clone());
            if by < *entry {
                *entry = by;
            }
        }
    }
    if *name != made {
        let what =
            format!("{name:?} is no host name, as the target needs one: it would be called {made:?} there");
        let action = "rename it at the source if that is not right; the display name stays as it is";
        found.push(Finding::new(Code::NameInvalid, "vm", what, action).or(Some(made.clone())));
    }
    if let Some(by) = taken.get(&folded(name)) {
        let what = format!("the name {made:?} on the target is that of {by}");
        let action = "rename one of the two at its source, or end the other migration";
        found.push(Finding::new(Code::NameTaken, "vm", what, action).or(free(&made, &taken)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_host_name_is_made_of_any() {
        for (name, made) in [
            ("web-01", "web-01"),
            ("Web.Shop (old)", "Web-Shop-old"),
            ("01-web", "vm-01-web"),
            ("-", "vm"),
            ("ü", "vm"),
            (&"x".repeat(70), &"x".repeat(63)),
        ] {
            assert_eq!(usable(name), made);
        }
    }

    proptest! {
        #[test]
        fn it_is_usable_whatever_it_was_made_of(name in ".{0,100}") {
            let made = usable(&name);
            prop_assert!((1..=LONGEST).contains(&made.len()), "{made:?}");
            prop_assert!(made.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'));
            prop_assert!(made.starts_with(|c: char| c.is_ascii_alphabetic()) && !made.ends_with('-'));
            prop_assert_eq!(usable(&made), made);
        }
    }
}
