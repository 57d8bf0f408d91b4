//! The reason why the server denies a request: our user's permissions, and the server's
//! explanation.

use serde::Deserialize;

use crate::http_api;

/// RabbitMQ shows its definitions only to users with this tag.
const ADMINISTRATOR: &str = "administrator";

/// Our user, as the server describes it.
#[derive(Deserialize)]
pub(super) struct User {
    name: String,
    tags: Tags,
}

/// A list since RabbitMQ 3.9, a comma-separated string before.
#[derive(Deserialize)]
#[serde(untagged)]
enum Tags {
    List(Vec<String>),
    Text(String),
}

impl User {
    fn tags(&self) -> Vec<&str> {
        match &self.tags {
            Tags::List(tags) => tags.iter().map(String::as_str).collect(),
            Tags::Text(tags) => {
                tags.split(',').map(str::trim).filter(|tag| !tag.is_empty()).collect()
            }
        }
    }

    pub(super) fn is_administrator(&self) -> bool {
        self.tags().contains(&ADMINISTRATOR)
    }

    pub(super) fn lacks_rights(&self) -> Denied {
        Denied::NotAdministrator { user: self.name.clone(), tags: self.tags().join(", ") }
    }
}

/// The reason why the server denies a request.
#[derive(Debug, thiserror::Error)]
pub(super) enum Denied {
    #[error("the login of user {user} was refused: {reason}")]
    Login { user: String, reason: String },
    #[error("user {user} lacks the tag {ADMINISTRATOR}; its tags: {tags}")]
    NotAdministrator { user: String, tags: String },
    #[error("{reason}")]
    Refused { reason: String },
}

/// The `reason` of an error document, on one line; or the beginning of any other body (from a
/// proxy, for example).
pub(super) fn reason(answer: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Document {
        reason: String,
    }
    let explained = serde_json::from_slice(answer).ok().map(|Document { reason }| reason);
    http_api::reason(explained, answer, without_credentials)
}

/// Removes credentials: RabbitMQ repeats the parameter that it rejects, and the URI of a shovel
/// contains a password.
fn without_credentials(word: &str) -> String {
    match (word.find("://"), word.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => {
            format!("{}://…{}", &word[..scheme], &word[at..])
        }
        _ => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_one_line_and_hold_no_credentials() {
        let answer = br#"{"error":"bad_request","reason":"Validation failed\n\nuri amqp://u:canary@h/v is bad\n"}"#;
        assert_eq!(reason(answer), "Validation failed uri amqp://…@h/v is bad");
        assert_eq!(reason(b"<html>\n502"), "<html> 502");
        assert_eq!(reason(b""), "no reason given");
    }
}
