//! A report in Markdown. Everything in it that somebody else wrote is escaped, or stands in a fence longer than any in it.

use super::Report;
use super::text::{STEP_HEADER, after, console_source, facts, plain, step_rows, time, title};

/// Inline: on one line, and nothing in it is markup. Names and times stay as they are: it is read in terminals, too.
fn text(of: &str) -> String {
    let (mut escaped, mut before) = (String::new(), None);
    let of: Vec<char> = plain(of).chars().collect();
    for (at, &c) in of.iter().enumerate() {
        let (last, next) = (before.replace(c), of.get(at + 1).copied());
        let digits = [last, next].iter().all(|c: &Option<char>| c.is_some_and(|c| c.is_ascii_digit()));
        match c {
            ':' if digits || next.is_none_or(char::is_whitespace) => escaped.push(c),
            '-' | '(' | ')' if last.is_some_and(|last| last != ']') => escaped.push(c),
            '.' if last.is_some_and(|last| !matches!(last, 'w' | 'W')) => escaped.push(c),
            '\n' => escaped.push(' '),
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            // Addresses become links without any markup.
            ':' | '@' => escaped.push_str(if c == ':' { "&#58;" } else { "&#64;" }),
            c if c.is_ascii_punctuation() && !matches!(c, ',' | ';' | '%' | '"' | '\'' | '/' | '=' | '?') => {
                escaped.push('\\');
                escaped.push(c);
            }
            c => escaped.push(c),
        }
    }
    escaped.trim().to_owned()
}

/// As it is.
fn fenced(of: &str) -> String {
    let of = plain(of);
    let longest = of.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{of}\n{fence}\n")
}

fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut out = format!("| {} |\n|{}\n", header.join(" | "), "---|".repeat(header.len()));
    for row in rows {
        let cells: Vec<_> = row.iter().map(|cell| text(cell)).collect();
        out.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    out
}

pub(super) fn render(report: &Report) -> String {
    let mut parts = vec![format!("# {}\n", text(&title(report)))];
    parts.push(table(&["", ""], facts(report).into_iter().map(|(name, value)| vec![name.to_owned(), value])));
    parts.push(format!("## Steps\n\n{}", table(&STEP_HEADER, step_rows(&report.steps))));
    let findings = report
        .findings
        .iter()
        .map(|f| format!("- {} {}: {}\n", f.weight, text(&f.code), text(&f.message)))
        .collect::<String>();
    parts.push(format!("## Findings\n\n{}", if findings.is_empty() { "None.\n" } else { &findings }));
    let yes = |since| if since { "yes" } else { "no" }.to_owned();
    let rows = report.verification.iter().map(|v| {
        vec![
            v.disk.clone(),
            time(v.replica_verified_at),
            yes(v.replica_since_restore_point),
            time(v.source_verified_at),
            yes(v.source_since_restore_point),
        ]
    });
    let header =
        ["Disk", "Replica compared", "Since the restore point", "Source compared", "Since the restore point"];
    parts.push(format!("## Verification\n\n{}", table(&header, rows)));
    parts.push(format!(
        "## Console\n\nIts end, {}.\n\n{}",
        console_source(report),
        fenced(&report.console.text)
    ));
    match (&report.screenshot, &report.screenshot_note) {
        (Some(_), _) => parts.push("## Screen\n\nThe picture is in the forms json and html.\n".to_owned()),
        (None, Some(why)) => parts.push(format!("## Screen\n\nNo picture: {}\n", text(why))),
        (None, None) => {}
    }
    for (heading, job) in after(report) {
        let status = format!("{}, {}", text(&job.job_id), job.status);
        parts.push(format!("## {heading}\n\n{status}\n\n{}", table(&STEP_HEADER, step_rows(&job.steps))));
    }
    parts.push(format!("Made at {}\n", time(Some(report.made_at))));
    parts.join("\n")
}
