//! Default places of the config, the state and the cache: the machine's, or a user's by the XDG base directory specification.

use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::secret::Environment;

/// The config of the machine.
pub const SYSTEM_CONFIG: &str = "/etc/kaleem-dr/kaleem-dr.toml";
/// The machine's state directory.
pub(super) const SYSTEM_STATE: &str = "/var/lib/kaleem-dr";
/// The machine's cache directory.
pub(super) const SYSTEM_CACHE: &str = "/var/cache/kaleem-dr";

/// The config that is used if none is named: the first that exists. Root looks for the machine's first, a user for its own.
#[must_use]
pub fn default_config(environment: &Environment) -> Option<PathBuf> {
    let system = Some(PathBuf::from(SYSTEM_CONFIG));
    let own = config_of_user(environment);
    let order = if environment.is_user() { [own, system] } else { [system, own] };
    order.into_iter().flatten().find(|path| path.exists())
}

/// The path of a new config: the machine's for root, its own for a user.
#[must_use]
pub fn new_config_path(environment: &Environment) -> PathBuf {
    let own = if environment.is_user() { config_of_user(environment) } else { None };
    own.unwrap_or_else(|| SYSTEM_CONFIG.into())
}

fn config_of_user(environment: &Environment) -> Option<PathBuf> {
    Some(of_user(environment, "XDG_CONFIG_HOME", ".config")?.join("kaleem-dr.toml"))
}

/// Defaults that differ from the machine's, by key: those of a user who may not write to the machine's directory.
pub(super) fn defaults_of_user(environment: &Environment) -> Vec<(&'static str, PathBuf)> {
    if !environment.is_user() {
        return Vec::new();
    }
    let own = [
        ("state_directory", SYSTEM_STATE, "XDG_STATE_HOME", ".local/state"),
        ("cache_directory", SYSTEM_CACHE, "XDG_CACHE_HOME", ".cache"),
    ];
    own.into_iter()
        // A container's image, or the administrator, may give a user the machine's directory.
        .filter(|(_, system, ..)| access(Path::new(system), AccessFlags::W_OK).is_err())
        .filter_map(|(key, _, variable, below)| Some((key, of_user(environment, variable, below)?)))
        .collect()
}

/// Our directory below one of the user's. A relative path in a variable is invalid and ignored, as the specification requires.
fn of_user(environment: &Environment, variable: &str, below_home: &str) -> Option<PathBuf> {
    let named = environment.get(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || Some(Path::new(environment.get("HOME")?).join(below_home));
    Some(named.or_else(home)?.join("kaleem-dr"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_its_own_places_and_root_the_machines() {
        let variables = [("HOME", "/home/ops"), ("XDG_CACHE_HOME", "/fast/cache")];
        let environment = || variables.into_iter().collect::<Environment>();
        assert_eq!(new_config_path(&environment()), Path::new(SYSTEM_CONFIG));
        assert_eq!(defaults_of_user(&environment()), []);

        let user = environment().of_user(true);
        assert_eq!(new_config_path(&user), Path::new("/home/ops/.config/kaleem-dr/kaleem-dr.toml"));
        let state = of_user(&user, "XDG_STATE_HOME", ".local/state");
        assert_eq!(state, Some("/home/ops/.local/state/kaleem-dr".into()));
        let cache = of_user(&user, "XDG_CACHE_HOME", ".cache");
        assert_eq!(cache, Some("/fast/cache/kaleem-dr".into()));
        let relative: Environment = [("XDG_STATE_HOME", "state")].into_iter().collect();
        assert_eq!(of_user(&relative, "XDG_STATE_HOME", ".local/state"), None);
    }
}
