//! `[monitoring]` of the config: who is told how jobs end, and where metrics go.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{engine::ledger::EventKind, operate::config::secret::SecretRef};

/// Who is told, and where metrics go. Nobody and nowhere without this table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Monitoring {
    /// Checks of healthchecks.io, or of a server of one's own.
    pub healthchecks: Option<HealthchecksSettings>,
    /// Addresses that get each end of a job as JSON.
    pub webhook: Vec<WebhookSettings>,
    /// Topics of ntfy.
    pub ntfy: Vec<NtfySettings>,
    /// Where metrics go.
    pub prometheus: PrometheusSettings,
}

/// Checks of healthchecks.io: exactly one of `url`, `checks`, `ping_key`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthchecksSettings {
    /// One check for everything: its ping address.
    #[serde(default)]
    pub url: Option<SecretRef>,
    /// One check a job (`backup`), a source of it (`backup/mongo`) or a mirror (`replicate/r2`): their ping addresses.
    #[serde(default)]
    pub checks: BTreeMap<String, SecretRef>,
    /// The project's ping key: checks are named by slugs, `kaleem-dr-backup` and `kaleem-dr-backup-mongo`.
    #[serde(default)]
    pub ping_key: Option<SecretRef>,
    /// With `ping_key`: the server.
    #[serde(default = "base_url")]
    pub base_url: String,
    /// With `ping_key`: let the server make checks that it does not have yet.
    #[serde(default)]
    pub create: bool,
    /// Send the tail of report and log, without secrets.
    #[serde(default = "yes")]
    pub log: bool,
    /// Longest wait for one answer, in seconds.
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

/// An address that gets each end of a job as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    /// Where to.
    pub url: SecretRef,
    /// Of what.
    #[serde(default = "when")]
    pub on: Vec<When>,
    /// More headers, by name; their values may be secrets, so they lie where secrets lie.
    #[serde(default)]
    pub headers: BTreeMap<String, SecretRef>,
}

/// A topic of ntfy.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NtfySettings {
    /// The server.
    #[serde(default = "ntfy_url")]
    pub url: String,
    /// The topic.
    pub topic: String,
    /// An access token, where the topic is not open.
    #[serde(default)]
    pub token: Option<SecretRef>,
    /// Of what.
    #[serde(default = "when")]
    pub on: Vec<When>,
}

fn ntfy_url() -> String {
    "https://ntfy.sh".into()
}

fn when() -> Vec<When> {
    vec![When::Failure, When::Recovery]
}

/// What a webhook or a topic is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// A job that did not end with 0, or could not be started.
    Failure,
    /// A job that ended with 0.
    Success,
    /// The first success after a failure.
    Recovery,
    /// `notify test`: everybody hears of it, and nobody can ask for it.
    #[serde(skip_deserializing)]
    Test,
}

/// Where metrics go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PrometheusSettings {
    /// A file for node exporter's textfile collector; its name ends in `.prom`.
    pub textfile: Option<PathBuf>,
    /// The address of a Pushgateway, `http://HOST:9091`.
    pub pushgateway: Option<String>,
}

impl Monitoring {
    /// What is wrong with it, if something is; a sentence that names the key.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.healthchecks.as_ref().and_then(HealthchecksSettings::fault).or_else(|| self.prometheus.fault()).or_else(|| {
            let bad = self.ntfy.iter().find(|ntfy| !is_http(&ntfy.url) || ntfy.topic.is_empty() || ntfy.topic.contains('/'))?;
            Some(format!("`monitoring.ntfy`: topic `{}` needs an address, http or https, and a name without `/`", bad.topic))
        })
    }

    /// Every secret it refers to, with the key that does.
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
        for webhook in &self.webhook {
            secrets.push(("monitoring.webhook.url".to_owned(), &webhook.url));
            secrets.extend(
                webhook
                    .headers
                    .iter()
                    .map(|(name, secret)| (format!("monitoring.webhook.headers.{name}"), secret)),
            );
        }
        let tokens = self.ntfy.iter().filter_map(|ntfy| ntfy.token.as_ref());
        secrets.extend(tokens.map(|secret| ("monitoring.ntfy.token".to_owned(), secret)));
        secrets
    }
}

impl HealthchecksSettings {
    fn fault(&self) -> Option<String> {
        let ways = [self.url.is_some(), !self.checks.is_empty(), self.ping_key.is_some()];
        if ways.iter().filter(|given| **given).count() != 1 {
            return Some("`monitoring.healthchecks` needs one of `url`, `checks` and `ping_key`, and no second".into());
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
            "`monitoring.healthchecks.checks` names `{unknown}`, which is no job; jobs are {known}"
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
                "`monitoring.prometheus.pushgateway` has credentials in it; a secret is not written into the config".into(),
            );
        }
        (!is_http(url)).then(|| {
            "`monitoring.prometheus.pushgateway` must begin with http:// or https://".into()
        })
    }
}

fn is_http(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_names_its_key() {
        for (text, words) in [
            ("[healthchecks]\nlog = false", "needs one of"),
            ("[healthchecks]\nurl = { env = \"A\" }\nping_key = { env = \"B\" }", "needs one of"),
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
