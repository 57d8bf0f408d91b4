//! Compares a new machine with the lost one.

use crate::operate::installation::{Installation, Machine};

/// Lists the things that a new machine lacks, compared with the one that the installation ran on: users that restored
/// files belong to, packages of services, keys that the description has without their values.
#[must_use]
pub(crate) fn lacking(installation: &Installation, here: &Machine) -> Vec<String> {
    let there = &installation.machine;
    let mut notes = Vec::new();
    if !here.users.is_empty() {
        let lost: Vec<&str> = there
            .users
            .iter()
            .filter(|user| here.user_id(&user.name) != Some(user.id))
            .map(|user| user.name.as_str())
            .collect();
        if !lost.is_empty() {
            notes.push(format!(
                "these users do not exist here, or have other ids than there, so restored files would belong to others: {}",
                lost.join(", ")
            ));
        }
    }
    if !here.packages.is_empty() {
        let has = |name: &str| here.packages.iter().any(|package| package.name == name);
        let lost = there.packages.iter().filter(|package| !has(&package.name));
        let lost: Vec<String> =
            lost.map(|package| format!("{} {}", package.name, package.version)).collect();
        if !lost.is_empty() {
            notes.push(format!(
                "these services were installed there, and are not here: {}",
                lost.join(", ")
            ));
        }
    }
    notes.extend(installation.config.redacted.iter().map(|key| {
        format!("`{key}` contained a secret, which is `***` in the config now: complete it")
    }));
    notes
}
