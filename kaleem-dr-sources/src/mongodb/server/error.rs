//! Errors of the driver and the server: their codes, which of them pass, and their messages.

use mongodb::error::{Error, ErrorKind};

/// Error codes of the server that we distinguish (its `error_codes.yml`).
pub(crate) mod codes {
    pub(crate) const UNAUTHORISED: i32 = 13;
    pub(crate) const AUTHENTICATION_FAILED: i32 = 18;
    pub(crate) const ILLEGAL_OPERATION: i32 = 20;
    pub(crate) const NAMESPACE_NOT_FOUND: i32 = 26;
    pub(crate) const NAMESPACE_EXISTS: i32 = 48;
    pub(crate) const INVALID_OPTIONS: i32 = 72;
    pub(crate) const NOT_A_REPLICA_SET: i32 = 123;
    pub(crate) const SNAPSHOT_TOO_OLD: i32 = 239;
    pub(crate) const SNAPSHOT_UNAVAILABLE: i32 = 246;
    pub(crate) const DUPLICATE_KEY: i32 = 11000;
}

/// The server's error code of a failed command.
pub(crate) fn code(error: &Error) -> Option<i32> {
    match error.kind.as_ref() {
        ErrorKind::Command(command) => Some(command.code),
        _ => None,
    }
}

/// Reports whether a failure concerns a cursor, a connection or a member, and not the request itself.
pub(crate) fn is_passing(error: &Error) -> bool {
    /// From the server's `error_codes.yml`: codes about cursors, members that start or stop, and connections.
    const PASSING: [i32; 19] = [
        6, 7, 43, 89, 91, 133, 134, 136, 175, 189, 202, 237, 262, 9001, 10107, 11600, 11602, 13435,
        13436,
    ];
    match error.kind.as_ref() {
        ErrorKind::Command(command) => PASSING.contains(&command.code),
        ErrorKind::Io(_)
        | ErrorKind::ConnectionPoolCleared { .. }
        | ErrorKind::ServerSelection { .. } => true,
        _ => false,
    }
}

/// The error message without the driver's debugging dump.
pub(super) fn describe(error: &Error) -> String {
    match error.kind.as_ref() {
        ErrorKind::Command(command) => {
            format!("{} ({}, code {})", command.message, command.code_name, command.code)
        }
        ErrorKind::ServerSelection { message, .. } => describe_selection(message),
        kind => kind.to_string(),
    }
}

/// The reason why no server was found. Of the driver's dump of the topology, this keeps the error
/// of each server.
fn describe_selection(message: &str) -> String {
    let mut reasons: Vec<&str> = message
        .split("Error: Kind: ")
        .skip(1)
        .filter_map(|dump| dump.split(", labels: ").next())
        .collect();
    reasons.dedup();
    if reasons.is_empty() {
        message.to_owned()
    } else {
        format!("no server replied in time: {}", reasons.join("; "))
    }
}
