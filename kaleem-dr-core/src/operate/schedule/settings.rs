//! `[schedule]` of the config.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{When, Zone};

/// Times of the jobs: `"daily 03:00"`, `"weekly sun 04:00"`, `"monthly 1 03:20"`, `"quarterly 2 04:20"`, `"hourly"`, `"every 6h"`,
/// `"cron 15 3 * * mon-fri"` or `"off"`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ScheduleSettings {
    /// Time zone of all times, by its name in the IANA database: `Europe/Berlin` [default: UTC].
    #[schemars(with = "String")]
    pub timezone: Zone,
    /// Times of `kaleem-dr backup`.
    #[schemars(with = "String")]
    pub backup: When,
    /// `kaleem-dr replicate` [default: daily at 03:30 if a repository is a mirror, otherwise
    /// never].
    #[schemars(with = "Option<String>")]
    pub replicate: Option<When>,
    /// Times of `kaleem-dr verify`.
    #[schemars(with = "String")]
    pub verify: When,
    /// Times of `kaleem-dr check`.
    #[schemars(with = "String")]
    pub check: When,
    /// `kaleem-dr drill`, of the repository that is used without `--repo`.
    #[schemars(with = "String")]
    pub drill: When,
    /// `kaleem-dr --repo NAME drill`, by the repository's name. Mirrors and repositories of
    /// `backup.also` that are not named here are drilled on the first of each month from 04:20 on,
    /// an hour apart.
    #[schemars(with = "BTreeMap<String, String>")]
    pub drill_of: BTreeMap<String, When>,
    /// `kaleem-dr --repo NAME drill --from-nothing`, from the first mirror or repository of
    /// `backup.also`, or else from the repository that is used without `--repo` [default: quarterly,
    /// if there is a mirror or a repository of `backup.also`].
    #[schemars(with = "Option<String>")]
    pub drill_from_nothing: Option<When>,
    /// File of `NAME=VALUE` lines with the environment of scheduled jobs, if the config refers to
    /// variables.
    pub environment_file: PathBuf,
}

impl Default for ScheduleSettings {
    fn default() -> Self {
        Self {
            timezone: Zone::default(),
            backup: When::daily(3, 0),
            replicate: None,
            verify: When::daily(4, 30),
            check: When::weekly(0, 5, 0),
            drill: When::monthly(1, 3, 20),
            drill_of: BTreeMap::new(),
            drill_from_nothing: None,
            environment_file: "/etc/kaleem-dr/environment".into(),
        }
    }
}
