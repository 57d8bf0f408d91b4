//! Which of the indexes that a server lists come with the collection itself.

use bson::{Bson, Document, doc};

/// Whether an index is the one on `_id` that every collection has.
pub(crate) fn is_id(index: &Document) -> bool {
    !is_clustered(index)
        && index.get_document("key").is_ok_and(|key| {
            key.len() == 1 && matches!(key.get("_id"), Some(Bson::Int32(1) | Bson::Int64(1)))
                || key == &doc! { "_id": 1.0 }
        })
}

/// Whether an index is no index of its own: the collection itself lies in its order.
pub(crate) fn is_clustered(index: &Document) -> bool {
    index.get_bool("clustered").unwrap_or(false)
}
