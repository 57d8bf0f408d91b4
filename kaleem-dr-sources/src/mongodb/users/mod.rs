//! Users and roles of the captured databases, as `mongodump --dumpDbUsersAndRoles` takes them: out of the database
//! `admin`, where each stands with the database it belongs to. The users carry the hashes of their passwords, so their content stays
//! in artifacts: it is in no manifest, message or log.

mod part;
mod plan;
mod read;
mod restore;

pub(crate) use self::{
    part::Part,
    plan::{are_restored, owners, planned},
    read::{read, warning},
    restore::restore,
};
