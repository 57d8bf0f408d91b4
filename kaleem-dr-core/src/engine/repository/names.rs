//! Distinguishes the names of objects from other names in a repository.
//!
//! Other programs leave files in directories that they can write to: a NAS its `@eaDir`, a desktop its `.DS_Store`, an
//! interrupted upload its temporary file. None of them is an object, and none of them may make a listing fail.

pub use super::object_key::is_object_name;
use super::store::{Object, ObjectStore, StoreError};

/// The objects in one of a repository's directories; other files there are ignored.
///
/// # Errors
/// As [`BasicStore::list`](super::store::BasicStore::list).
pub async fn objects(store: &dyn ObjectStore, directory: &str) -> Result<Vec<Object>, StoreError> {
    let mut listed = store.list(directory).await?;
    listed.retain(|object| is_object_name(&object.key));
    Ok(listed)
}
