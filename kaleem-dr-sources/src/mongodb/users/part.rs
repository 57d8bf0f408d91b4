//! The three artifacts of a database's users and roles, and where in `admin` each comes from.

use bson::{Document, doc};
use kaleem_dr_core::engine::manifest::{ArtifactRecord, Manifest};

use crate::mongodb::names::{self, ROOT};

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
    pub(super) fn collection(self) -> &'static str {
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
    pub(crate) fn of<'a>(
        self,
        manifest: &'a Manifest,
        database: &str,
    ) -> Option<&'a ArtifactRecord> {
        manifest.artifact(&format!("/{ROOT}/{database}/{}", self.file()))
    }

    /// What of `admin` is read: the schema is one for all databases.
    pub(super) fn filter(self, database: &str) -> Document {
        match self {
            Self::Version => doc! {},
            Self::Roles | Self::Users => doc! { "db": database },
        }
    }
}

/// How plans, reports and messages call the users and roles of a database.
pub(crate) fn label(database: &str) -> String {
    format!("users and roles of {database}")
}
