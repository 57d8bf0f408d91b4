//! HTTP requests to recipients, with a time limit; errors never contain the URL, which is a secret.

use std::time::Duration;

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

/// Sends a request until it succeeds, and returns the headers and the text of the answer. Retries
/// only errors that may pass: no connection, no answer, 429 and 5xx.
///
/// # Errors
/// The last reason, as a sentence without the URL.
pub(crate) async fn send(request: RequestBuilder) -> Result<(HeaderMap, String), String> {
    let mut wait = BACKOFF;
    let mut why = String::new();
    for attempt in 1..=ATTEMPTS {
        let Some(request) = request.try_clone() else {
            return Err("its body cannot be sent twice".into());
        };
        match request.send().await {
            Ok(answer) if answer.status().is_success() => {
                let headers = answer.headers().clone();
                // The request has been processed by then; a broken end of the answer changes
                // nothing.
                let text = answer.text().await.unwrap_or_default();
                return Ok((headers, text));
            }
            Ok(answer) => {
                let status = answer.status();
                why = format!("the server answered {status}");
                if !status.is_server_error() && status.as_u16() != 429 {
                    return Err(why);
                }
            }
            Err(error) if error.is_builder() => return Err("invalid URL".into()),
            Err(error) => why = crate::ground::error_chain(&error.without_url()),
        }
        if attempt < ATTEMPTS {
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
    }
    Err(why)
}
