//! Recreates the shards of a collection: their keys, and which stored shard belongs into which new
//! one.

use std::collections::BTreeMap;

use kaleem_dr_core::ground::SourceError;
use serde_json::Value;

use super::{api::Shard, description::Description};

impl Description {
    /// The shard keys with the ids of the shards of each, in the order in which they must be created
    /// to get the same ids.
    ///
    /// # Errors
    /// If a shard has no key.
    pub(super) fn shard_keys(&self) -> Result<Vec<(&Value, Vec<u32>)>, SourceError> {
        let mut keys: Vec<(&Value, Vec<u32>)> = Vec::new();
        for shard in &self.shards {
            let Some(key) = &shard.shard_key else {
                return Err(self.not_recreated(&format!("shard {} has no key", shard.shard_id)));
            };
            match keys.iter_mut().find(|(known, _)| *known == key) {
                None => keys.push((key, vec![shard.shard_id])),
                Some((_, ids)) => ids.push(shard.shard_id),
            }
        }
        Ok(keys)
    }

    /// The shard of this description whose points belong into each of the `found` shards of a new
    /// collection.
    ///
    /// Qdrant numbers shards itself. Points are spread over the shards of a key by the shards'
    /// numbers, so only a key with a single shard may get another number.
    ///
    /// # Errors
    /// If the new shards are others, or the numbers of a key with several shards differ.
    pub(super) fn match_shards(&self, found: &[Shard]) -> Result<BTreeMap<u32, u32>, SourceError> {
        let differ = || {
            let (new, old) = (in_words(found), in_words(&self.shards));
            self.not_recreated(&format!("the new collection has {new}, not {old}"))
        };
        let mut matched = BTreeMap::new();
        for shard in found {
            let same_key = |other: &&Shard| other.shard_key == shard.shard_key;
            let of_key: Vec<_> = self.shards.iter().filter(same_key).collect();
            let is_alone = shard.shard_key.is_some()
                && of_key.len() == 1
                && found.iter().filter(same_key).count() == 1;
            let stored = if is_alone {
                of_key.first().copied()
            } else {
                of_key.into_iter().find(|other| other.shard_id == shard.shard_id)
            };
            matched.insert(shard.shard_id, stored.ok_or_else(differ)?.shard_id);
        }
        if matched.len() == self.shards.len() { Ok(matched) } else { Err(differ()) }
    }

    fn not_recreated(&self, why: &str) -> SourceError {
        SourceError::Unsupported(format!(
            "the shards of {} cannot be recreated for a restore: {why}; Qdrant assigns the numbers of shards itself",
            self.name
        ))
    }
}

/// The shards for messages: `1 ("a"), 2 ("b")`.
pub(super) fn in_words(shards: &[Shard]) -> String {
    let list: Vec<_> = shards.iter().map(Shard::to_string).collect();
    if list.is_empty() { "no shards".into() } else { list.join(", ") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn described(shards: &Value) -> Description {
        Description {
            shards: serde_json::from_value(shards.clone()).unwrap(),
            ..Description::named("docs")
        }
    }

    #[test]
    fn shards_keep_their_numbers_unless_their_key_has_no_other() {
        let shards = |list: Value| serde_json::from_value::<Vec<Shard>>(list).unwrap();
        let description = described(&json!([
            {"shard_id": 1, "shard_key": "b"}, {"shard_id": 2, "shard_key": "b"}, {"shard_id": 5, "shard_key": 7}
        ]));
        let keys = [(&json!("b"), vec![1, 2]), (&json!(7), vec![5])];
        assert_eq!(description.shard_keys().unwrap(), keys);
        let new = shards(json!([
            {"shard_id": 1, "shard_key": "b"}, {"shard_id": 2, "shard_key": "b"}, {"shard_id": 3, "shard_key": 7}
        ]));
        let matched = description.match_shards(&new).unwrap();
        assert_eq!(matched, [(1, 1), (2, 2), (3, 5)].into());
        for bad in [
            json!([{"shard_id": 1, "shard_key": "b"}, {"shard_id": 5, "shard_key": 7}]),
            json!([{"shard_id": 2, "shard_key": "b"}, {"shard_id": 3, "shard_key": "b"}, {"shard_id": 4, "shard_key": 7}]),
            json!([{"shard_id": 1}, {"shard_id": 2}, {"shard_id": 5}]),
        ] {
            let error = description.match_shards(&shards(bad.clone())).unwrap_err().to_string();
            assert!(error.contains("not 1 (\"b\"), 2 (\"b\"), 5 (7)"), "{bad}: {error}");
        }
        described(&json!([{"shard_id": 0}])).shard_keys().unwrap_err();
    }
}
