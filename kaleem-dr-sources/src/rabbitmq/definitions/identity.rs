//! The identity of a definition, and its name in messages.

use std::fmt;

use serde_json::{Map, Value};

use super::{InvalidDefinitions, kind::Kind};

/// The fields that identify a definition among those of its kind, the virtual host first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    pub(super) kind: Kind,
    pub(super) fields: Vec<String>,
}

impl Identity {
    pub(super) fn of(kind: Kind, item: &Map<String, Value>) -> Result<Self, InvalidDefinitions> {
        let text = |field: &&str| item.get(*field).and_then(Value::as_str).map(str::to_owned);
        let missing =
            |field: &&str| InvalidDefinitions::NoIdentity { kind, field: (*field).to_owned() };
        let mut fields = kind
            .identifying()
            .iter()
            .map(|field| text(field).ok_or_else(|| missing(field)))
            .collect::<Result<Vec<_>, _>>()?;
        if kind == Kind::Bindings {
            // Two bindings may differ only in these.
            fields.push(item.get("arguments").map(Value::to_string).unwrap_or_default());
        }
        Ok(Self { kind, fields })
    }

    /// The kind of the definition.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Reports whether it is the user with this name.
    #[must_use]
    pub fn is_user(&self, name: &str) -> bool {
        self.kind == Kind::Users && self.fields[0] == name
    }

    /// The virtual host that contains it, or that it is.
    #[must_use]
    pub fn vhost(&self) -> Option<&str> {
        (!matches!(self.kind, Kind::Users | Kind::GlobalParameters))
            .then(|| self.fields[0].as_str())
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = self.kind.noun(false);
        match (self.kind, self.fields.as_slice()) {
            (Kind::Bindings, [vhost, source, _, destination, key, ..]) => {
                write!(f, "{noun} of {source} to {destination} with key `{key}` in {vhost}")
            }
            (Kind::Permissions | Kind::TopicPermissions, [vhost, user, ..]) => {
                write!(f, "{noun} of {user} in {vhost}")
            }
            (Kind::Parameters, [vhost, component, name]) => {
                write!(f, "{noun} {component} {name} in {vhost}")
            }
            (_, [vhost, name]) => write!(f, "{noun} {name} in {vhost}"),
            (_, fields) => write!(f, "{noun} {}", fields.join(" ")),
        }
    }
}
