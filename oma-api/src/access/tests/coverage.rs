//! Every method and every route has its row, and nothing is served beyond it.

use super::server::{Server, Shows, bearer};
use super::*;
use crate::config::Limits;
use crate::rest;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use std::collections::BTreeSet;
use tonic::Code;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

/// Methods of these services, as paths.
fn methods(set: &FileDescriptorSet, served: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in &set.file {
        for service in &file.service {
            let name = format!("{}.{}", file.package(), service.name());
            if served(&name) {
                found.extend(service.method.iter().map(|method| format!("/{name}/{}", method.name())));
            }
        }
    }
    found
}

fn rows_of_grpc() -> BTreeSet<String> {
    OPERATIONS.iter().flat_map(|row| row.grpc).map(|path| (*path).to_owned()).collect()
}

/// Red when a service of the schema has no row, and when a row is of no method any more.
#[test]
fn every_method_of_the_schema_has_a_row() {
    let set = FileDescriptorSet::decode(proto::DESCRIPTOR_SET).expect("made by the build");
    let ours = methods(&set, |_| true);
    let rows = rows_of_grpc().into_iter().filter(|path| path.starts_with("/migratekit.v1.")).collect();
    assert_eq!(ours, rows);
}

/// What a running server says of itself: red when it serves what nobody thought of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_that_is_served_has_a_row() {
    let server = Server::start().await;
    let channel = server.channel(Shows::Certificate(CertificateRole::Viewer)).await.expect("let in");
    let mut client = ServerReflectionClient::new(channel);
    let mut asked = async |request: MessageRequest| {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
        let mut said =
            client.server_reflection_info(tokio_stream::iter([request])).await.expect("served").into_inner();
        said.message().await.expect("an answer").expect("one").message_response.expect("of a kind")
    };
    let services = match asked(MessageRequest::ListServices(String::new())).await {
        MessageResponse::ListServicesResponse(list) => {
            list.service.into_iter().map(|s| s.name).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    assert!(services.len() > 5, "{services:?}");
    let mut served = BTreeSet::new();
    for service in &services {
        match asked(MessageRequest::FileContainingSymbol(service.clone())).await {
            MessageResponse::FileDescriptorResponse(files) => {
                for file in files.file_descriptor_proto {
                    let file = prost_types::FileDescriptorProto::decode(&*file).expect("a descriptor");
                    served.extend(methods(&FileDescriptorSet { file: vec![file] }, |name| name == service));
                }
            }
            other => panic!("{service}: {other:?}"),
        }
    }
    let rows = rows_of_grpc();
    assert_eq!(served.difference(&rows).collect::<Vec<_>>(), [] as [&String; 0], "served without a row");
    // The older name of reflection lists itself under the newer one only.
    let left: Vec<_> = rows.difference(&served).filter(|path| !path.contains("v1alpha")).collect();
    assert_eq!(left, [] as [&String; 0], "a row of nothing");
}

/// Routes that the document does not describe.
const UNDESCRIBED: &[(&str, &str)] = &[("GET", "/api/v1/openapi.json"), ("GET", "/metrics")];

/// Red when a route has no row, and when a row is of no route any more.
#[tokio::test]
async fn every_route_has_a_row() {
    let plant = crate::testing::Plant::new().await;
    let (_, document) =
        rest::router(plant.app, &Limits::default(), ([127, 0, 0, 1], 1).into(), CancellationToken::new());
    let document = serde_json::to_value(document).expect("JSON");
    assert_eq!(
        document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer",
        "clients read it there"
    );
    assert!(document["security"][0]["bearer"].is_array(), "for all of them");
    let mut routes = BTreeSet::new();
    for (path, of) in document["paths"].as_object().expect("paths") {
        for method in of.as_object().expect("methods").keys().filter(|key| *key != "parameters") {
            routes.insert((method.to_uppercase(), path.clone()));
        }
    }
    assert!(routes.len() > 5, "{routes:?}");
    let owned = |route: &(&str, &str)| (route.0.to_owned(), route.1.to_owned());
    routes.extend(UNDESCRIBED.iter().map(owned));
    let rows: BTreeSet<_> = OPERATIONS.iter().flat_map(|row| row.rest).map(owned).collect();
    assert_eq!(routes, rows);
}

#[test]
fn no_method_and_no_route_has_two_rows() {
    let mut seen = BTreeSet::new();
    for row in OPERATIONS {
        assert!(seen.insert(row.name.to_owned()), "{}", row.name);
        for path in row.grpc {
            assert!(seen.insert((*path).to_owned()), "{path}");
        }
        for (method, pattern) in row.rest {
            assert!(seen.insert(format!("{method} {pattern}")), "{method} {pattern}");
        }
    }
}

/// The role below, `None` where nobody is.
fn below(role: Role) -> Option<Role> {
    Role::ALL.iter().copied().filter(|lower| *lower < role).max()
}

/// Red when a gate does not ask its table, or a row is stricter than it says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_method_is_served_below_its_row() {
    let server = Server::start().await;
    let tokens = [
        server.token("v", Role::Viewer).await,
        server.token("o", Role::Operator).await,
        server.token("a", Role::Admin).await,
    ];
    let token = |role: Role| Shows::Token(&tokens[role as usize]);
    let certificate = |role: Role| {
        let roles = [CertificateRole::Viewer, CertificateRole::Operator, CertificateRole::Admin];
        Shows::Certificate(roles[role as usize])
    };
    for row in OPERATIONS {
        for path in row.grpc {
            let code = async |shows| server.call(path, shows).await.map_err(|status| status.code()).err();
            let refused = [Some(Code::PermissionDenied), Some(Code::Unauthenticated)];
            assert_eq!(code(Shows::Nothing).await, Some(Code::Unauthenticated), "{path}");
            match row.needs {
                Needs::Agent => {
                    assert_eq!(code(token(Role::Admin)).await, Some(Code::PermissionDenied), "{path}");
                    let both = Shows::Both(CertificateRole::Oma, &tokens[2]);
                    assert_eq!(code(both).await, Some(Code::PermissionDenied), "{path}");
                    assert!(
                        !refused.contains(&code(Shows::Certificate(CertificateRole::Agent)).await),
                        "{path}"
                    );
                }
                Needs::Known => {
                    let agent = Shows::Certificate(CertificateRole::Agent);
                    assert!(
                        !refused.contains(&code(agent).await)
                            && !refused.contains(&code(token(Role::Viewer)).await)
                    );
                }
                Needs::Role(role) => {
                    if let Some(lower) = below(role) {
                        assert_eq!(code(token(lower)).await, Some(Code::PermissionDenied), "{path}");
                        assert_eq!(code(certificate(lower)).await, Some(Code::PermissionDenied), "{path}");
                    }
                    // A daemon is no person, whatever token it has.
                    for daemon in [CertificateRole::Agent, CertificateRole::Oma] {
                        let shown = code(Shows::Both(daemon, &tokens[2])).await;
                        assert_eq!(shown, Some(Code::PermissionDenied), "{path}");
                    }
                    assert!(!refused.contains(&code(token(role)).await), "{path}");
                    assert!(!refused.contains(&code(certificate(role)).await), "{path}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_route_is_served_below_its_row() {
    let server = Server::start().await;
    let tokens = [
        server.token("v", Role::Viewer).await,
        server.token("o", Role::Operator).await,
        server.token("a", Role::Admin).await,
    ];
    for row in OPERATIONS {
        for (method, pattern) in row.rest {
            let path: String = pattern
                .split('/')
                .map(|part| if part.starts_with('{') { "x" } else { part })
                .collect::<Vec<_>>()
                .join("/");
            let status = async |headers: &[String]| server.ask(method, &path, headers).await.0;
            assert_eq!(status(&[]).await, 401, "{method} {path}");
            let needed = match row.needs {
                Needs::Known => Role::Viewer,
                Needs::Role(role) => role,
                Needs::Agent => panic!("{method} {pattern}: agents do not come by REST"),
            };
            if let Some(lower) = below(needed) {
                assert_eq!(status(&bearer(&tokens[lower as usize])).await, 403, "{method} {path}");
            }
            let served = status(&bearer(&tokens[needed as usize])).await;
            assert!(![401, 403, 405].contains(&served), "{method} {path}: {served}");
        }
    }
}
