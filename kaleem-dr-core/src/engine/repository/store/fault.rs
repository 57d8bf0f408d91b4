//! Which kind of trouble a store is in, and what to do about it.

use std::error::Error;

use opendal::ErrorKind;

/// Most of an answer that is no S3 error which is repeated.
const LONGEST_ANSWER: usize = 200;

/// The kind of a store's failure, as far as it changes what the operator does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreFault {
    /// The object or directory is not there.
    NotFound,
    /// The object ends before what was asked for.
    Short,
    /// The bucket is not there.
    NoBucket,
    /// The service does not let us do it.
    Denied,
    /// The clocks of this machine and the service differ too much for signatures.
    Clock,
    /// The service's certificate is not trusted, or the TLS connection broke.
    Tls,
    /// The service's name has no address.
    Dns,
    /// The service cannot be reached.
    Unreachable,
    /// A condition of the request does not hold: the object is there already.
    Condition,
    /// Anything else.
    Other,
}

impl StoreFault {
    /// Whether we never got as far as the objects: nothing is said about them.
    #[must_use]
    pub fn keeps_out(self) -> bool {
        matches!(
            self,
            Self::NoBucket | Self::Denied | Self::Clock | Self::Tls | Self::Dns | Self::Unreachable
        )
    }

    /// Whether the object itself is at fault, and not the way to it.
    #[must_use]
    pub fn is_loss(self) -> bool {
        matches!(self, Self::NotFound | Self::Short)
    }

    /// What the operator does about it.
    #[must_use]
    pub fn advice(self) -> Option<&'static str> {
        Some(match self {
            Self::Denied => {
                "the key pair must be an S3 one of this service and may read and write the bucket; for R2: an API token with \
                 \"Object Read & Write\" on this bucket, its Access Key ID (32 hex digits) and Secret Access Key (64)"
            }
            Self::NoBucket => {
                "make the bucket, or mend its name in `location`; an R2 endpoint is that of the bucket's own account"
            }
            Self::Clock => {
                "set this machine's clock (`timedatectl`): signatures are good for 15 minutes"
            }
            Self::Tls => {
                "try `ip = \"v4\"` in the repository's table; behind a proxy or with a private certificate, name its PEM file in `ca_file`"
            }
            Self::Dns => {
                "is the host in the endpoint right, and does this machine resolve names (`getent hosts HOST`)?"
            }
            Self::Unreachable => {
                "is the endpoint right and the network up? try `ip = \"v4\"`, or name a `proxy`"
            }
            _ => return None,
        })
    }

    /// Of what OpenDAL says about an S3 service. It gives answers as text only: `S3Error { code: "NoSuchBucket", …`.
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
            // Some services answer a key they do not know, or a wrong signature, with 400 or 401.
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

    /// Of a request that got no answer.
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
        } else if sources(error).any(|cause| {
            cause.downcast_ref::<reqwest::Error>().is_some_and(|e| e.is_connect() || e.is_timeout())
        }) || [
            "timeout reached",
            "connection reset",
            "connection refused",
            "connection closed",
        ]
        .into_iter()
        .any(|word| lower.contains(word))
        {
            Self::Unreachable
        } else {
            Self::Other
        }
    }
}

/// What an S3 service said, or what befell the request, in words. OpenDAL's own text has every header of the answer in it.
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

/// A field of an error's context, which OpenDAL gives as part of its text only.
pub(super) fn context(error: &opendal::Error, field: &str) -> Option<String> {
    let whole = error.to_string();
    let (_, rest) = whole.split_once(&format!(" {field}: "))?;
    Some(rest.split([',', ' ']).next().unwrap_or_default().to_owned())
}

/// The first line of a text, and not more than a line holds. What libraries say may be whole pages.
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

/// Whether a connection failed for a reason that another try will meet again.
pub(super) fn is_lasting(error: &reqwest::Error) -> bool {
    let said = chain(error).to_ascii_lowercase();
    said.contains("invalid peer certificate") || said.contains("unsupported protocol")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_services_answer_has_its_kind() {
        let answer = |kind, text: &str| StoreFault::of(&opendal::Error::new(kind, text));
        let skewed = "S3Error { code: \"RequestTimeTooSkewed\", message: \"\" }";
        assert_eq!(answer(ErrorKind::PermissionDenied, skewed), StoreFault::Clock);
        assert_eq!(answer(ErrorKind::PermissionDenied, ""), StoreFault::Denied);
        assert_eq!(
            answer(ErrorKind::ConfigInvalid, "S3Error { code: \"NoSuchBucket\" }"),
            StoreFault::NoBucket
        );
        let handbook = "S3Error { code: \"InvalidArgument\", message: \"Credential access key has length 20, should be 32\" }";
        assert_eq!(answer(ErrorKind::Unexpected, handbook), StoreFault::Denied);
        assert_eq!(
            answer(ErrorKind::Unexpected, "S3Error { code: \"InternalError\" }"),
            StoreFault::Other
        );
        let words = in_words(
            &opendal::Error::new(ErrorKind::Unexpected, handbook)
                .with_context("response", "Parts { status: 400, x: 1 }"),
        );
        assert_eq!(
            words,
            "the service answered 400 (InvalidArgument: Credential access key has length 20, should be 32)"
        );
        assert!(StoreFault::Denied.keeps_out() && !StoreFault::Other.keeps_out());
    }
}
