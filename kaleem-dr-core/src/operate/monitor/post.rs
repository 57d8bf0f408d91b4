//! HTTP requests to recipients, with a time limit; errors never contain the URL, which is a secret.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use http::HeaderMap;
use reqwest::{Client, RequestBuilder, redirect::Policy};

/// Maximum number of attempts for one request.
const ATTEMPTS: u32 = 3;
/// Wait after the first attempt; doubles each time.
const BACKOFF: Duration = Duration::from_millis(500);

/// An HTTP client for recipients.
///
/// # Errors
/// A sentence, if the system's certificates cannot be used.
pub(crate) fn client(timeout: Duration) -> Result<Client, String> {
    Client::builder()
        .timeout(timeout)
        .connect_timeout(timeout)
        // A redirect would send the content elsewhere.
        .redirect(Policy::none())
        .user_agent(concat!("kaleem-dr/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| crate::ground::error_chain(&error.without_url()))
}

/// Maximum duration of [`send`] with a client of this time-out.
pub(crate) fn longest(timeout: Duration) -> Duration {
    timeout * ATTEMPTS + BACKOFF * ((1 << ATTEMPTS) - 1)
}

/// Why an attempt failed.
pub(super) struct Refusal {
    pub(super) why: String,
    /// Another attempt may succeed.
    pub(super) may_pass: bool,
}

/// Repeats attempts until one succeeds, at most three, while they may.
///
/// # Errors
/// The last reason.
pub(super) async fn repeated<T, F: Future<Output = Result<T, Refusal>>>(
    attempt: impl FnMut() -> F,
) -> Result<T, String> {
    let waits =
        ExponentialBuilder::default().with_min_delay(BACKOFF).with_max_times(ATTEMPTS as usize - 1);
    attempt.retry(waits).when(|refusal| refusal.may_pass).await.map_err(|refusal| refusal.why)
}

/// Sends a request until it succeeds, and returns the headers and the text of the answer. Retries
/// only errors that may pass: no connection, no answer, 429 and 5xx.
///
/// # Errors
/// The last reason, as a sentence without the URL.
pub(crate) async fn send(request: RequestBuilder) -> Result<(HeaderMap, String), String> {
    let refused = |why: String, may_pass| Refusal { why, may_pass };
    repeated(|| async {
        let request = request
            .try_clone()
            .ok_or_else(|| refused("its body cannot be sent twice".into(), false))?;
        match request.send().await {
            Ok(answer) if answer.status().is_success() => {
                let headers = answer.headers().clone();
                // The request has been processed by then; a broken end of the answer changes
                // nothing.
                let text = answer.text().await.unwrap_or_default();
                Ok((headers, text))
            }
            Ok(answer) => {
                let status = answer.status();
                let may_pass = status.is_server_error() || status.as_u16() == 429;
                Err(refused(format!("the server answered {status}"), may_pass))
            }
            Err(error) if error.is_builder() => Err(refused("invalid URL".into(), false)),
            Err(error) => Err(refused(crate::ground::error_chain(&error.without_url()), true)),
        }
    })
    .await
}
