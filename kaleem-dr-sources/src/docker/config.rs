//! The config key `docker` of a source.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The container of a server, by name or by label. Its address replaces host and port of the source's address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct DockerContainer {
    /// Name or id of the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Instead of `container`: a label that exactly one container has, `NAME=VALUE` or `NAME` with any value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Path of the engine's socket.
    #[serde(default = "default_socket")]
    pub socket: PathBuf,
}

impl DockerContainer {
    /// The container with this name or id, of the engine at the default socket.
    pub fn named(container: impl Into<String>) -> Self {
        Self { container: Some(container.into()), label: None, socket: default_socket() }
    }

    /// The container with this label, of the engine at the default socket.
    pub fn labelled(label: impl Into<String>) -> Self {
        Self { container: None, label: Some(label.into()), socket: default_socket() }
    }

    /// The validated choice of a container.
    pub(super) fn choice(&self) -> Result<Choice, DockerConfigError> {
        match (&self.container, &self.label) {
            (Some(name), None) if is_name(name) => Ok(Choice::Name(name.clone())),
            (Some(name), None) => Err(DockerConfigError::Name(name.clone())),
            (None, Some(label)) if is_label(label) => Ok(Choice::Label(label.clone())),
            (None, Some(label)) => Err(DockerConfigError::Label(label.clone())),
            _ => Err(DockerConfigError::NotOne),
        }
    }
}

fn default_socket() -> PathBuf {
    "/var/run/docker.sock".into()
}

/// Reports whether Docker accepts this name. Nothing else becomes a part of a path.
fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('=')
        && !label.chars().any(|c| c.is_whitespace() || c.is_control())
}

/// The way in which a config selects a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// By name or id.
    Name(String),
    /// By label.
    Label(String),
}

/// The reason why the key `docker` is invalid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DockerConfigError {
    /// Neither or both of `container` and `label` are set.
    #[error("`docker` needs either `container` or `label`, such as {{ container = \"mongo\" }}")]
    NotOne,
    /// Docker would not accept this container name.
    #[error(
        "`{0}` is not a container name: use letters, digits, `_`, `.` and `-`, beginning with a letter or digit"
    )]
    Name(String),
    /// A label has no name, or contains white space.
    #[error("`{0}` is not a label: write `NAME=VALUE`, without white space, or `NAME`")]
    Label(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_docker_gives_are_asked_for() {
        let named = |name: &str| DockerContainer::named(name).choice().is_ok();
        assert!(named("kaleem-mongo") && named("a_1.b"));
        assert!(!named("") && !named("../images") && !named("a/json?x") && !named("-a"));
        let labelled = |label: &str| DockerContainer::labelled(label).choice().is_ok();
        assert!(labelled("kaleem-dr.source=mongo") && labelled("com.example/x"));
        assert!(!labelled("") && !labelled("=x") && !labelled("a b"));
    }

    #[test]
    fn a_container_is_selected_in_one_way() {
        let parse = |json: &str| serde_json::from_str::<DockerContainer>(json).unwrap();
        let by_name = parse(r#"{"container": "m"}"#);
        assert_eq!(by_name, DockerContainer::named("m"));
        assert_eq!(parse(r#"{"label": "a=b"}"#).choice().unwrap(), Choice::Label("a=b".into()));
        for neither_or_both in ["{}", r#"{"container": "m", "label": "a=b"}"#] {
            let refused = parse(neither_or_both).choice();
            assert!(matches!(refused, Err(DockerConfigError::NotOne)), "{neither_or_both}");
        }
        assert!(serde_json::from_str::<DockerContainer>(r#"{"name": "m"}"#).is_err());
    }
}
