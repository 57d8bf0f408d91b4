//! The identity of a definition, and its name in messages.

use std::fmt;

use serde_json::{Map, Value};

use super::{InvalidDefinitions, kind::Kind, normal::without_empty_objects};

/// The beginning of the names of global parameters that a server sets for itself, such as the id of the cluster.
const INTERNAL: &str = "internal";
/// The components of parameters that a server sets for itself. 4.3 exports none of them.
const INTERNAL_COMPONENTS: [&str; 2] =
    ["exchange-delete-in-progress", "imported_definition_hash_value"];

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
            let arguments = item.get("arguments").map(without_empty_objects);
            fields.push(arguments.unwrap_or_else(|| Value::Array(Vec::new())).to_string());
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

    /// Its name; empty for a permission or a binding, which have none.
    #[must_use]
    pub fn name(&self) -> &str {
        match self.kind {
            Kind::Permissions | Kind::TopicPermissions | Kind::Bindings => "",
            Kind::Users | Kind::Vhosts | Kind::GlobalParameters => &self.fields[0],
            Kind::Policies | Kind::Exchanges | Kind::Queues => &self.fields[1],
            Kind::Parameters => &self.fields[2],
        }
    }

    /// Reports whether it is a parameter that the server sets for itself, and that another server must not take over.
    pub(super) fn is_internal(&self) -> bool {
        match self.kind {
            Kind::GlobalParameters => self.fields[0].starts_with(INTERNAL),
            Kind::Parameters => INTERNAL_COMPONENTS.contains(&self.fields[1].as_str()),
            _ => false,
        }
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
