//! The port for people with `grpcurl`: health, reflection, and how transfers stand; nothing that changes a transfer.

use crate::access::{Access, SERVED};
use crate::grpc;
use shared::metrics::Metrics;
use shared::progress::Register;
use shared::tls::{Limits, Protection, serve as serve_tls};
use shared::wire::call::Called;
use shared::wire::refusal;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tracing::{error, info};

/// What is shown, and where its calls are measured.
pub(crate) struct Diagnostics {
    pub(crate) register: Arc<Register>,
    pub(crate) metrics: Metrics,
}

impl Diagnostics {
    /// Serves until `shutdown`.
    pub(crate) async fn serve(
        self,
        listener: TcpListener,
        tls: Arc<rustls::ServerConfig>,
        shutdown: CancellationToken,
    ) {
        let (_, health) = tonic_health::server::health_reporter();
        let reflection = || {
            let all = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(proto::DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(refusal::DESCRIPTOR_SET);
            // What is listed is what is served; the OMA's services can be described, as their messages can.
            SERVED.iter().fold(all, |builder, service| builder.with_service_name(*service))
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
        let progress = grpc::progress(self.register, &shutdown);
        let routes = Routes::new(health).add_service(v1).add_service(v1alpha).add_service(progress).prepare();
        let routes = Called::new(self.metrics, Access::new(routes));
        serve_tls(
            listener,
            Protection::Tls(tls),
            Limits { connections: 16, ..Limits::default() },
            routes,
            shutdown,
        )
        .await;
    }
}
