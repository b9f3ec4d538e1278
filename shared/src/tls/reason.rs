//! What a refused handshake means, in words an operator can act on.

use rustls::{AlertDescription, CertificateError, Error};

/// The reason inside an I/O error of a TLS stream, if it is one of TLS.
pub(super) fn of_io(error: &std::io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(tls) => of_tls(tls),
        None => error.to_string(),
    }
}

/// `Some` when the peer itself said why it ended the connection.
pub(super) fn said_by_peer(error: &std::io::Error) -> Option<String> {
    match error.get_ref()?.downcast_ref::<Error>()? {
        Error::AlertReceived(alert) => Some(of_alert(*alert)),
        _ => None,
    }
}

pub(super) fn of_tls(error: &Error) -> String {
    match error {
        Error::NoCertificatesPresented => "the peer presented no certificate".to_owned(),
        Error::InvalidCertificate(why) => of_certificate(why),
        Error::AlertReceived(alert) => of_alert(*alert),
        other => other.to_string(),
    }
}

fn of_certificate(why: &CertificateError) -> String {
    match why {
        CertificateError::Expired => "the peer's certificate has expired".to_owned(),
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("the peer's certificate has expired (not valid after unix time {})", not_after.as_secs())
        }
        CertificateError::NotValidYet => "the peer's certificate is not yet valid".to_owned(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("the peer's certificate is not yet valid (not before unix time {})", not_before.as_secs())
        }
        CertificateError::UnknownIssuer => {
            "the peer's certificate is not signed by the configured CA".to_owned()
        }
        CertificateError::BadSignature => {
            "the peer's certificate carries the configured CA's name but not its signature".to_owned()
        }
        other => format!("the peer's certificate is refused: {other}"),
    }
}

fn of_alert(alert: AlertDescription) -> String {
    let why = match alert {
        AlertDescription::CertificateExpired => "our certificate has expired or is not yet valid",
        AlertDescription::UnknownCA => "our certificate is not signed by the CA the peer trusts",
        AlertDescription::CertificateRequired => "we presented no certificate",
        AlertDescription::BadCertificate => "our certificate is bad",
        AlertDescription::DecryptError => "our certificate's signature does not fit the CA the peer trusts",
        AlertDescription::CertificateUnknown => "our certificate names nobody the peer accepts",
        AlertDescription::AccessDenied => "our certificate is valid but not accepted here",
        AlertDescription::HandshakeFailure | AlertDescription::ProtocolVersion => {
            "no common TLS version or cipher (TLS 1.3 is required)"
        }
        _ => return format!("the peer refused the connection: TLS alert {alert:?}"),
    };
    format!("the peer refused the connection: {why}")
}
