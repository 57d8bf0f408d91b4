//! Recognises the indexes that a collection has by default.

use bson::{Bson, Document, doc};

/// Reports whether an index is the one on `_id` that every collection has.
pub(crate) fn is_id(index: &Document) -> bool {
    !is_clustered(index)
        && index.get_document("key").is_ok_and(|key| {
            key.len() == 1 && matches!(key.get("_id"), Some(Bson::Int32(1) | Bson::Int64(1)))
                || key == &doc! { "_id": 1.0 }
        })
}

/// Reports whether an index is only the order in which the collection itself is stored.
pub(crate) fn is_clustered(index: &Document) -> bool {
    index.get_bool("clustered").unwrap_or(false)
}
