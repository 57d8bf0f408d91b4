//! The kinds of RabbitMQ's definitions, and the properties common to a kind.

/// A kind of definitions, in the order in which RabbitMQ imports them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Users, with their password hashes.
    Users,
    /// Virtual hosts.
    Vhosts,
    /// Permissions of a user in a virtual host.
    Permissions,
    /// Permissions of a user for topics.
    TopicPermissions,
    /// Settings of plugins and limits, for the whole cluster.
    GlobalParameters,
    /// Settings of plugins and limits, for a virtual host.
    Parameters,
    /// Policies.
    Policies,
    /// Exchanges.
    Exchanges,
    /// Queues, without their messages.
    Queues,
    /// Bindings of exchanges to queues and exchanges.
    Bindings,
}

impl Kind {
    /// Every kind, in the order of import.
    pub const ALL: [Self; 10] = [
        Self::Users,
        Self::Vhosts,
        Self::Permissions,
        Self::TopicPermissions,
        Self::GlobalParameters,
        Self::Parameters,
        Self::Policies,
        Self::Exchanges,
        Self::Queues,
        Self::Bindings,
    ];

    /// Its key in the document.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Vhosts => "vhosts",
            Self::Permissions => "permissions",
            Self::TopicPermissions => "topic_permissions",
            Self::GlobalParameters => "global_parameters",
            Self::Parameters => "parameters",
            Self::Policies => "policies",
            Self::Exchanges => "exchanges",
            Self::Queues => "queues",
            Self::Bindings => "bindings",
        }
    }

    /// Its name in messages, singular or plural.
    #[must_use]
    pub fn noun(self, many: bool) -> &'static str {
        match (self, many) {
            (Self::Users, false) => "user",
            (Self::Users, true) => "users",
            (Self::Vhosts, false) => "virtual host",
            (Self::Vhosts, true) => "virtual hosts",
            (Self::Permissions, false) => "permission",
            (Self::Permissions, true) => "permissions",
            (Self::TopicPermissions, false) => "topic permission",
            (Self::TopicPermissions, true) => "topic permissions",
            (Self::GlobalParameters, false) => "global parameter",
            (Self::GlobalParameters, true) => "global parameters",
            (Self::Parameters, false) => "parameter",
            (Self::Parameters, true) => "parameters",
            (Self::Policies, false) => "policy",
            (Self::Policies, true) => "policies",
            (Self::Exchanges, false) => "exchange",
            (Self::Exchanges, true) => "exchanges",
            (Self::Queues, false) => "queue",
            (Self::Queues, true) => "queues",
            (Self::Bindings, false) => "binding",
            (Self::Bindings, true) => "bindings",
        }
    }

    /// Reports whether it belongs to a virtual host and not to a user.
    #[must_use]
    pub fn is_topology(self) -> bool {
        matches!(
            self,
            Self::Parameters | Self::Policies | Self::Exchanges | Self::Queues | Self::Bindings
        )
    }

    /// Reports whether an import silently leaves an existing definition unchanged
    /// (rabbitmq-management#627).
    #[must_use]
    pub fn is_immutable(self) -> bool {
        matches!(self, Self::Exchanges | Self::Queues | Self::Bindings)
    }

    /// Reports whether a field may contain a password, its hash, or a URI with a password.
    pub(super) fn is_secret(self, field: &str) -> bool {
        match self {
            Self::Users => matches!(field, "password" | "password_hash"),
            Self::Parameters | Self::GlobalParameters => field == "value",
            _ => false,
        }
    }

    /// The identifying fields; for a binding also its arguments, see [`Identity`](super::Identity).
    pub(super) fn identifying(self) -> &'static [&'static str] {
        match self {
            Self::Users | Self::Vhosts | Self::GlobalParameters => &["name"],
            Self::Permissions => &["vhost", "user"],
            Self::TopicPermissions => &["vhost", "user", "exchange"],
            Self::Parameters => &["vhost", "component", "name"],
            Self::Policies | Self::Exchanges | Self::Queues => &["vhost", "name"],
            Self::Bindings => {
                &["vhost", "source", "destination_type", "destination", "routing_key"]
            }
        }
    }
}
