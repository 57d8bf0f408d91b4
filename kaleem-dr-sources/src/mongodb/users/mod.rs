//! Users and roles of the captured databases, as `mongodump --dumpDbUsersAndRoles` takes them.
//!
//! They lie in the database `admin`, each with the database it belongs to. The users carry the hashes of their passwords, so their
//! content stays in artifacts: it is in no manifest, message or log.

mod restore;

use bson::{Document, doc};
use kaleem_dr_core::{
    engine::manifest::{ArtifactRecord, Manifest},
    ground::SourceError,
    recovery::source::{Change, Existing, Extras, PlannedAction, RestoreRequest, RestoreTarget},
};

pub(crate) use self::restore::restore;
use super::{capture::ROOT, connection::Connection, names};

/// The three collections of a database's users, in the order of their file names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Roles,
    Users,
    /// Which schema the other two have.
    Version,
}

impl Part {
    pub(crate) const ALL: [Self; 3] = [Self::Roles, Self::Users, Self::Version];

    /// The collection of `admin`.
    fn collection(self) -> &'static str {
        match self {
            Self::Roles => "system.roles",
            Self::Users => "system.users",
            Self::Version => "system.version",
        }
    }

    /// The file in a database's directory.
    pub(crate) fn file(self) -> String {
        format!("{}.bson", names::file_stem(&format!("$admin.{}", self.collection())))
    }

    /// Its artifact in a point, if users were captured.
    pub(crate) fn of<'a>(self, manifest: &'a Manifest, database: &str) -> Option<&'a ArtifactRecord> {
        manifest.artifact(&format!("/{ROOT}/{database}/{}", self.file()))
    }

    /// What of `admin` is read: the schema is one for all databases.
    fn filter(self, database: &str) -> Document {
        match self {
            Self::Version => doc! {},
            Self::Roles | Self::Users => doc! { "db": database },
        }
    }
}

/// Reads one of the three: its documents one after the other, and how many they are.
pub(crate) async fn read(connection: &Connection, database: &str, part: Part) -> Result<(Vec<u8>, u64), SourceError> {
    let action = format!(
        "read the users and roles of {database} in admin.{} (the role backup on admin allows it; without it set users_and_roles = \
         false)",
        part.collection()
    );
    // In order of `_id`, so that nothing changes from one night to the next by itself.
    let find = doc! { "find": part.collection(), "filter": part.filter(database), "sort": { "_id": 1 } };
    let documents = connection.list("admin", find, &action).await?;
    let mut bytes = Vec::new();
    for document in &documents {
        let document = bson::serialize_to_vec(document).map_err(|error| connection.odd_answer(&action, error.to_string()))?;
        bytes.extend_from_slice(&document);
    }
    Ok((bytes, documents.len() as u64))
}

/// What the operator should know of the users of a database: that they are there but not captured, or cannot be.
pub(crate) async fn warning(connection: &Connection, database: &str, captured: bool) -> Option<String> {
    match (read(connection, database, Part::Users).await, captured) {
        (Err(_), true) => Some(format!(
            "the login may not read the users of {database}, so captures will fail: grant it the role backup on admin, or set \
             users_and_roles = false"
        )),
        (Ok((_, users)), false) if users > 0 => Some(format!(
            "the {users} users of {database} are not captured: the login may read them, so users_and_roles = true would do"
        )),
        _ => None,
    }
}

/// Whether a restore brings users and roles back: only in place, since they belong to a database by its name, and only with
/// all else, since they are not part of any collection.
pub(crate) fn are_restored(request: &RestoreRequest) -> bool {
    request.to == RestoreTarget::InPlace && request.existing == Existing::Replace && request.only.is_empty()
}

/// The line of a plan for the users and roles of one database, if the point has them.
pub(crate) fn planned(manifest: &Manifest, database: &str, request: &RestoreRequest) -> Option<PlannedAction> {
    let count = |part: Part| part.of(manifest, database).and_then(|record| record.items);
    let items = count(Part::Users)? + count(Part::Roles)?;
    let (change, why) = match (are_restored(request), request.extras) {
        (false, _) => (Change::Leave, "they are restored in place only, with all collections and not merged"),
        (true, Extras::Keep) => (Change::Overwrite, "those of the same names are replaced, with their passwords; others stay"),
        (true, Extras::Remove) => {
            (Change::Overwrite, "they are replaced, with their passwords; those not in the point are removed")
        }
    };
    Some(PlannedAction { items: Some(items), why: Some(why.to_owned()), ..PlannedAction::new(change, label(database)) })
}

pub(crate) fn label(database: &str) -> String {
    format!("users and roles of {database}")
}
