//! The server that receives definitions: its release, plugins and exchange types, which decide what it can import.

use std::collections::BTreeSet;

use kaleem_dr_core::engine::manifest::ServerInfo;

/// A server as the target of an import.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Target {
    /// Host and port, for messages.
    pub address: String,
    /// The user that performs the import.
    pub username: String,
    /// Product and version.
    pub server: ServerInfo,
    /// The exchange types that it knows. Empty if it did not list them.
    pub exchange_types: BTreeSet<String>,
    /// The plugins that are enabled on every node. `None` if it did not list them.
    pub plugins: Option<BTreeSet<String>>,
    /// `false` if it rejects queues that are neither durable nor exclusive.
    pub takes_transient_queues: bool,
}

impl Target {
    /// A target about which only its version is known.
    #[must_use]
    pub fn of_version(address: &str, username: &str, version: &str) -> Self {
        Self {
            address: address.to_owned(),
            username: username.to_owned(),
            server: ServerInfo::new("RabbitMQ", version),
            exchange_types: BTreeSet::new(),
            plugins: None,
            takes_transient_queues: true,
        }
    }

    /// Major and minor number of its version; `None` if the version has another form.
    #[must_use]
    pub fn release(&self) -> Option<(u32, u32)> {
        release(&self.server.version)
    }

    /// Reports whether its release is this one or later. An unknown release is not.
    #[must_use]
    pub fn is_at_least(&self, release: (u32, u32)) -> bool {
        self.release().is_some_and(|own| own >= release)
    }

    /// Reports whether one of these plugins is enabled, or whether that is unknown.
    pub(super) fn may_have(&self, plugins: &[&str]) -> bool {
        let enabled = self.plugins.as_ref();
        enabled.is_none_or(|enabled| plugins.iter().any(|plugin| enabled.contains(*plugin)))
    }

    /// Reports whether it knows an exchange type, or whether that is unknown.
    pub(super) fn may_have_type(&self, exchange_type: &str) -> bool {
        self.exchange_types.is_empty() || self.exchange_types.contains(exchange_type)
    }
}

/// Major and minor number of a version.
pub(super) fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.').map(|part| part.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}
