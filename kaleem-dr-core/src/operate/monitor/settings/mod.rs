//! `[monitoring]` of the config: recipients of notifications, and destinations of metrics.

mod recipients;

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

pub use self::recipients::{
    ChatService, ChatSettings, EmailSecurity, EmailSettings, NtfySettings, Only, PagerDutySettings,
    Severity, TelegramSettings, WebhookSettings, When,
};
use crate::{engine::ledger::EventKind, operate::config::secret::SecretRef};

/// Recipients of notifications, and destinations of metrics. Without this table there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Monitoring {
    /// Checks of healthchecks.io, or of your own server.
    pub healthchecks: Option<HealthchecksSettings>,
    /// URLs that receive the end of each job, as JSON or in a form of their own.
    pub webhook: Vec<WebhookSettings>,
    /// Topics of ntfy that receive notices.
    pub ntfy: Vec<NtfySettings>,
    /// Mailboxes that receive notices, and the reports of drills.
    pub email: Vec<EmailSettings>,
    /// Channels of Slack, Discord, Mattermost and Teams that receive notices.
    pub chat: Vec<ChatSettings>,
    /// Chats of Telegram that receive notices.
    pub telegram: Vec<TelegramSettings>,
    /// Services of PagerDuty, whose incidents failures open and recoveries close.
    pub pagerduty: Vec<PagerDutySettings>,
    /// Destinations of metrics: a textfile, a Pushgateway.
    pub prometheus: PrometheusSettings,
}

/// Checks of healthchecks.io: set exactly one of `url`, `checks`, `ping_key`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct HealthchecksSettings {
    /// Ping URL of one check for everything.
    #[serde(default)]
    pub url: Option<SecretRef>,
    /// Ping URLs of one check for each job (`backup`), source of a job (`backup/mongo`) or mirror
    /// (`replicate/r2`).
    #[serde(default)]
    pub checks: BTreeMap<String, SecretRef>,
    /// Ping key of the project: checks are identified by slugs, `kaleem-dr-backup` and
    /// `kaleem-dr-backup-mongo`.
    #[serde(default)]
    pub ping_key: Option<SecretRef>,
    /// With `ping_key`: URL of the server.
    #[serde(default = "base_url")]
    pub base_url: String,
    /// With `ping_key`: let the server create missing checks.
    #[serde(default)]
    pub create: bool,
    /// Send the end of report and log, without secrets.
    #[serde(default = "yes")]
    pub log: bool,
    /// Maximum wait for an answer, in seconds.
    #[serde(default = "timeout")]
    pub timeout_seconds: u64,
}

fn base_url() -> String {
    "https://hc-ping.com".into()
}

fn yes() -> bool {
    true
}

fn timeout() -> u64 {
    10
}

/// Destinations of metrics, written after every job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct PrometheusSettings {
    /// File for the textfile collector of node exporter; its name ends in `.prom`.
    pub textfile: Option<PathBuf>,
    /// URL of a Pushgateway, `http://HOST:9091`.
    pub pushgateway: Option<String>,
}

impl Monitoring {
    /// The first fault, as a sentence with the key; `None` if the table is valid.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let checks = self.healthchecks.as_ref().and_then(HealthchecksSettings::fault);
        checks.or_else(|| self.prometheus.fault()).or_else(|| recipients::fault(self))
    }

    /// Every secret that the table refers to, with its key.
    #[must_use]
    pub fn secrets(&self) -> Vec<(String, &SecretRef)> {
        let mut secrets = Vec::new();
        if let Some(settings) = &self.healthchecks {
            secrets.extend(
                settings
                    .url
                    .iter()
                    .map(|secret| ("monitoring.healthchecks.url".to_owned(), secret)),
            );
            secrets.extend(
                settings
                    .ping_key
                    .iter()
                    .map(|secret| ("monitoring.healthchecks.ping_key".to_owned(), secret)),
            );
            let named =
                |(name, secret)| (format!("monitoring.healthchecks.checks.\"{name}\""), secret);
            secrets.extend(settings.checks.iter().map(named));
        }
        recipients::add_secrets(self, &mut secrets);
        secrets
    }
}

impl HealthchecksSettings {
    fn fault(&self) -> Option<String> {
        let ways = [self.url.is_some(), !self.checks.is_empty(), self.ping_key.is_some()];
        if ways.iter().filter(|given| **given).count() != 1 {
            return Some(
                "`monitoring.healthchecks` needs exactly one of `url`, `checks` and `ping_key`"
                    .into(),
            );
        }
        if !is_http(&self.base_url) {
            return Some(
                "`monitoring.healthchecks.base_url` must begin with http:// or https://".into(),
            );
        }
        if self.timeout_seconds == 0 {
            return Some("`monitoring.healthchecks.timeout_seconds` must be at least 1".into());
        }
        let unknown = self.checks.keys().find(|name| {
            let job = name.split('/').next().unwrap_or_default();
            !EventKind::ALL.iter().any(|kind| kind.word() == job)
        })?;
        let known = EventKind::ALL.map(EventKind::word).join(", ");
        Some(format!(
            "`monitoring.healthchecks.checks` names `{unknown}`, which is not a job; jobs are {known}"
        ))
    }
}

impl PrometheusSettings {
    fn fault(&self) -> Option<String> {
        if self
            .textfile
            .as_ref()
            .is_some_and(|path| path.extension().is_none_or(|extension| extension != "prom"))
        {
            return Some("`monitoring.prometheus.textfile` must end in .prom: node exporter reads no other file".into());
        }
        let url = self.pushgateway.as_ref()?;
        if url.contains('@') {
            return Some(
                "`monitoring.prometheus.pushgateway` contains credentials; secrets are not allowed in the config".into(),
            );
        }
        (!is_http(url)).then(|| {
            "`monitoring.prometheus.pushgateway` must begin with http:// or https://".into()
        })
    }
}

/// Reports whether this is the URL of a web server.
fn is_http(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_names_its_key() {
        for (text, words) in [
            ("[healthchecks]\nlog = false", "needs exactly one of"),
            (
                "[healthchecks]\nurl = { env = \"A\" }\nping_key = { env = \"B\" }",
                "needs exactly one of",
            ),
            ("[healthchecks.checks]\n\"bakup/mongo\" = { env = \"A\" }", "bakup/mongo"),
            ("[healthchecks]\nurl = { env = \"A\" }\ntimeout_seconds = 0", "timeout_seconds"),
            ("[prometheus]\ntextfile = \"/x/kaleem.txt\"", ".prom"),
            ("[prometheus]\npushgateway = \"http://u:p@h\"", "credentials"),
            ("[[ntfy]]\ntopic = \"a/b\"", "a/b"),
        ] {
            let monitoring: Monitoring = toml::from_str(text).unwrap();
            let fault = monitoring.fault().unwrap_or_default();
            assert!(fault.contains(words), "{text:?}: {fault:?}");
        }
        let good = "[healthchecks]\nchecks = { backup = { env = \"A\" }, \"backup/mongo\" = { file = \"/b\" } }\n\
                    [[webhook]]\nurl = { env = \"C\" }\n[prometheus]\ntextfile = \"/x/kaleem.prom\"";
        let monitoring: Monitoring = toml::from_str(good).unwrap();
        assert_eq!(monitoring.fault(), None);
        assert_eq!(monitoring.webhook[0].on, [When::Failure, When::Recovery]);
        assert_eq!(monitoring.secrets().len(), 3);
    }
}
