//! What virt-v2v says of a conversion.
//!
//! Its exit code is not enough: without drivers it warns, leaves Windows as it is, and ends with 0. With
//! `--machine-readable=file:…` it writes every message as a line of JSON beside what it prints for people.

use serde::Deserialize;

/// How it says, since version 1 up to the one that was tried (2.2), that the guest will not run on virtio.
const NO_DRIVERS: [&str; 3] = [
    "there are no virtio drivers available",
    "there is no virtio block device driver",
    "does not have virtio drivers installed",
];

/// Most lines of a log that are told.
pub(super) const TAIL: usize = 20;

#[derive(Deserialize)]
struct Message {
    message: String,
    #[serde(rename = "type")]
    kind: String,
}

/// What it said that counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// Its last error, in one line.
    pub error: Option<String>,
    /// That there are no drivers, in its words.
    pub no_drivers: Option<String>,
    pub warnings: Vec<String>,
}

impl Report {
    /// From its messages, as JSON. What cannot be read is left out: the guest is looked at afterwards anyway.
    pub(super) fn of(messages: &str) -> Self {
        let mut report = Self::default();
        for message in messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok()) {
            let text = message.message.split_whitespace().collect::<Vec<_>>().join(" ");
            if report.no_drivers.is_none() && NO_DRIVERS.iter().any(|words| text.contains(words)) {
                report.no_drivers = Some(text.clone());
            }
            match message.kind.as_str() {
                "error" => report.error = Some(text),
                "warning" => report.warnings.push(text),
                _ => {}
            }
        }
        report
    }
}

/// The last lines of a log that say something.
pub(super) fn tail(log: &str) -> Vec<String> {
    let lines = log.lines().map(str::trim_end).filter(|line| !line.is_empty());
    let mut last: Vec<_> = lines.rev().take(TAIL).map(str::to_owned).collect();
    last.reverse();
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    // From virt-v2v-in-place 2.2.0, both with exit code 0.
    const WITH: &str = r#"{ "message": "Inspecting the source", "timestamp": "2026-11-22T14:46:25.301878836+00:00", "type": "message" }
{ "message": "Converting Windows Server 2019 Standard to run on KVM", "timestamp": "2026-11-22T14:46:36.971480311+00:00", "type": "message" }
{ "message": "QEMU Guest Agent MSI not found on tools ISO/directory. You may want to install the guest agent manually after conversion.", "timestamp": "2026-11-22T14:46:38.181839923+00:00", "type": "warning" }
{ "message": "This guest has virtio drivers installed.", "timestamp": "2026-11-22T14:46:38.474016032+00:00", "type": "info" }
{ "message": "Finishing off", "timestamp": "2026-11-22T14:46:43.366449242+00:00", "type": "message" }
"#;
    const WITHOUT: &str = r#"{ "message": "there are no virtio drivers available for this version of Windows (10.0 x86_64 Server win2k19).  virt-v2v looks for drivers in /srv/empty\n\nThe guest will be configured to use slower emulated devices.", "timestamp": "2026-11-22T14:49:24.214431457+00:00", "type": "warning" }
{ "message": "This guest does not have virtio drivers installed.", "timestamp": "2026-11-22T14:49:24.241670298+00:00", "type": "info" }
{ "message": "Finishing off", "timestamp": "2026-11-22T14:49:28.916263573+00:00", "type": "message" }
"#;

    #[test]
    fn a_conversion_with_drivers_has_only_its_warnings() {
        let report = Report::of(WITH);
        assert_eq!((report.error, report.no_drivers), (None, None));
        assert_eq!(report.warnings.len(), 1);
    }

    #[test]
    fn one_without_says_so_though_it_ends_well() {
        let report = Report::of(WITHOUT);
        assert_eq!(
            report.no_drivers.as_deref(),
            Some(
                "there are no virtio drivers available for this version of Windows (10.0 x86_64 Server win2k19). \
                 virt-v2v looks for drivers in /srv/empty The guest will be configured to use slower emulated devices."
            )
        );
        let info = WITHOUT.lines().nth(1).expect("three lines");
        assert!(Report::of(info).no_drivers.is_some(), "the other of the two lines is enough");
    }

    #[test]
    fn an_error_comes_through_in_one_line() {
        let said = r#"{"message":"inspection could not detect the source guest","type":"error"}
{"message":"unable to mount the disk image for writing. This has probably happened because Windows Hibernation or Fast Restart is being used in this guest.\n\nOriginal error message: x","type":"error"}"#;
        let error = Report::of(said).error.expect("it is one");
        assert!(
            error.contains("Hibernation or Fast Restart") && error.ends_with("Original error message: x")
        );
    }

    #[test]
    fn what_is_no_message_is_passed_over() {
        assert_eq!(Report::of("\n{}\nnonsense\n{\"message\":1}\n\u{0}"), Report::default());
    }

    #[test]
    fn a_tail_is_the_last_lines_that_say_something() {
        assert_eq!(tail("a\n\nb  \n \n"), ["a", "b"]);
        let long = (0..50).map(|n| format!("{n}\n")).collect::<String>();
        assert_eq!(tail(&long).len(), TAIL);
        assert_eq!(tail(&long).last().map(String::as_str), Some("49"));
        assert!(tail("").is_empty());
    }
}
