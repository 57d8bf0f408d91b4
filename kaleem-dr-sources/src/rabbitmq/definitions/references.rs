//! The references between definitions: a binding needs its exchange and its queue, a permission its user.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Definitions, Identity, Kind};

/// The exchanges that every virtual host has, and that no document lists.
const BUILT_IN: [&str; 8] = [
    "",
    "amq.direct",
    "amq.fanout",
    "amq.headers",
    "amq.match",
    "amq.rabbitmq.trace",
    "amq.topic",
    // Every server can have it (`log.exchange`); from 4.0 on, it is exported.
    "amq.rabbitmq.log",
];

/// A reference to a definition that does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dangling<'a> {
    /// The definition that contains the reference.
    pub identity: &'a Identity,
    /// The kind of the missing definition, as a noun.
    pub noun: &'static str,
    /// Its name.
    pub name: &'a str,
}

impl Definitions {
    /// Every reference to a virtual host, user, exchange or queue that is not among these definitions.
    #[must_use]
    pub fn dangling(&self) -> Vec<Dangling<'_>> {
        let index = Index::of(self);
        let mut wrong = Vec::new();
        for (identity, item) in self.iter() {
            let vhost = text(item, "vhost");
            let mut expect = |there: bool, noun: &'static str, name| {
                if !there {
                    wrong.push(Dangling { identity, noun, name });
                }
            };
            if !matches!(identity.kind(), Kind::Users | Kind::Vhosts | Kind::GlobalParameters) {
                expect(index.vhosts.contains(&("", vhost)), "virtual host", vhost);
            }
            match identity.kind() {
                // The document of a single virtual host contains no users.
                Kind::Permissions | Kind::TopicPermissions => {
                    let user = text(item, "user");
                    expect(index.users.contains(&("", user)), "user", user);
                }
                Kind::Bindings => {
                    for (noun, name) in ends(item) {
                        expect(index.has_end(vhost, noun, name), noun, name);
                    }
                }
                _ => {}
            }
        }
        wrong
    }

    /// These definitions without the bindings whose exchange or queue is neither among them nor in `also`, and those bindings.
    #[must_use]
    pub fn without_dangling_bindings(&self, also: &Self) -> (Self, Vec<Identity>) {
        let (own, others) = (Index::of(self), Index::of(also));
        let dangling: BTreeSet<_> = self
            .of_kind(Kind::Bindings)
            .filter(|(_, item)| {
                let vhost = text(item, "vhost");
                ends(item).into_iter().any(|(noun, name)| {
                    !own.has_end(vhost, noun, name) && !others.has_end(vhost, noun, name)
                })
            })
            .map(|(identity, _)| identity.clone())
            .collect();
        let kept = self.filtered(|identity| !dangling.contains(identity));
        (kept, dangling.into_iter().collect())
    }
}

/// The names in a document, each with its virtual host.
struct Index<'a> {
    users: BTreeSet<(&'a str, &'a str)>,
    vhosts: BTreeSet<(&'a str, &'a str)>,
    exchanges: BTreeSet<(&'a str, &'a str)>,
    queues: BTreeSet<(&'a str, &'a str)>,
}

impl<'a> Index<'a> {
    fn of(definitions: &'a Definitions) -> Self {
        let named = |kind: Kind| {
            let of_kind = definitions.of_kind(kind);
            of_kind.map(|(_, item)| (text(item, "vhost"), text(item, "name"))).collect()
        };
        Self {
            users: named(Kind::Users),
            vhosts: named(Kind::Vhosts),
            exchanges: named(Kind::Exchanges),
            queues: named(Kind::Queues),
        }
    }

    fn has_end(&self, vhost: &str, noun: &str, name: &str) -> bool {
        if noun == "queue" {
            self.queues.contains(&(vhost, name))
        } else {
            BUILT_IN.contains(&name) || self.exchanges.contains(&(vhost, name))
        }
    }
}

/// The source and the destination of a binding, each with its noun.
fn ends(binding: &Map<String, Value>) -> [(&'static str, &str); 2] {
    let noun = if text(binding, "destination_type") == "queue" { "queue" } else { "exchange" };
    [("exchange", text(binding, "source")), (noun, text(binding, "destination"))]
}

fn text<'a>(item: &'a Map<String, Value>, field: &str) -> &'a str {
    item.get(field).and_then(Value::as_str).unwrap_or_default()
}
