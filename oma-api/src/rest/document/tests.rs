use crate::config::Limits;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use tokio_util::sync::CancellationToken;

async fn document() -> Value {
    let plant = crate::testing::Plant::new().await;
    let (_, document) = crate::rest::router(
        plant.app,
        &Limits::default(),
        ([127, 0, 0, 1], 1).into(),
        CancellationToken::new(),
    );
    serde_json::to_value(document).expect("JSON")
}

fn operations(document: &Value) -> impl Iterator<Item = (String, &Value)> {
    let paths = document["paths"].as_object().expect("paths");
    paths.iter().flat_map(|(path, item)| {
        let item = item.as_object().expect("a path");
        item.iter().filter(|(_, op)| op.is_object()).map(move |(method, op)| (format!("{method} {path}"), op))
    })
}

/// Whether somebody who reads it sees a value: one of the whole, or of each part.
fn is_shown(document: &Value, schema: &Value) -> bool {
    if schema.get("example").is_some() || schema.get("examples").is_some() {
        return true;
    }
    if let Some(name) = schema["$ref"].as_str() {
        let target = document.pointer(name.trim_start_matches('#')).expect("what is referred to is there");
        return is_shown(document, target);
    }
    if let Some(items) = schema.get("items") {
        return is_shown(document, items);
    }
    for of in ["oneOf", "anyOf", "allOf"] {
        if let Some(parts) = schema[of].as_array() {
            return parts.iter().all(|part| part["type"] == "null" || is_shown(document, part));
        }
    }
    let none = Map::new();
    let parts = schema["properties"].as_object().unwrap_or(&none);
    !parts.is_empty() && parts.values().all(|part| speaks_for_itself(part) || is_shown(document, part))
}

fn speaks_for_itself(part: &Value) -> bool {
    let kinds = match &part["type"] {
        Value::Array(kinds) => kinds.clone(),
        kind => vec![kind.clone()],
    };
    part.get("enum").is_some()
        || part["format"] == "date-time"
        || kinds.iter().any(|kind| ["boolean", "integer", "number"].iter().any(|plain| kind == plain))
}

/// Red when a route is documented without a value that a client could send or will get.
#[tokio::test]
async fn every_body_and_every_answer_has_an_example() {
    let document = document().await;
    let mut without = BTreeSet::new();
    for (name, operation) in operations(&document) {
        let answers = operation["responses"].as_object().expect("responses").iter();
        let answers = answers.filter(|(status, _)| !status.starts_with('3'));
        let bodies = answers
            .map(|(status, answer)| (status.as_str(), answer))
            .chain([("body", &operation["requestBody"])]);
        for (what, body) in bodies {
            for (kind, content) in body["content"].as_object().into_iter().flatten() {
                let json = kind.contains("json");
                let example = content.get("example").is_some() || content.get("examples").is_some();
                if json && !example && !is_shown(&document, &content["schema"]) {
                    without.insert(format!("{name} {what}: {}", content["schema"]));
                }
            }
        }
    }
    assert!(without.is_empty(), "{without:#?}");
}

/// What the example says that its schema does not, and the reverse.
fn misfits(document: &Value, schema: &Value, example: &Value, at: &str, found: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let target = document.pointer(name.trim_start_matches('#')).expect("what is referred to is there");
        return misfits(document, target, example, at, found);
    }
    if let Some(parts) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
        let fits = |part: &&Value| match example.is_null() {
            true => part["type"] == "null",
            false => part["type"] != "null",
        };
        return match parts.iter().find(fits) {
            Some(part) => misfits(document, part, example, at, found),
            None => found.push(format!("{at}: {example} is of no kind")),
        };
    }
    if let (Some(items), Some(list)) = (schema.get("items"), example.as_array()) {
        list.iter().for_each(|one| misfits(document, items, one, at, found));
    }
    let (Some(parts), Some(said)) = (schema["properties"].as_object(), example.as_object()) else { return };
    for (name, value) in said {
        match parts.get(name) {
            Some(part) => misfits(document, part, value, &format!("{at}.{name}"), found),
            None => found.push(format!("{at}.{name} is not in the schema")),
        }
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        if !said.contains_key(name.as_str().expect("a name")) {
            found.push(format!("{at}.{name} is missing"));
        }
    }
}

/// Red when an answer changes and its example does not.
#[tokio::test]
async fn examples_are_of_their_schemas() {
    let document = document().await;
    let examples: Value = serde_json::from_str(include_str!("examples.json")).expect("JSON");
    let mut found = Vec::new();
    for (name, example) in examples.as_object().expect("by name") {
        let schema = &document["components"]["schemas"][name];
        assert_eq!(&schema["example"], example, "there is no schema {name}");
        misfits(&document, schema, example, name, &mut found);
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[tokio::test]
async fn operations_are_named_once_described_and_can_be_refused() {
    let document = document().await;
    let mut names = BTreeSet::new();
    for (name, operation) in operations(&document) {
        let id = operation["operationId"].as_str().expect("named");
        assert!(names.insert(id.to_owned()), "{id} twice");
        let described = operation["summary"].as_str().or(operation["description"].as_str());
        assert!(described.is_some_and(|text| !text.is_empty()), "{name} says nothing of itself");
        for status in ["4XX", "5XX"] {
            let refusal = &operation["responses"][status]["content"]["application/json"]["schema"]["$ref"];
            let family = match name.split_once(' ').expect("a method and a path").1 {
                path if path.starts_with("/api/v1/progress") || path.starts_with("/api/v1/replications") => {
                    "ProgressRefusal"
                }
                path if path.contains("{account}") => "MigrationRefusal",
                _ => "Refusal",
            };
            assert_eq!(refusal, &format!("#/components/schemas/{family}"), "{name} {status}");
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(parameter["in"] != "path" || parameter.get("example").is_some(), "{name}: {parameter}");
        }
    }
    assert!(names.len() > 30, "{names:?}");
}
