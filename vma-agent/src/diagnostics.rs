//! The port for people with `grpcurl`: health and reflection, nothing that changes anything.

use shared::tls::{Limits, serve as serve_tls};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tracing::{error, info};

/// Serves until `shutdown`.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    shutdown: CancellationToken,
) {
    let (_, health) = tonic_health::server::health_reporter();
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // What is listed is what is served; the OMA's services can be described, as their messages can.
            .with_service_name("grpc.health.v1.Health")
    };
    let (v1, v1alpha) = match (reflection().build_v1(), reflection().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => (v1, v1alpha),
        (Err(error), _) | (_, Err(error)) => {
            error!(%error, "diagnostics are not served");
            return;
        }
    };
    if let Ok(listen) = listener.local_addr() {
        info!(%listen, "diagnostics ready");
    }
    let routes = Routes::new(health).add_service(v1).add_service(v1alpha).prepare();
    serve_tls(listener, tls, Limits { connections: 16, ..Limits::default() }, routes, shutdown).await;
}
