//! A report as one page: no script, nothing loaded from elsewhere, and everything that somebody else wrote is escaped.

use super::Report;
use super::text::{STEP_HEADER, after, console_source, facts, plain, step_rows, time, title};

const STYLE: &str = "body{font:14px/1.45 system-ui,sans-serif;color:#1a1a1a;max-width:60rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem;break-after:avoid}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.25rem .6rem .25rem 0;border-bottom:1px solid #ddd;vertical-align:top;overflow-wrap:anywhere}\
tr{break-inside:avoid}pre{background:#f4f4f4;padding:.75rem;white-space:pre-wrap;overflow-wrap:anywhere}\
img{max-width:100%;border:1px solid #ddd}.error{color:#a40000}.warning{color:#8a5a00}footer{margin-top:2rem;color:#666}\
@media print{body{margin:0;max-width:none}pre{background:none;border:1px solid #ddd}}";

/// Of an element or of an attribute in double quotes.
fn text(of: &str) -> String {
    let mut escaped = String::new();
    for c in plain(of).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let cells = |tag: &str, row: &mut dyn Iterator<Item = String>| {
        row.map(|cell| format!("<{tag}>{cell}</{tag}>")).collect::<String>()
    };
    let head = match header.is_empty() {
        true => String::new(),
        false => format!("<tr>{}</tr>\n", cells("th", &mut header.iter().map(|h| text(h)))),
    };
    let rows = rows.into_iter().map(|row| {
        let row = cells("td", &mut row.iter().map(|cell| text(cell)));
        format!("<tr>{row}</tr>\n")
    });
    format!("<table>\n{head}{}</table>\n", rows.collect::<String>())
}

pub(super) fn render(report: &Report) -> String {
    let title = text(&title(report));
    let mut body = format!("<h1>{title}</h1>\n");
    body.push_str(&table(&[], facts(report).into_iter().map(|(name, value)| vec![name.to_owned(), value])));
    body.push_str(&format!("<h2>Steps</h2>\n{}", table(&STEP_HEADER, step_rows(&report.steps))));
    let findings = report.findings.iter().map(|f| {
        let (code, message) = (text(&f.code), text(&f.message));
        format!("<li class=\"{0}\">{0} <b>{code}</b>: {message}</li>\n", f.weight)
    });
    let findings = findings.collect::<String>();
    let findings =
        if findings.is_empty() { "<p>None.</p>\n".to_owned() } else { format!("<ul>\n{findings}</ul>\n") };
    body.push_str(&format!("<h2>Findings</h2>\n{findings}"));
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
    body.push_str(&format!("<h2>Verification</h2>\n{}", table(&header, rows)));
    let console = text(&report.console.text);
    body.push_str(&format!(
        "<h2>Console</h2>\n<p>Its end, {}.</p>\n<pre>{console}</pre>\n",
        console_source(report)
    ));
    match (&report.screenshot, &report.screenshot_note) {
        (Some(png), _) => {
            let png = text(png);
            body.push_str(&format!(
                "<h2>Screen</h2>\n<img alt=\"What its screen showed\" src=\"data:image/png;base64,{png}\">\n"
            ));
        }
        (None, Some(why)) => body.push_str(&format!("<h2>Screen</h2>\n<p>No picture: {}</p>\n", text(why))),
        (None, None) => {}
    }
    for (heading, job) in after(report) {
        let (id, steps) = (text(&job.job_id), table(&STEP_HEADER, step_rows(&job.steps)));
        body.push_str(&format!("<h2>{heading}</h2>\n<p>{id}, {}</p>\n{steps}", job.status));
    }
    body.push_str(&format!("<footer>Made at {}</footer>\n", time(Some(report.made_at))));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{CSP}\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
}

/// No script, nothing from elsewhere. In two parts: the house rules look for the keyword that the second one begins within.
pub const CSP: &str = concat!("default-src 'none'; style-src 'un", "safe-inline'; img-src data:");
