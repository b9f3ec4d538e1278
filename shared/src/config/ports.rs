//! Default TCP ports; the firewall table in `deploy/firewall.md` says who dials whom.

/// `oma-api`: gRPC for agents and operators, mutual TLS.
pub const OMA_GRPC: u16 = 8443;

/// `oma-api`: REST, read only and in clear: for this machine's tools and a reverse proxy.
pub const OMA_REST: u16 = 8082;

/// `vma-agent`: progress REST, read by the OMA's poller and by operators.
pub const AGENT_PROGRESS_REST: u16 = 8081;

/// `vma-agent`: gRPC diagnostics (health, reflection), mutual TLS; the only port of the agent that is dialled from
/// outside without having been asked for.
pub const AGENT_DIAGNOSTICS_GRPC: u16 = 8444;
