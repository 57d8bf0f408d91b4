//! Requests to those who are told: patient for a bounded time, and silent about addresses, for they are secrets.

use std::time::Duration;

use http::HeaderMap;
use reqwest::{Client, RequestBuilder, redirect::Policy};

/// Tries of one request.
const ATTEMPTS: u32 = 3;
/// Wait after the first; it doubles.
const BACKOFF: Duration = Duration::from_millis(500);

/// Connections to those who are told.
///
/// # Errors
/// When the system's certificates cannot be used, as a sentence.
pub(crate) fn client(timeout: Duration) -> Result<Client, String> {
    Client::builder()
        .timeout(timeout)
        .connect_timeout(timeout)
        // A redirect would carry what is said elsewhere.
        .redirect(Policy::none())
        .user_agent(concat!("kaleem-dr/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| crate::ground::error_chain(&error.without_url()))
}

/// Longest time that [`send`] takes with a client of this time-out.
pub(crate) fn longest(timeout: Duration) -> Duration {
    timeout * ATTEMPTS + BACKOFF * ((1 << ATTEMPTS) - 1)
}

/// Sends a request until it is answered well, and gives the answer's headers and text; again only after what may pass: no connection, no answer, 429 and 5xx.
///
/// # Errors
/// The last reason, as a sentence without the address.
pub(crate) async fn send(request: RequestBuilder) -> Result<(HeaderMap, String), String> {
    let mut wait = BACKOFF;
    let mut why = String::new();
    for attempt in 1..=ATTEMPTS {
        let Some(request) = request.try_clone() else {
            return Err("its body cannot be sent".into());
        };
        match request.send().await {
            Ok(answer) if answer.status().is_success() => {
                let headers = answer.headers().clone();
                // What was said is told by then; a broken end of the answer changes nothing.
                let text = answer.text().await.unwrap_or_default();
                return Ok((headers, text));
            }
            Ok(answer) => {
                let status = answer.status();
                why = format!("the answer is {status}");
                if !status.is_server_error() && status.as_u16() != 429 {
                    return Err(why);
                }
            }
            Err(error) if error.is_builder() => return Err("its address is none".into()),
            Err(error) => why = crate::ground::error_chain(&error.without_url()),
        }
        if attempt < ATTEMPTS {
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
    }
    Err(why)
}
