//! The three artifacts of a database's users and roles, and their collections in `admin`.

use bson::{Document, doc};
use kaleem_dr_core::engine::manifest::{ArtifactRecord, Manifest};

use crate::mongodb::names::{self, ROOT};

/// The three collections of a database's users, in the order of their file names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Roles,
    Users,
    /// The schema version of the other two.
    Version,
}

impl Part {
    pub(crate) const ALL: [Self; 3] = [Self::Roles, Self::Users, Self::Version];

    /// Its collection in `admin`.
    pub(super) fn collection(self) -> &'static str {
        match self {
            Self::Roles => "system.roles",
            Self::Users => "system.users",
            Self::Version => "system.version",
        }
    }

    /// The file name in a database's directory, as in mongodump; those of `admin` itself have the names of the collections there.
    pub(crate) fn file(self, database: &str) -> String {
        if database == "admin" {
            return format!("{}.bson", self.collection());
        }
        format!("{}.bson", names::file_stem(&format!("$admin.{}", self.collection())))
    }

    /// The file name of `admin` in points before 0.2, which mongorestore does not accept.
    fn old_file(self) -> String {
        self.file("")
    }

    /// Its artifact in a point, if users were captured.
    pub(crate) fn of<'a>(
        self,
        manifest: &'a Manifest,
        database: &str,
    ) -> Option<&'a ArtifactRecord> {
        [self.file(database), self.old_file()]
            .iter()
            .find_map(|file| manifest.artifact(&format!("/{ROOT}/{database}/{file}")))
    }

    /// The query in `admin`: the schema version is common to all databases.
    pub(super) fn filter(self, database: &str) -> Document {
        match self {
            Self::Version => doc! {},
            // All users and roles of a server.
            Self::Roles | Self::Users if database.is_empty() => doc! {},
            Self::Roles | Self::Users => doc! { "db": database },
        }
    }
}

/// The name for the users and roles of a database in plans, reports and messages.
pub(crate) fn label(database: &str) -> String {
    if database.is_empty() {
        "users and roles of the whole server".to_owned()
    } else {
        format!("users and roles of {database}")
    }
}
