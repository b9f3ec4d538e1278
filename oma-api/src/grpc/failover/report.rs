//! `FailoverService.Report`.

use crate::failover::report::Format;
use crate::service::App;
use proto::v1;
use proto::v1::FailoverReportFormat as F;
use shared::wire::refusal;
use tonic::{Code, Status};

pub(super) async fn report(
    app: &App,
    request: v1::FailoverServiceReportRequest,
) -> Result<v1::FailoverServiceReportResponse, Status> {
    let unusable = |why| refusal::status(Code::InvalidArgument, "INVALID_REQUEST", why);
    let format = match F::try_from(request.format) {
        Ok(F::Json) => Format::Json,
        Ok(F::Markdown) => Format::Markdown,
        Ok(F::Html) => Format::Html,
        Ok(F::Unspecified) => return Err(unusable("format: is missing")),
        Err(_) => return Err(unusable("format: is none that this OMA knows; update it")),
    };
    let report = app.failover_report(&request.job_id).await.map_err(|e| e.to_status())?;
    let (document, content_type) = (report.render(format), format.content_type().to_owned());
    Ok(v1::FailoverServiceReportResponse { document, content_type })
}
