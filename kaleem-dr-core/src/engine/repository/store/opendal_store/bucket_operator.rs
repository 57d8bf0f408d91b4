//! The OpenDAL operator of a bucket: how requests are signed and sent.

use opendal::{
    HttpTransporter, OperationContext, Operator, layers::CapabilityOverrideLayer, services,
};
use secrecy::ExposeSecret as _;

use super::{
    super::{Rate, S3Access, StoreError, Tuning, transport},
    STREAMED_PART_BYTES,
    operator::layered,
};
use crate::ground::Cause;

/// Keys per batch of deletions; R2 fails above 700.
const DELETE_BATCH: usize = 700;

/// The operator of a bucket, whose requests are signed for a region.
pub(super) fn of_bucket(access: &S3Access, region: &str) -> Result<Operator, StoreError> {
    let location = access.location();
    let failed = |cause: Cause| StoreError::new("open", ".", location.clone(), false, cause);
    let mut service = services::S3::default()
        .endpoint(&access.endpoint)
        .bucket(&access.bucket)
        .root(&access.prefix)
        .region(region)
        .access_key_id(access.access_key_id.expose_secret())
        .secret_access_key(access.secret_access_key.expose_secret())
        .disable_config_load()
        .disable_ec2_metadata();
    if let Some(token) = &access.session_token {
        service = service.session_token(token.expose_secret());
    }
    let client = transport::client(&access.network, &access.tuning).map_err(failed)?;
    let http = HttpTransporter::new(transport::Transport::new(client, &access.network));
    let operator = Operator::new(service)
        .map_err(|cause| failed(cause.into()))?
        .with_context(OperationContext::new().with_http_transport(http))
        .layer(CapabilityOverrideLayer::new(|mut capability| {
            capability.delete_max_size = Some(DELETE_BATCH);
            capability
        }));
    Ok(layered(operator, &location, &patient(access)))
}

/// The tuning of an access, with additional time for its bandwidth limits: a request may wait for all others in progress.
fn patient(access: &S3Access) -> Tuning {
    let mut tuning = access.tuning;
    let slowest = [access.network.upload_limit, access.network.download_limit]
        .into_iter()
        .flatten()
        .map(Rate::get)
        .min();
    if let Some(slowest) = slowest {
        // Each request has up to two streamed parts in progress.
        let held_back = (tuning.concurrency * 2 * STREAMED_PART_BYTES) as u64 / slowest;
        tuning.io_timeout += std::time::Duration::from_secs(held_back);
    }
    tuning
}
