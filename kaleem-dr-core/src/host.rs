//! Who and where we are: what snapshots and locks record of this machine.

use nix::unistd;

/// The host's name, as `hostname` prints it.
#[must_use]
pub fn name() -> String {
    unistd::gethostname().map_or_else(|_| "localhost".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// The user's name; the number where it has none.
#[must_use]
pub fn user() -> String {
    let uid = unistd::getuid();
    match unistd::User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}
