//! Switches aliases in a single step, and back.

use std::collections::BTreeMap;

use kaleem_dr_core::ground::{SourceError, error_chain};
use serde_json::{Value, json};

use super::client::QdrantClient;

/// A change of one alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AliasChange {
    pub(super) alias: String,
    /// Its current collection; `None` if the alias does not exist.
    pub(super) from: Option<String>,
    pub(super) to: String,
}

impl AliasChange {
    fn forward(&self) -> Vec<Value> {
        let remove = self.from.as_ref().map(|_| delete(&self.alias));
        remove.into_iter().chain([create(&self.alias, &self.to)]).collect()
    }

    fn back(&self) -> Vec<Value> {
        std::iter::once(delete(&self.alias))
            .chain(self.from.as_ref().map(|from| create(&self.alias, from)))
            .collect()
    }
}

fn delete(alias: &str) -> Value {
    json!({ "delete_alias": { "alias_name": alias } })
}

fn create(alias: &str, collection: &str) -> Value {
    json!({ "create_alias": { "collection_name": collection, "alias_name": alias } })
}

pub(super) struct Failed {
    pub(super) error: SourceError,
    /// All aliases are as they were. Otherwise they may refer to the new collections, which must
    /// then stay.
    pub(super) is_undone: bool,
}

/// The request that undoes the changes, for the operator to send.
pub(super) fn by_hand(changes: &[AliasChange]) -> String {
    let actions: Vec<Value> = changes.iter().flat_map(AliasChange::back).collect();
    format!("POST /collections/aliases {}", json!({ "actions": actions }))
}

/// Switches all aliases in one call, reads them back, and counts the points of each. `points` are
/// the expected counts.
///
/// # Errors
/// If the switch failed; then everything is switched back, or the error shows the request to send
/// by hand.
pub(super) async fn switch(
    client: &QdrantClient,
    changes: &[AliasChange],
    points: &BTreeMap<String, u64>,
) -> Result<(), Failed> {
    let actions: Vec<Value> = changes.iter().flat_map(AliasChange::forward).collect();
    let switched = async {
        client.change_aliases(&actions).await?;
        verify(client, changes, points).await
    };
    let Err(error) = switched.await else { return Ok(()) };
    let undone = roll_back(client, changes).await;
    let is_undone = undone.is_ok();
    let outcome = match undone {
        Ok(()) => "all of them are as they were".to_owned(),
        Err(second) => format!(
            "switching back failed too ({}): check GET /aliases, and to restore the previous state send {}",
            error_chain(&second),
            by_hand(changes)
        ),
    };
    let error = client.failed("switch the aliases", format!("{}; {outcome}", error_chain(&error)));
    Err(Failed { error, is_undone })
}

async fn verify(
    client: &QdrantClient,
    changes: &[AliasChange],
    points: &BTreeMap<String, u64>,
) -> Result<(), SourceError> {
    let live = current(client).await?;
    for AliasChange { alias, to, .. } in changes {
        if live.get(alias) != Some(to) {
            let now = live.get(alias).map_or("nothing", String::as_str);
            return Err(client
                .failed("switch the aliases", format!("{alias} refers to {now} instead of {to}")));
        }
        let found = client.count(alias).await?;
        if let Some(expected) = points.get(to).filter(|expected| **expected != found) {
            return Err(client.failed(
                "switch the aliases",
                format!("{alias} has {found} points instead of {expected}"),
            ));
        }
    }
    Ok(())
}

/// Undoes the changes as far as they were made: after an error it is unknown whether the server
/// executed them.
async fn roll_back(client: &QdrantClient, changes: &[AliasChange]) -> Result<(), SourceError> {
    let live = current(client).await?;
    let actions: Vec<Value> = changes
        .iter()
        .filter(|change| live.get(&change.alias) == Some(&change.to))
        .flat_map(AliasChange::back)
        .collect();
    if !actions.is_empty() {
        client.change_aliases(&actions).await?;
    }
    let live = current(client).await?;
    match changes.iter().find(|change| live.get(&change.alias) != change.from.as_ref()) {
        None => Ok(()),
        Some(change) => {
            Err(client
                .failed("switch the aliases back", format!("{} is not as before", change.alias)))
        }
    }
}

async fn current(client: &QdrantClient) -> Result<BTreeMap<String, String>, SourceError> {
    Ok(client
        .aliases()
        .await?
        .into_iter()
        .map(|alias| (alias.alias_name, alias.collection_name))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_of_a_new_alias_is_to_delete_it() {
        let changes = [
            AliasChange {
                alias: "search".into(),
                from: Some("docs".into()),
                to: "docs_new".into(),
            },
            AliasChange { alias: "new".into(), from: None, to: "docs_new".into() },
        ];
        assert_eq!(changes[0].forward(), [delete("search"), create("search", "docs_new")]);
        assert_eq!(changes[1].forward(), [create("new", "docs_new")]);
        let back = by_hand(&changes);
        let body: Value =
            serde_json::from_str(back.strip_prefix("POST /collections/aliases ").unwrap()).unwrap();
        assert_eq!(
            body,
            json!({"actions": [delete("search"), create("search", "docs"), delete("new")]})
        );
    }
}
