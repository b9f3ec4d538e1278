//! Which names are refused, and with what reason.

/// Why a resource, a snapshot or a group may not be called so. `None`: it may.
///
/// Two to 48 characters: a letter or `_`, then digits and `-` as well. `all` is a word of the client.
pub(super) fn refused(name: &str) -> Option<String> {
    let length = name.chars().count();
    if length < 2 {
        return Some(format!("Invalid name: Name length {length} is less than minimum length 2"));
    }
    if length > 48 {
        return Some(format!("Invalid name: Name length {length} is greater than maximum length 48"));
    }
    if name.eq_ignore_ascii_case("all") {
        return Some(format!("Invalid name: '{name}' is a reserved keyword"));
    }
    let bad = name.chars().enumerate().find(|(at, letter)| {
        let anywhere = letter.is_ascii_alphabetic() || *letter == '_';
        let later = *at > 0 && (letter.is_ascii_digit() || *letter == '-');
        !anywhere && !later
    });
    match bad {
        None => None,
        Some((0, letter)) => Some(format!("Invalid name: Cannot begin with character '{letter}'")),
        Some((_, letter)) => Some(format!("Invalid name: Cannot contain character '{letter}'")),
    }
}

/// A name made of an external one, which may be anything.
pub(super) fn generated(external: &str) -> String {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
    external.chars().take(48).map(|letter| if fits(letter) { letter } else { '_' }).collect()
}

/// The same of a node: a host name.
pub(super) fn node_refused(name: &str) -> Option<String> {
    if name.len() < 2 || name.len() > 255 {
        return Some(format!("Domain name length {} is out of range", name.len()));
    }
    let bad = name.chars().find(|letter| !letter.is_ascii_alphanumeric() && !matches!(letter, '-' | '.'));
    bad.map(|letter| format!("Domain name cannot contain character '{letter}'"))
}

/// Whether a property may be set: the controller knows which there are.
pub(super) fn property_known(name: &str) -> bool {
    const ROOTS: [&str; 10] = [
        "Aux/",
        "DrbdOptions/",
        "StorDriver/",
        "FileSystem/",
        "AutoSnapshot/",
        "AutoplaceTarget",
        "Linstor/",
        "StorPoolName",
        "Cache/",
        "Sys/",
    ];
    ROOTS.iter().any(|root| name.starts_with(root))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_two_to_forty_eight_characters_are_taken() {
        let longest = "x".repeat(48);
        for name in ["ab", "_a", "abc-", "mk-UPPER", "cs-4f4ad6b4-1c1a-4bd4-a5d4-d9c0bb1c1a01", &longest] {
            assert_eq!(refused(name), None, "{name}");
        }
        let too_long = "x".repeat(49);
        for name in ["y", "1abc", "-abc", "a.b", "has space", "all", "ALL", "ümlaut", &too_long] {
            assert!(refused(name).is_some(), "{name}");
        }
    }

    #[test]
    fn a_node_is_called_as_a_host_and_generated_names_fit() {
        assert_eq!(node_refused("kvm-1.lab"), None);
        assert_eq!(generated("disk of web-1"), "disk_of_web-1");
        assert!(node_refused("bad_name!").is_some_and(|why| why.contains('_')));
    }
}
