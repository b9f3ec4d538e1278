//! Which of CloudStack's OS types a guest is, of what VMware calls it. Pure.

use super::model::OsType;

/// What VMware's guest ids begin with, and the name that such systems have in CloudStack's list. The first that fits counts.
const FAMILIES: [(&str, &str); 15] = [
    ("debian", "Debian GNU/Linux"),
    ("ubuntu", "Ubuntu"),
    ("rhel", "Red Hat Enterprise Linux"),
    ("centos", "CentOS"),
    ("rockylinux", "Rocky Linux"),
    ("almalinux", "AlmaLinux"),
    ("oraclelinux", "Oracle Linux"),
    ("sles", "SUSE Linux Enterprise Server"),
    ("freebsd", "FreeBSD"),
    ("windows2022srvnext", "Windows Server 2025"),
    ("windows2019srvnext", "Windows Server 2022"),
    ("windows2019srv", "Windows Server 2019"),
    ("windows9server", "Windows Server 2016"),
    ("windows11", "Windows 11"),
    ("windows9", "Windows 10"),
];

/// For guests of a family without one of that version, the next best thing.
const OTHERS: [(&str, &str); 2] = [("windows", "Windows PV"), ("", "Other Linux (64-bit)")];

/// The id of the type; `None`: nothing in the list is closer than what the template says.
pub(super) fn of(guest: &str, all: &[OsType]) -> Option<String> {
    let guest = guest.to_ascii_lowercase();
    let family = FAMILIES.iter().find(|(prefix, _)| guest.starts_with(prefix));
    let exact = family.and_then(|(prefix, name)| {
        let version: String = guest[prefix.len()..].chars().take_while(char::is_ascii_digit).collect();
        // Of `debian12_64Guest` it is 12; of `ubuntu64Guest` it is the processor's.
        let version =
            Some(version).filter(|version| !version.is_empty() && version != "64" && version != "32");
        let wanted = version.map_or_else(|| (*name).to_owned(), |version| format!("{name} {version}"));
        let mut fitting: Vec<_> = all.iter().filter(|os| is_of(&os.description, &wanted)).collect();
        // The newest of those that differ in what VMware does not say.
        fitting.sort_by(|a, b| b.description.cmp(&a.description));
        fitting.first().map(|os| os.id.clone())
    });
    exact.or_else(|| {
        let other = OTHERS.iter().find(|(prefix, _)| guest.starts_with(prefix))?.1;
        all.iter().find(|os| os.description.eq_ignore_ascii_case(other)).map(|os| os.id.clone())
    })
}

/// `Debian GNU/Linux 1` is not 12.
fn is_of(description: &str, wanted: &str) -> bool {
    description
        .get(..wanted.len())
        .filter(|head| head.eq_ignore_ascii_case(wanted))
        .is_some_and(|_| !description[wanted.len()..].starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_what_its_source_calls_it_or_the_next_best_thing() {
        let names = [
            "Debian GNU/Linux 12 (64-bit)",
            "Debian GNU/Linux 1 (64-bit)",
            "Ubuntu 22.04 LTS",
            "Ubuntu 24.04 LTS",
            "Red Hat Enterprise Linux 9",
            "Windows Server 2019 (64-bit)",
            "Windows Server 2022 (64-bit)",
            "Windows PV",
            "Other Linux (64-bit)",
        ];
        let all: Vec<_> =
            names.map(|name| OsType { id: name.to_owned(), description: name.to_owned() }).into();
        for (guest, expected) in [
            ("debian12_64Guest", Some("Debian GNU/Linux 12 (64-bit)")),
            ("debian13_64Guest", Some("Other Linux (64-bit)")),
            ("ubuntu64Guest", Some("Ubuntu 24.04 LTS")),
            ("rhel9_64Guest", Some("Red Hat Enterprise Linux 9")),
            ("windows2019srv_64Guest", Some("Windows Server 2019 (64-bit)")),
            ("windows2019srvNext_64Guest", Some("Windows Server 2022 (64-bit)")),
            ("windows2022srvNext_64Guest", Some("Windows PV")),
            ("other5xLinux64Guest", Some("Other Linux (64-bit)")),
        ] {
            assert_eq!(of(guest, &all).as_deref(), expected, "{guest}");
        }
        assert_eq!(of("debian12_64Guest", &[]), None);
    }
}
