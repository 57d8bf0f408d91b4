//! Compares a definition of a recovery point with that of a live server, field by field.

use serde_json::{Map, Value};

use super::{
    kind::Kind,
    normal::{default_of, is_default_wanted, normal},
    password,
};

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
    /// Compares two definitions in their normal form. Fields that only the server has are not a difference: a newer release writes
    /// more of them. A field that the server leaves out has its default.
    pub(super) fn of(kind: Kind, wanted: &Map<String, Value>, found: &Map<String, Value>) -> Self {
        let shown = |field: &str, value: Option<&Value>, secret: &str| match value {
            None => "none".to_owned(),
            Some(_) if kind.is_secret(field) => format!("{secret} (not shown)"),
            Some(value) => value.to_string(),
        };
        let (mut wanted, found) = (normal(kind, wanted), normal(kind, found));
        for field in found.keys().filter(|field| is_default_wanted(kind, field)) {
            if let (false, Some(value)) = (wanted.contains_key(field), default_of(kind, field)) {
                wanted.insert(field.clone(), value);
            }
        }
        let differences: Vec<_> = wanted
            .iter()
            .filter_map(|(field, value)| {
                if kind == Kind::Users && field == "password" {
                    return password_difference(value, &found);
                }
                let live = found.get(field).cloned().or_else(|| default_of(kind, field));
                (live.as_ref() != Some(value)).then(|| FieldDifference {
                    field: field.clone(),
                    wanted: shown(field, Some(value), "as captured"),
                    found: shown(field, live.as_ref(), "another"),
                })
            })
            .collect();
        if differences.is_empty() { Self::Equal } else { Self::Different(differences) }
    }
}

/// The difference between a plain-text password and the hash of a live user, without either.
fn password_difference(password: &Value, found: &Map<String, Value>) -> Option<FieldDifference> {
    let text = |field: &str| {
        found.get(field).and_then(Value::as_str).map_or_else(String::new, str::to_owned)
    };
    let found = match password::matches(
        password.as_str().unwrap_or_default(),
        &text("password_hash"),
        &text("hashing_algorithm"),
    ) {
        Some(true) => return None,
        Some(false) => "another (not shown)".to_owned(),
        None => "a hash that cannot be compared".to_owned(),
    };
    Some(FieldDifference {
        field: "password".into(),
        wanted: "as captured (not shown)".into(),
        found,
    })
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
