//! OpenDAL's errors: their kind, and their text in one line.

use std::error::Error;

use opendal::ErrorKind;

use super::StoreErrorKind;

/// Limit for the part of a response, other than an S3 error, that an error quotes.
const LONGEST_ANSWER: usize = 200;

impl StoreErrorKind {
    /// Parses OpenDAL's error about an S3 service. It contains responses only as text: `S3Error { code: "NoSuchBucket", …`.
    pub(super) fn of(error: &opendal::Error) -> Self {
        let said = chain(error);
        let code = |code: &str| said.contains(code);
        if code("RequestTimeTooSkewed") {
            return Self::Clock;
        }
        if code("NoSuchBucket") {
            return Self::NoBucket;
        }
        match error.kind() {
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::PermissionDenied => Self::Denied,
            ErrorKind::ConditionNotMatch => Self::Condition,
            // Some services respond to an unknown key or a wrong signature with 400 or 401.
            _ if [
                "InvalidAccessKeyId",
                "SignatureDoesNotMatch",
                "AccessDenied",
                "Credential access key has length",
                "status: 401",
            ]
            .into_iter()
            .any(code) =>
            {
                Self::Denied
            }
            _ => Self::of_connection(error, &said),
        }
    }

    /// The error of a request without a response.
    #[cfg(feature = "s3")]
    pub(crate) fn of_request(error: &reqwest::Error) -> Self {
        Self::of_connection(error, &chain(error))
    }

    fn of_connection(error: &(dyn Error + 'static), said: &str) -> Self {
        let lower = said.to_ascii_lowercase();
        if ["certificate", "tls ", "handshake", "received fatal alert", "received corrupt message"]
            .into_iter()
            .any(|word| lower.contains(word))
        {
            Self::Tls
        } else if lower.contains("dns error") || lower.contains("failed to lookup address") {
            Self::Dns
        } else if sources(error).any(is_unanswered)
            || ["timeout reached", "connection reset", "connection refused", "connection closed"]
                .into_iter()
                .any(|word| lower.contains(word))
        {
            Self::Unreachable
        } else {
            Self::Other
        }
    }
}

/// Describes the error of an S3 service, or the failure of the request. OpenDAL's own text contains all headers of the response.
pub(super) fn in_words(error: &opendal::Error) -> String {
    let whole = error.to_string();
    let status = context(error, "status");
    let message = error.message();
    // `S3Error { code: "NoSuchKey", message: "…", resource: "…", request_id: "…" }`
    let field = |name: &str| {
        Some(
            message
                .split_once(&format!("{name}: \""))?
                .1
                .split('"')
                .next()
                .unwrap_or_default()
                .to_owned(),
        )
    };
    let said = if message.starts_with("S3Error") {
        [field("code"), field("message")]
            .into_iter()
            .flatten()
            .filter(|text| !text.is_empty())
            .collect::<Vec<_>>()
            .join(": ")
    } else {
        let mut said = message.chars().take(LONGEST_ANSWER).collect::<String>();
        for cause in sources(error).skip(1) {
            let cause = cause.to_string();
            if !said.contains(&cause) {
                said = if said.is_empty() { cause } else { format!("{said}: {cause}") };
            }
        }
        said
    };
    match (status, said.as_str()) {
        (Some(status), "") => format!("the service answered {status}"),
        (Some(status), said) => format!("the service answered {status} ({said})"),
        (None, "") => whole,
        (None, _) => said,
    }
}

/// A field of an error's context, which OpenDAL provides only as part of its text.
pub(super) fn context(error: &opendal::Error, field: &str) -> Option<String> {
    let whole = error.to_string();
    let (_, rest) = whole.split_once(&format!(" {field}: "))?;
    Some(rest.split([',', ' ']).next().unwrap_or_default().to_owned())
}

/// The first line of a text, limited to a readable length. Libraries may return whole pages.
pub(super) fn one_line(text: &str) -> String {
    const LONGEST: usize = 300;
    let first = text.trim().lines().next().unwrap_or_default();
    match first.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &first[..end]),
        None => first.to_owned(),
    }
}

fn sources<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (**error).source())
}

fn chain(error: &(dyn Error + 'static)) -> String {
    sources(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Reports whether an error is that of a request for which there was no connection, or no response in time.
#[cfg(feature = "s3")]
fn is_unanswered(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<reqwest::Error>().is_some_and(|e| e.is_connect() || e.is_timeout())
}

/// Without buckets, there are no requests.
#[cfg(not(feature = "s3"))]
fn is_unanswered(_: &(dyn Error + 'static)) -> bool {
    false
}

/// Reports whether a connection failed for a reason that another attempt would meet again.
#[cfg(feature = "s3")]
pub(super) fn is_lasting(error: &reqwest::Error) -> bool {
    let said = chain(error).to_ascii_lowercase();
    said.contains("invalid peer certificate") || said.contains("unsupported protocol")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_services_answer_has_its_kind() {
        let answer = |kind, text: &str| StoreErrorKind::of(&opendal::Error::new(kind, text));
        let skewed = "S3Error { code: \"RequestTimeTooSkewed\", message: \"\" }";
        assert_eq!(answer(ErrorKind::PermissionDenied, skewed), StoreErrorKind::Clock);
        assert_eq!(answer(ErrorKind::PermissionDenied, ""), StoreErrorKind::Denied);
        assert_eq!(
            answer(ErrorKind::ConfigInvalid, "S3Error { code: \"NoSuchBucket\" }"),
            StoreErrorKind::NoBucket
        );
        let handbook = "S3Error { code: \"InvalidArgument\", message: \"Credential access key has length 20, should be 32\" }";
        assert_eq!(answer(ErrorKind::Unexpected, handbook), StoreErrorKind::Denied);
        assert_eq!(
            answer(ErrorKind::Unexpected, "S3Error { code: \"InternalError\" }"),
            StoreErrorKind::Other
        );
        let words = in_words(
            &opendal::Error::new(ErrorKind::Unexpected, handbook)
                .with_context("response", "Parts { status: 400, x: 1 }"),
        );
        assert_eq!(
            words,
            "the service answered 400 (InvalidArgument: Credential access key has length 20, should be 32)"
        );
        assert!(StoreErrorKind::Denied.keeps_out() && !StoreErrorKind::Other.keeps_out());
    }
}
