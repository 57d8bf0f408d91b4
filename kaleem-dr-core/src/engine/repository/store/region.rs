//! Requests the region of a bucket if none is configured, and sends requests about a bucket that OpenDAL does not support.
//!
//! A service that checks the region rejects requests signed for another one, and names its own: in the response to
//! `GetBucketLocation`, in a header, or in the text of the rejection. restic does the same.

use http::{HeaderMap, StatusCode};
use secrecy::ExposeSecret as _;

use super::{S3Access, StoreError, StoreErrorKind, retry, transport};
use crate::ground::Cause;

/// R2's only region, which means "not configured" elsewhere.
const ANY: &str = "auto";
/// The region that knows all others; restic signs for it if nothing else is known.
const FIRST: &str = "us-east-1";

/// Reports whether the service must be asked for the region.
pub(super) fn is_unknown(access: &S3Access) -> bool {
    access.region.is_empty() || (access.region == ANY && !access.is_r2())
}

/// The region to sign for.
///
/// # Errors
/// If the service cannot be reached.
pub(crate) async fn of(access: &S3Access) -> Result<String, StoreError> {
    if !is_unknown(access) {
        return Ok(access.region.clone());
    }
    let mut attempt = 0;
    loop {
        attempt += 1;
        let why = match signed_get(access, FIRST, "location").await {
            Ok(answer) if !answer.passes() => {
                let region = answer.region().unwrap_or_else(|| FIRST.to_owned());
                tracing::debug!(location = %access.location(), %region, "the bucket's region was asked for");
                return Ok(region);
            }
            Ok(answer) => {
                (StoreErrorKind::Other, format!("the service answered {}", answer.status).into())
            }
            Err(error) => error,
        };
        let (kind, cause): (StoreErrorKind, Cause) = why;
        if attempt > access.tuning.retries {
            return Err(StoreError::new(
                "find the region of",
                "the bucket",
                access.location(),
                false,
                cause,
            )
            .with_kind(kind));
        }
        let pause = retry::pause(access.tuning.retry_delay, attempt);
        retry::note(
            "read",
            "the bucket's region",
            &access.location(),
            &cause.to_string(),
            (attempt, access.tuning.retries),
            pause,
        );
        tokio::time::sleep(pause).await;
    }
}

/// An answer to a request about a bucket.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    /// Reports whether another attempt may get a different answer.
    fn passes(&self) -> bool {
        self.status.is_server_error() && self.status != StatusCode::NOT_IMPLEMENTED
            || self.status == StatusCode::TOO_MANY_REQUESTS
    }

    /// The region of the bucket, wherever the response names it.
    fn region(&self) -> Option<String> {
        let header = self
            .headers
            .get(transport::REGION_HEADER)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let body = &self.body;
        let between = |before: &str, after: char| {
            Some(body.split_once(before)?.1.split_once(after)?.0.to_owned())
        };
        let location = || {
            let (_, rest) = body.split_once("<LocationConstraint")?;
            let name = rest.split_once('>')?.1.split('<').next()?;
            // The oldest regions have no name, or a name of their own.
            Some(match name {
                "" => FIRST.to_owned(),
                "EU" => "eu-west-1".to_owned(),
                name => name.to_owned(),
            })
        };
        // Garage: `Unexpected scope, expected: 20260101/garage/s3/aws4_request`
        let scope = || {
            let (before, _) = body.split_once("/s3/aws4_request")?;
            before.rsplit_once('/').map(|(_, region)| region.to_owned())
        };
        header
            .or_else(|| between("<Region>", '<'))
            .or_else(location)
            .or_else(|| between("expecting '", '\''))
            .or_else(scope)
            .filter(|region| is_region(region))
    }
}

/// Reports whether a name is safe to use in a signature: a response may contain anything.
fn is_region(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// A signed GET request about the bucket itself.
///
/// # Errors
/// If there was no response.
pub(crate) async fn signed_get(
    access: &S3Access,
    region: &str,
    query: &str,
) -> Result<Answer, (StoreErrorKind, Cause)> {
    let other = |cause: Cause| (StoreErrorKind::Other, cause);
    let (address, headers) = signed(access, region, query).await.map_err(other)?;
    let http = transport::client(&access.network, &access.tuning).map_err(other)?;
    let sent = http.get(address).headers(headers).timeout(access.tuning.call_timeout).send().await;
    let failed =
        |error: reqwest::Error| (StoreErrorKind::of_request(&error), error.without_url().into());
    let answer = sent.map_err(failed)?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    Ok(Answer { status, headers, body: answer.text().await.map_err(failed)? })
}

async fn signed(
    access: &S3Access,
    region: &str,
    query: &str,
) -> Result<(String, HeaderMap), Cause> {
    use reqsign_aws_v4::{EMPTY_STRING_SHA256, RequestSigner, StaticCredentialProvider};
    let address = format!("{}/{}?{query}", access.endpoint, access.bucket);
    let request =
        http::Request::get(&address).header("x-amz-content-sha256", EMPTY_STRING_SHA256).body(())?;
    let (mut parts, ()) = request.into_parts();
    let mut key = StaticCredentialProvider::new(
        access.access_key_id.expose_secret(),
        access.secret_access_key.expose_secret(),
    );
    if let Some(token) = &access.session_token {
        key = key.with_session_token(token.expose_secret());
    }
    let signer = reqsign_core::Signer::new(
        reqsign_core::Context::new(),
        key,
        RequestSigner::new("s3", region),
    );
    signer.sign(&mut parts, None).await?;
    parts.headers.remove(http::header::HOST);
    Ok((address, parts.headers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_read_from_whatever_names_it() {
        let answer = |header: Option<&str>, body: &str| {
            let mut headers = HeaderMap::new();
            if let Some(header) = header {
                headers.insert(transport::REGION_HEADER, header.parse().unwrap());
            }
            Answer { status: StatusCode::BAD_REQUEST, headers, body: body.to_owned() }.region()
        };
        let xmlns = "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"";
        assert_eq!(answer(Some("eu-central-1"), "").as_deref(), Some("eu-central-1"));
        assert_eq!(
            answer(None, &format!("<LocationConstraint {xmlns}>fr-par</LocationConstraint>"))
                .as_deref(),
            Some("fr-par")
        );
        assert_eq!(
            answer(None, &format!("<LocationConstraint {xmlns}/>")).as_deref(),
            Some("us-east-1")
        );
        assert_eq!(
            answer(None, "<LocationConstraint></LocationConstraint>").as_deref(),
            Some("us-east-1")
        );
        assert_eq!(
            answer(None, "<LocationConstraint>EU</LocationConstraint>").as_deref(),
            Some("eu-west-1")
        );
        assert_eq!(
            answer(None, "<Error><Region>eu-west-3</Region></Error>").as_deref(),
            Some("eu-west-3")
        );
        let message = "<Message>the region 'us-east-1' is wrong; expecting 'ap-south-1'</Message>";
        assert_eq!(answer(None, message).as_deref(), Some("ap-south-1"));
        let garage =
            "<Message>unexpected scope, expected: 20260101/garage/s3/aws4_request</Message>";
        assert_eq!(answer(None, garage).as_deref(), Some("garage"));
        assert_eq!(answer(None, "<Region>a/../b</Region>"), None);
        assert_eq!(answer(None, "<html>Log in</html>"), None);
    }
}
