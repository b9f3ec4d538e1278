//! Tables and JSON of what the control plane answers. Times are relative for people, absolute in JSON.

mod migration;

pub(super) use migration::{migration_json, migration_text, migrations_table};

use comfy_table::{Cell, CellAlignment, Table, presets};
use jiff::{SignedDuration, Timestamp};
use proto::v1;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Output {
    /// For people: a table, times as "3m ago".
    #[default]
    Table,
    /// The same with more columns.
    Wide,
    /// For scripts: everything, times in RFC 3339.
    Json,
}

pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header.iter().map(Cell::new));
    table
}

/// A right-aligned cell.
pub(super) fn number(text: impl ToString) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// `1.5 GiB`.
pub(super) fn bytes(n: u64) -> String {
    indicatif::BinaryBytes(n).to_string()
}

/// `sync/paused`, as the database spells it.
pub(super) fn position(m: &v1::Migration) -> String {
    let short = |name: &str, prefix: &str| name.strip_prefix(prefix).unwrap_or(name).to_lowercase();
    format!("{}/{}", short(m.phase().as_str_name(), "PHASE_"), short(m.state().as_str_name(), "STATE_"))
}

/// Lower-case word of an enum's wire name.
fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase()
}

/// `3m ago`, `in 2h`: of a time in RFC 3339; `-` of none.
pub(super) fn when(at: &str) -> String {
    relative(at, Timestamp::now())
}

fn relative(at: &str, now: Timestamp) -> String {
    // A newer control plane may say something else.
    let Ok(then) = at.parse::<Timestamp>() else {
        return if at.is_empty() { "-".to_owned() } else { at.to_owned() };
    };
    let apart = now.duration_since(then);
    match short(apart.abs()) {
        None => "now".to_owned(),
        Some(span) if apart.is_negative() => format!("in {span}"),
        Some(span) => format!("{span} ago"),
    }
}

/// In the largest unit that fits.
fn short(span: SignedDuration) -> Option<String> {
    let seconds = span.as_secs();
    Some(match seconds {
        ..1 => return None,
        1..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m", seconds / 60),
        7200..=172_799 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_people_say_them() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().expect("a time");
        for (at, said) in [
            ("2026-11-22T12:00:00.4Z", "now"),
            ("2026-11-22T11:59:30Z", "30s ago"),
            ("2026-11-22T11:30:00Z", "30m ago"),
            ("2026-11-22T15:00:00Z", "in 3h"),
            ("2026-11-12T12:00:00Z", "10d ago"),
            ("", "-"),
            ("soon", "soon"),
        ] {
            assert_eq!(relative(at, now), said, "{at}");
        }
    }
}
