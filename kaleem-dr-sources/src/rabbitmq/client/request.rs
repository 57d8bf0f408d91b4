//! Sends a request, and interprets the reply: a body, a denial or a failure.

use std::fmt;

use bytes::Bytes;
use kaleem_dr_core::{
    ground::{Cause, SourceError},
    operate::config::secret::ExposeSecret as _,
};
use reqwest::{
    Method, StatusCode,
    header::{CONTENT_TYPE, HeaderValue},
};
use serde::de::DeserializeOwned;

use super::{
    ANSWER_LIMIT_BYTES, ManagementClient,
    refusal::{Denied, User, reason},
};
use crate::http_api::{BodyError, read};

/// Factor for the time-out of an import: the server declares every queue before it replies.
const IMPORT_PATIENCE: u32 = 10;

impl ManagementClient {
    pub(super) async fn get_json<T: DeserializeOwned>(
        &self,
        path: &str,
        action: &str,
    ) -> Result<T, SourceError> {
        let body = self.call(Method::GET, path, None, action).await?;
        serde_json::from_slice(&body)
            .map_err(|error| self.api.failed(action, Failure::NotOurs(error.into())))
    }

    /// As [`ManagementClient::get_json`]; `None` if this release does not have the path.
    pub(super) async fn get_if_known<T: DeserializeOwned>(
        &self,
        path: &str,
        action: &str,
    ) -> Result<Option<T>, SourceError> {
        let (status, body) = self.send(Method::GET, path, None, action).await?;
        match status {
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Ok(None),
            status if status.is_success() => serde_json::from_slice(&body)
                .map(Some)
                .map_err(|error| self.api.failed(action, Failure::NotOurs(error.into()))),
            status => {
                Err(self.api.failed(action, Failure::Status { status, reason: reason(&body) }))
            }
        }
    }

    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        action: &str,
    ) -> Result<Bytes, SourceError> {
        self.call_for_status(method, path, body, action).await.map(|(_, answer)| answer)
    }

    pub(super) async fn call_for_status(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        action: &str,
    ) -> Result<(StatusCode, Bytes), SourceError> {
        let (status, answer) = self.send(method, path, body, action).await?;
        if status.is_success() {
            Ok((status, answer))
        } else if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            Err(self.api.denied(action, self.why_denied(&answer).await))
        } else {
            Err(self.api.failed(action, Failure::Status { status, reason: reason(&answer) }))
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        action: &str,
    ) -> Result<(StatusCode, Bytes), SourceError> {
        let patience = if method == Method::POST { IMPORT_PATIENCE } else { 1 };
        let mut request = self
            .api
            .request(method, path)?
            .timeout(self.timeout.saturating_mul(patience))
            .basic_auth(&self.username, Some(self.password.expose_secret()));
        if let Some(body) = body {
            request = request
                .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
                .body(body);
        }
        let mut response = self.api.send(request).await?;
        let answer = read(&mut response, ANSWER_LIMIT_BYTES).await.map_err(|error| {
            let why = match error {
                BodyError::Broken(error) => Failure::Broken(error),
                BodyError::TooLong => Failure::TooLong,
            };
            self.api.failed(action, why)
        })?;
        Ok((response.status(), answer))
    }

    /// RabbitMQ answers 401 both to a wrong password and to a user without permissions; querying
    /// our own user distinguishes them.
    async fn why_denied(&self, answer: &[u8]) -> Denied {
        match self.send(Method::GET, "api/whoami", None, "log in").await {
            Ok((StatusCode::OK, body)) => match serde_json::from_slice::<User>(&body) {
                Ok(user) if !user.is_administrator() => user.lacks_rights(),
                _ => Denied::Refused { reason: reason(answer) },
            },
            // RabbitMQ knows a user that may not use the API at all, and its password was correct.
            Ok((_, body)) if reason(&body).contains("Not management user") => {
                Denied::NotAdministrator {
                    user: self.username.clone(),
                    tags: "none for the management API".into(),
                }
            }
            Ok((_, body)) => Denied::Login { user: self.username.clone(), reason: reason(&body) },
            Err(_) => Denied::Refused { reason: reason(answer) },
        }
    }
}

/// The reason why a reply cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("it answered {status}: {reason}")]
    Status { status: StatusCode, reason: String },
    #[error("its reply was cut off")]
    Broken(#[source] reqwest::Error),
    #[error("its reply is longer than {ANSWER_LIMIT_BYTES} bytes")]
    TooLong,
    #[error("its reply is not that of RabbitMQ's management API")]
    NotOurs(#[source] Cause),
}

/// Escapes a name for use as one segment of a path, including slashes, because `/` is the default
/// virtual host.
pub(super) fn encode_segment(name: &str) -> String {
    use fmt::Write as _;
    name.bytes().fold(String::new(), |mut path, byte| {
        if byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) {
            path.push(byte.into());
        } else {
            // Writing to a string cannot fail.
            let _ = write!(path, "%{byte:02X}");
        }
        path
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_one_segment_of_a_path() {
        assert_eq!(encode_segment("/"), "%2F");
        assert_eq!(encode_segment("a.b ü"), "a%2Eb%20%C3%BC");
    }
}
