//! Compares a definition of a recovery point with that of a live server, field by field.

use serde_json::{Map, Value};

use super::kind::Kind;

/// The relation of a definition to a live server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The server does not have it.
    Missing,
    /// The server has the same definition.
    Equal,
    /// The server has a different definition with the same identity.
    Different(Vec<FieldDifference>),
    /// Only the server has it.
    Extra,
}

impl Standing {
    /// Fields that only the server has are not a difference: a newer release writes more of them.
    pub(super) fn of(kind: Kind, wanted: &Map<String, Value>, found: &Map<String, Value>) -> Self {
        let shown = |field: &str, value: Option<&Value>, secret: &str| match value {
            None => "none".to_owned(),
            Some(_) if kind.is_secret(field) => format!("{secret} (not shown)"),
            Some(value) => value.to_string(),
        };
        let differences: Vec<_> = wanted
            .iter()
            .filter(|(field, value)| found.get(field.as_str()) != Some(value))
            .map(|(field, value)| FieldDifference {
                field: field.clone(),
                wanted: shown(field, Some(value), "as captured"),
                found: shown(field, found.get(field), "another"),
            })
            .collect();
        if differences.is_empty() { Self::Equal } else { Self::Different(differences) }
    }
}

/// A field of a definition with a different value. Values that may contain secrets are not shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldDifference {
    /// Name of the field.
    pub field: String,
    /// Its value in the recovery point.
    pub wanted: String,
    /// Its value on the server.
    pub found: String,
}
