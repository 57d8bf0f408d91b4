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

    /// Its file name in a database's directory.
    pub(crate) fn file(self) -> String {
        format!("{}.bson", names::file_stem(&format!("$admin.{}", self.collection())))
    }

    /// Its artifact in a point, if users were captured.
    pub(crate) fn of<'a>(
        self,
        manifest: &'a Manifest,
        database: &str,
    ) -> Option<&'a ArtifactRecord> {
        manifest.artifact(&format!("/{ROOT}/{database}/{}", self.file()))
    }

    /// The query in `admin`: the schema version is common to all databases.
    pub(super) fn filter(self, database: &str) -> Document {
        match self {
            Self::Version => doc! {},
            Self::Roles | Self::Users => doc! { "db": database },
        }
    }
}

/// The name for the users and roles of a database in plans, reports and messages.
pub(crate) fn label(database: &str) -> String {
    format!("users and roles of {database}")
}
