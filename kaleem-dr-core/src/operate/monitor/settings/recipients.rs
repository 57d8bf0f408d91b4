//! The recipients of notices in `[monitoring]`.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Monitoring, is_http};
use crate::{engine::ledger::EventKind, operate::config::secret::SecretRef};

/// A URL that receives the end of each job.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct WebhookSettings {
    /// The URL; it may contain a token, so it is a secret.
    pub url: SecretRef,
    /// Events to send [default: failures and recoveries].
    #[serde(default = "when")]
    pub on: Vec<When>,
    /// Restricts them further.
    #[serde(default)]
    pub only: Only,
    /// Additional headers, by name; values are references to secrets.
    #[serde(default)]
    pub headers: BTreeMap<String, SecretRef>,
    /// Template of the body in the language of Jinja, with the fields of the JSON as variables, and `title`; `{{ message | tojson }}`
    /// is a JSON string [default: the JSON].
    #[serde(default)]
    pub body: Option<String>,
}

/// A topic of ntfy.sh, or of your own server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct NtfySettings {
    /// URL of the server, without the topic.
    #[serde(default = "ntfy_url")]
    pub url: String,
    /// Name of the topic on that server.
    pub topic: String,
    /// Access token, for topics that are not public.
    #[serde(default)]
    pub token: Option<SecretRef>,
    /// Events to send [default: failures and recoveries].
    #[serde(default = "when")]
    pub on: Vec<When>,
    /// Restricts them further.
    #[serde(default)]
    pub only: Only,
}

/// Mailboxes that one server delivers to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct EmailSettings {
    /// Name or address of the SMTP server.
    pub server: String,
    /// Its port [default: 465 with `tls`, 587 with `starttls`, 25 with `none`].
    #[serde(default)]
    pub port: Option<u16>,
    /// Encryption of the connection.
    #[serde(default)]
    pub security: EmailSecurity,
    /// PEM file of certificates to trust in addition to the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Login name, if the server requires a login.
    #[serde(default)]
    pub username: Option<String>,
    /// Password of that login.
    #[serde(default)]
    pub password: Option<SecretRef>,
    /// Sender: `backup@example.org`, or with a name: `Backups of db1 <backup@example.org>`.
    pub from: String,
    /// Recipients, written like the sender.
    pub to: Vec<String>,
    /// Attach the report of a drill or a recovery, as an HTML page.
    #[serde(default = "yes")]
    pub attach_report: bool,
    /// Events to send [default: failures and recoveries].
    #[serde(default = "when")]
    pub on: Vec<When>,
    /// Restricts them further.
    #[serde(default)]
    pub only: Only,
}

/// Encryption of a connection to an SMTP server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EmailSecurity {
    /// TLS from the first byte (RFC 8314).
    #[default]
    Tls,
    /// STARTTLS (RFC 3207); a server without it is refused.
    Starttls,
    /// Without encryption; refused together with a password.
    None,
}

/// A channel of a chat service, by its incoming webhook.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ChatSettings {
    /// The service.
    pub service: ChatService,
    /// URL of the channel's incoming webhook; whoever has it can write there, so it is a secret.
    pub url: SecretRef,
    /// Events to send [default: failures and recoveries].
    #[serde(default = "when")]
    pub on: Vec<When>,
    /// Restricts them further.
    #[serde(default)]
    pub only: Only,
}

/// A chat service with incoming webhooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChatService {
    /// Slack.
    Slack,
    /// Discord.
    Discord,
    /// Mattermost.
    Mattermost,
    /// Microsoft Teams, by a workflow that posts adaptive cards.
    Teams,
}

/// A chat of Telegram, which a bot writes to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TelegramSettings {
    /// Token of the bot.
    pub token: SecretRef,
    /// Id of the chat, or `@NAME` of a channel.
    pub chat: String,
    /// URL of the server of the bot API.
    #[serde(default = "telegram_url")]
    pub url: String,
    /// Events to send [default: failures and recoveries].
    #[serde(default = "when")]
    pub on: Vec<When>,
    /// Restricts them further.
    #[serde(default)]
    pub only: Only,
}

/// A service of PagerDuty, by an integration of the Events API v2.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PagerDutySettings {
    /// Integration key.
    pub routing_key: SecretRef,
    /// URL that receives the events; another region has another one.
    #[serde(default = "pagerduty_url")]
    pub url: String,
    /// Events to send [default: failures and recoveries].
    #[serde(default = "when")]
    pub on: Vec<When>,
    /// Restricts them further.
    #[serde(default)]
    pub only: Only,
}

/// Restricts what a recipient receives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Only {
    /// Kinds of jobs, as `history` names them [default: all].
    pub jobs: Vec<String>,
    /// Failures of at least this severity, and their recoveries.
    pub severity: Option<Severity>,
    /// Hours after which a failure that has not changed is sent again; 0 sends each one [default: 0 for webhooks and PagerDuty, which
    /// recognise repetitions, and 4 for people].
    pub repeat_hours: Option<u32>,
}

/// The severity of the end of a job.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A success, a recovery or a test; not a value of the config.
    #[serde(skip_deserializing)]
    Info,
    /// Partly done, or a lock, a time limit or a signal stopped the job.
    Warning,
    /// A source has no new point, a proof failed, or the job could not be done.
    Critical,
}

/// Events that a recipient receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// A job that did not end with 0, or could not start.
    Failure,
    /// A job that ended with 0.
    Success,
    /// The first success after a failure.
    Recovery,
    /// `notify test`: sent to every recipient; not a value of the config.
    #[serde(skip_deserializing)]
    Test,
}

fn ntfy_url() -> String {
    "https://ntfy.sh".into()
}

fn telegram_url() -> String {
    "https://api.telegram.org".into()
}

fn pagerduty_url() -> String {
    "https://events.pagerduty.com/v2/enqueue".into()
}

fn when() -> Vec<When> {
    vec![When::Failure, When::Recovery]
}

fn yes() -> bool {
    true
}

/// The first fault of the recipients, as a sentence with the key.
pub(super) fn fault(monitoring: &Monitoring) -> Option<String> {
    let topic = |ntfy: &NtfySettings| {
        (!is_http(&ntfy.url) || ntfy.topic.is_empty() || ntfy.topic.contains('/')).then(|| {
            let topic = &ntfy.topic;
            format!("`monitoring.ntfy`: topic `{topic}` needs a URL, http or https, and a name without `/`")
        })
    };
    let url = |key: &str, url: &str| {
        (!is_http(url))
            .then(|| format!("`monitoring.{key}.url` must begin with http:// or https://"))
    };
    let topics = monitoring.ntfy.iter().find_map(topic);
    topics
        .or_else(|| monitoring.telegram.iter().find_map(|one| url("telegram", &one.url)))
        .or_else(|| monitoring.pagerduty.iter().find_map(|one| url("pagerduty", &one.url)))
        .or_else(|| restrictions(monitoring).find_map(|(key, only)| only.fault(key)))
}

fn restrictions(monitoring: &Monitoring) -> impl Iterator<Item = (&'static str, &Only)> {
    let Monitoring { webhook, ntfy, email, chat, telegram, pagerduty, .. } = monitoring;
    let webhooks = webhook.iter().map(|one| ("webhook", &one.only));
    webhooks
        .chain(ntfy.iter().map(|one| ("ntfy", &one.only)))
        .chain(email.iter().map(|one| ("email", &one.only)))
        .chain(chat.iter().map(|one| ("chat", &one.only)))
        .chain(telegram.iter().map(|one| ("telegram", &one.only)))
        .chain(pagerduty.iter().map(|one| ("pagerduty", &one.only)))
}

impl Only {
    fn fault(&self, key: &str) -> Option<String> {
        let known = EventKind::ALL.map(EventKind::word);
        let unknown = self.jobs.iter().find(|job| !known.contains(&job.as_str()))?;
        Some(format!(
            "`monitoring.{key}.only.jobs` names `{unknown}`, which is not a job; jobs are {}",
            known.join(", ")
        ))
    }
}

/// Adds every secret that the recipients refer to, with its key.
pub(super) fn add_secrets<'a>(
    monitoring: &'a Monitoring,
    secrets: &mut Vec<(String, &'a SecretRef)>,
) {
    let mut add = |key: &str, secret| secrets.push((format!("monitoring.{key}"), secret));
    for webhook in &monitoring.webhook {
        add("webhook.url", &webhook.url);
        for (name, secret) in &webhook.headers {
            add(&format!("webhook.headers.{name}"), secret);
        }
    }
    monitoring
        .ntfy
        .iter()
        .filter_map(|one| one.token.as_ref())
        .for_each(|it| add("ntfy.token", it));
    for secret in monitoring.email.iter().filter_map(|one| one.password.as_ref()) {
        add("email.password", secret);
    }
    monitoring.chat.iter().for_each(|one| add("chat.url", &one.url));
    monitoring.telegram.iter().for_each(|one| add("telegram.token", &one.token));
    monitoring.pagerduty.iter().for_each(|one| add("pagerduty.routing_key", &one.routing_key));
}
