//! ARCHITECTURE.md's code map shows what is there: every path it names exists, every module of a package is named.

use super::{EDGES, entries, tests::repository};
use std::path::Path;

/// What the map leaves out: entry points that only hand on, and the table of words itself.
const UNNAMED: &[&str] = &["lib", "main"];

/// Everything in which the map of the repository at `root` is not the territory, one line each.
fn lies(root: &Path, page: &str) -> Vec<String> {
    let map =
        page.split("\n## Code map\n").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap_or_default();
    let mut found = Vec::new();
    for (package, _) in EDGES {
        let start = format!("`{package}/` —");
        let Some(paragraph) = map.split("\n\n").find(|paragraph| paragraph.trim_start().starts_with(&start))
        else {
            found.push(format!("{package}: has no paragraph that begins with {start}"));
            continue;
        };
        let named: Vec<_> = paragraph.split('`').skip(1).step_by(2).collect();
        found.extend(
            named
                .iter()
                .filter(|name| !exists(root, package, name))
                .map(|name| format!("{package}: `{name}` is neither a path nor a module of it")),
        );
        let is_named = |module: &String| named.iter().any(|name| name.trim_end_matches('/') == module);
        let left_out =
            modules(&root.join(package).join("src")).into_iter().filter(|module| !is_named(module));
        found.extend(left_out.map(|module| format!("{package}: module `{module}` is not on the map")));
    }
    found
}

fn exists(root: &Path, package: &str, name: &str) -> bool {
    let name = name.trim_end_matches('/');
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    // A pattern stands for its folder.
    let name = name.split_once("/*").map_or(name, |(folder, _)| folder);
    let bases = [root.to_owned(), root.join(package), root.join(package).join("src")];
    name.chars().all(plain)
        && bases.iter().any(|base| base.join(name).exists() || base.join(format!("{name}.rs")).exists())
}

/// Files and folders right below `src`, without their endings.
fn modules(src: &Path) -> Vec<String> {
    let mut found: Vec<_> = entries(src)
        .into_iter()
        .filter(|entry| entry.is_dir() || entry.extension().is_some_and(|ending| ending == "rs"))
        .filter_map(|entry| Some(entry.file_stem()?.to_str()?.to_owned()))
        .filter(|module| !UNNAMED.contains(&module.as_str()))
        .collect();
    found.dedup();
    found
}

#[test]
fn the_code_map_is_true() {
    let root = repository();
    let page = std::fs::read_to_string(root.join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is there");
    let found = lies(&root, &page);
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn a_map_that_lies_is_found() {
    let root = repository();
    let page = std::fs::read_to_string(root.join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is there");
    let changed = |from: &str, to: &str| {
        assert!(page.contains(from), "{from:?} is on the map");
        lies(&root, &page.replacen(from, to, 1))
    };
    assert_eq!(changed("`hub`", "`hob`").len(), 2, "hob is not there, hub is not named");
    assert_eq!(changed("`wire/push`", "`wire/pull`").len(), 1);
    assert_eq!(changed("`shared/` —", "`shared` —").len(), 1);
    assert_eq!(lies(&root, "# Nothing\n").len(), EDGES.len());
}
