//! What is true of all operations of the document, and would be forgotten at one of them: their names, the form of their
//! refusals (by the family of the route), an example for every parameter of a path, and those of the answers, which
//! `examples.json` has by the names of their schemas, as a control plane gave them.

#[cfg(test)]
mod tests;

use super::refusal::Family;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder};

/// Completes the document of all routes.
pub(super) fn complete(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    let mut examples: BTreeMap<String, Value> =
        serde_json::from_str(include_str!("document/examples.json")).expect("JSON, as a test sees");
    for family in Family::ALL {
        let (name, schema) = refusal(family);
        let schema: Schema = serde_json::from_value(schema).expect("a schema, as a test sees");
        components.schemas.insert(name.to_owned(), RefOr::T(schema));
    }
    for (name, schema) in &mut components.schemas {
        if let Some(shown) = examples.remove(name) {
            let mut said = serde_json::to_value(&*schema).expect("JSON");
            said["example"] = shown;
            let said: Schema = serde_json::from_value(said).expect("still a schema");
            *schema = RefOr::T(said);
        }
    }
    for (path, item) in &mut document.paths.paths {
        let refused = refusal(Family::of(path)).0;
        for (method, operation) in operations(item) {
            operation.operation_id = Some(name(method, path));
            refuse(operation, refused);
            for parameter in operation.parameters.iter_mut().flatten() {
                if let RefOr::T(parameter) = parameter
                    && parameter.parameter_in == ParameterIn::Path
                {
                    let shown = example(path, &parameter.name);
                    *parameter = ParameterBuilder::from(parameter.clone()).example(Some(shown)).build();
                }
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    [
        ("get", &mut item.get),
        ("put", &mut item.put),
        ("post", &mut item.post),
        ("delete", &mut item.delete),
        ("patch", &mut item.patch),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// By method and path: a handler that is served at two addresses is two operations.
fn name(method: &str, path: &str) -> String {
    let path: String = path.chars().filter(|c| !"{}".contains(*c)).collect();
    format!("{method}_{}", path.trim_matches('/').replace(['/', '-', '.'], "_"))
}

/// Every operation may be refused, by its arguments or by who asks, and its database may be away.
fn refuse(operation: &mut Operation, schema: &str) {
    let responses = &mut operation.responses.responses;
    for (status, what) in [("4XX", "refused"), ("5XX", "it cannot be done now, or a defect")] {
        responses
            .entry(status.to_owned())
            .or_insert_with(|| ResponseBuilder::new().description(what).build().into());
    }
    for (_, response) in responses.iter_mut().filter(|(status, _)| status.starts_with(['4', '5'])) {
        if let RefOr::T(response) = response {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(schema))).build();
            response.content.insert("application/json".to_owned(), content.into());
        }
    }
}

/// Name and schema of a family's refusals.
fn refusal(family: Family) -> (&'static str, Value) {
    match family {
        Family::Progress => (
            "ProgressRefusal",
            json!({
                "type": "object", "required": ["error"],
                "description": "Why a request to the progress API is refused.",
                "properties": {
                    "error": { "type": "string", "description": "what is wrong" },
                    "job_id": { "type": "string", "description": "of which job" },
                    "details": { "type": "string", "description": "why, and what to do" },
                    "timestamp": { "type": "string", "format": "date-time" }
                },
                "example": { "error": "job not found", "job_id": "job-20261121-144523", "timestamp": "2026-11-21T14:45:23Z" }
            }),
        ),
        Family::Migration => (
            "MigrationRefusal",
            json!({
                "type": "object", "required": ["code", "message", "reason"],
                "description": "Why a request to the instance-migration API is refused.",
                "properties": {
                    "code": { "type": "string", "description": "as the family's clients know it" },
                    "message": { "type": "string", "description": "what, why, and what to do" },
                    "reason": { "type": "string", "description": "upper snake case; the same as over gRPC" }
                },
                "example": { "code": "InvalidState", "reason": "NOTHING_TO_PAUSE",
                    "message": "pause is not possible while the migration is sync/paused: no cycle is running" }
            }),
        ),
        Family::Failover => (
            "Refusal",
            json!({
                "type": "object", "required": ["success", "error", "error_code", "details", "troubleshooting"],
                "description": "Why a request is refused.",
                "properties": {
                    "success": { "type": "boolean" },
                    "error": { "type": "string", "description": "what, why, and what to do" },
                    "error_code": { "type": "string", "description": "upper snake case; the same as over gRPC" },
                    "details": { "type": "object", "properties": { "correlation_id": { "type": ["string", "null"] } } },
                    "troubleshooting": { "type": "object", "properties": {
                        "suggestions": { "type": "array", "items": { "type": "string" } },
                        "documentation": { "type": "string" }
                    } }
                },
                "example": { "success": false, "error": "there is no VM web-01", "error_code": "VM_UNKNOWN",
                    "details": { "correlation_id": "01a201e5-0742-76d5-907f-00ce6507bb66" },
                    "troubleshooting": { "suggestions": ["List the VMs: GET /api/v1/vms"], "documentation": "/api/v1/openapi.json" } }
            }),
        ),
    }
}

/// Of a path's parameter.
fn example(path: &str, parameter: &str) -> Value {
    json!(match parameter {
        "account" => "my",
        "job_id" if path.contains("/failover/") => {
            "enhanced-test-failover-420570c7-f61f-a930-77c5-1e876786cb3c-1756882765"
        }
        "job_id" | "id" => "job-20261121-144523",
        "name" if path.contains("tokens") => "ci",
        "name" => "shop",
        _ => "web-01",
    })
}
