//! Plans the restore of users and roles.

use std::collections::BTreeSet;

use kaleem_dr_core::{
    engine::manifest::Manifest,
    recovery::source::{Change, Existing, Extras, PlannedAction, RestoreRequest, RestoreTarget},
};

use super::part::{Part, label};

/// Reports whether a restore includes users and roles: only in place, since they belong to a
/// database by its name, and only with everything else, since they are not part of a collection.
pub(crate) fn are_restored(request: &RestoreRequest) -> bool {
    request.to == RestoreTarget::InPlace
        && request.existing != Existing::Merge
        && request.only.is_empty()
}

/// Reports whether a point has the users and roles of a whole server, so that it is a dump of several databases.
pub(crate) fn are_of_server(manifest: &Manifest) -> bool {
    Part::Users.of(manifest, "admin").is_some()
}

/// The databases whose users and roles a restore handles: the restored ones, and `admin` for a dump of a whole server.
pub(crate) fn owners<'a>(
    manifest: &Manifest,
    databases: impl Iterator<Item = &'a String>,
) -> BTreeSet<String> {
    let whole = are_of_server(manifest).then(|| "admin".to_owned());
    databases.cloned().chain(whole).collect()
}

/// The line of a plan for the users and roles of one database, if the point has them.
pub(crate) fn planned(
    manifest: &Manifest,
    database: &str,
    request: &RestoreRequest,
) -> Option<PlannedAction> {
    let count = |part: Part| part.of(manifest, database).and_then(|record| record.items);
    let items = count(Part::Users)? + count(Part::Roles)?;
    let (change, why) = match (are_restored(request), request.extras) {
        (false, _) => {
            (Change::Leave, "they are restored only in place, with all collections, and not merged")
        }
        (true, Extras::Keep) => (
            Change::Overwrite,
            "those with the same names are replaced, including passwords; others stay",
        ),
        (true, Extras::Remove) => (
            Change::Overwrite,
            "they are replaced, including passwords; those not in the point are removed",
        ),
    };
    Some(PlannedAction::new(change, label(database)).with_items(items).because(why.to_owned()))
}
