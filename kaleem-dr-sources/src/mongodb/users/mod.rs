//! Users and roles of the captured databases, like `mongodump --dumpDbUsersAndRoles`: read from the
//! database `admin`, which stores each with its database. Users include their password hashes, so
//! their content stays in artifacts: it is never in a manifest, message or log.

mod part;
mod plan;
mod read;
mod restore;

pub(crate) use self::{
    part::Part,
    plan::{are_of_server, are_restored, owners, planned},
    read::{read, warning},
    restore::restore,
};
