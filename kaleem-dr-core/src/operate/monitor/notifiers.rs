//! Notifiers of the ends of jobs: the trait, and its implementations for webhooks and ntfy.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use reqwest::Client;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Delivery, NtfySettings, WebhookSettings, When, post};
use crate::{
    ground::{Exit, error_chain},
    operate::config::secret::{Environment, ExposeSecret as _, SecretString},
};

/// Maximum wait for an answer.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// The end of a job as sent to a notifier; a webhook receives it as JSON. Secrets are removed from
/// its texts.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Notice {
    /// The event: `failure`, `success`, `recovery` or `test`.
    pub event: When,
    /// The name of the job's kind, as in [`crate::engine::ledger::EventKind::word`].
    pub job: String,
    /// Host that the job ran on.
    pub host: String,
    /// Id of the run; `None` for a job that did not run.
    pub run: Option<String>,
    /// The end of the job.
    pub exit: Exit,
    /// The end of the job as an exit status.
    pub exit_code: u8,
    /// Start of the job; `None` if it did not run.
    pub started: Option<Timestamp>,
    /// End of the job, by this machine's clock.
    pub finished: Timestamp,
    /// The end of each source or mirror.
    pub sources: Vec<NoticePart>,
    /// A few lines for people.
    pub message: String,
}

/// The end of one source or mirror of a job.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct NoticePart {
    /// Its name in the config.
    pub source: String,
    /// Exit status of the source, as a number.
    pub exit_code: u8,
    /// Why it did not end well; `None` if it did.
    pub message: Option<String>,
}

impl Notice {
    /// Reports whether a recipient with these events receives the notice. Every recipient receives
    /// a test, and a recovery is also a success.
    #[must_use]
    pub fn is_for(&self, on: &[When]) -> bool {
        match self.event {
            When::Test => true,
            When::Recovery => on.contains(&When::Recovery) || on.contains(&When::Success),
            event => on.contains(&event),
        }
    }
}

/// A recipient of notifications about the ends of jobs. A program that embeds the library adds its
/// own with [`Site::with_notifier`](crate::Site::with_notifier).
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Name of the notifier for logs and for `notify test`; never a secret URL.
    fn name(&self) -> String;

    /// Reports whether to deliver this notice; all notices by default.
    fn wants(&self, _notice: &Notice) -> bool {
        true
    }

    /// Delivers a notice. A delivery that takes longer than half a minute is dropped, so that it
    /// cannot delay a job for long.
    ///
    /// # Errors
    /// Why the delivery failed, as a sentence without a secret. The error is logged and fails no
    /// job.
    async fn deliver(&self, notice: &Notice) -> Result<(), String>;
}

/// Delivers a notice to one notifier, if it wants it.
pub(crate) async fn notify(notifier: &dyn Notifier, notice: &Notice) -> Option<Delivery> {
    if !notifier.wants(notice) {
        return None;
    }
    let delivered = tokio::time::timeout(post::longest(TIMEOUT), notifier.deliver(notice)).await;
    let error = delivered.unwrap_or_else(|_| Err("no answer in time".to_owned())).err();
    Some(Delivery { recipient: notifier.name(), error })
}

/// The notifiers of a config. A secret that cannot be read becomes a sentence, and the other
/// notifiers are used.
pub(crate) fn notifiers(
    webhooks: &[WebhookSettings],
    topics: &[NtfySettings],
    environment: &Environment,
) -> (Vec<Arc<dyn Notifier>>, Vec<String>) {
    let (mut made, mut failed): (Vec<Arc<dyn Notifier>>, _) = (Vec::new(), Vec::new());
    if webhooks.is_empty() && topics.is_empty() {
        return (made, failed);
    }
    let client = match post::client(TIMEOUT) {
        Ok(client) => client,
        Err(why) => return (made, vec![why]),
    };
    for (at, webhook) in webhooks.iter().enumerate() {
        match Webhook::new(at + 1, webhook, environment, client.clone()) {
            Ok(webhook) => made.push(Arc::new(webhook)),
            Err(why) => failed.push(why),
        }
    }
    for topic in topics {
        match Ntfy::new(topic, environment, client.clone()) {
            Ok(ntfy) => made.push(Arc::new(ntfy)),
            Err(why) => failed.push(why),
        }
    }
    (made, failed)
}

/// A webhook, which receives JSON.
struct Webhook {
    client: Client,
    number: usize,
    url: SecretString,
    on: Vec<When>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Webhook {
    fn new(
        number: usize,
        settings: &WebhookSettings,
        environment: &Environment,
        client: Client,
    ) -> Result<Self, String> {
        let named = |error: &dyn std::fmt::Display| format!("webhook {number}: {error}");
        let secret =
            |secret| environment.secret(secret).map_err(|error| named(&error_chain(&error)));
        let url = secret(&settings.url)?;
        let mut headers = Vec::new();
        for (name, value) in &settings.headers {
            let header: HeaderName =
                name.parse().map_err(|_| named(&format!("`{name}` is not a valid header name")))?;
            let mut value = HeaderValue::from_str(secret(value)?.expose_secret())
                .map_err(|_| named(&format!("the header {name} contains invalid characters")))?;
            value.set_sensitive(true);
            headers.push((header, value));
        }
        Ok(Self { client, number, url, on: settings.on.clone(), headers })
    }
}

#[async_trait]
impl Notifier for Webhook {
    fn name(&self) -> String {
        format!("webhook {}", self.number)
    }

    fn wants(&self, notice: &Notice) -> bool {
        notice.is_for(&self.on)
    }

    async fn deliver(&self, notice: &Notice) -> Result<(), String> {
        let request = self.client.post(self.url.expose_secret().trim()).json(notice);
        let request =
            self.headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        post::send(request).await.map(drop)
    }
}

/// A topic of ntfy, which receives JSON (<https://docs.ntfy.sh/publish/#publish-as-json>), because
/// that allows all letters in titles.
struct Ntfy {
    client: Client,
    url: String,
    topic: String,
    token: Option<SecretString>,
    on: Vec<When>,
}

impl Ntfy {
    fn new(
        settings: &NtfySettings,
        environment: &Environment,
        client: Client,
    ) -> Result<Self, String> {
        let token = settings.token.as_ref().map(|token| environment.secret(token)).transpose();
        let token = token
            .map_err(|error| format!("ntfy topic {}: {}", settings.topic, error_chain(&error)))?;
        Ok(Self {
            client,
            url: settings.url.clone(),
            topic: settings.topic.clone(),
            token,
            on: settings.on.clone(),
        })
    }

    fn message(&self, notice: &Notice) -> Value {
        let (said, priority, tag) = match notice.event {
            When::Failure => ("failed", 5, "rotating_light"),
            When::Recovery => ("works again", 3, "white_check_mark"),
            When::Success => ("ended well", 2, "white_check_mark"),
            When::Test => ("can be heard", 3, "speaking_head"),
        };
        json!({
            "topic": self.topic,
            "title": format!("{}: {} {said}", notice.host, notice.job),
            "message": notice.message,
            "priority": priority,
            "tags": [tag, notice.job],
        })
    }
}

#[async_trait]
impl Notifier for Ntfy {
    fn name(&self) -> String {
        format!("ntfy topic {}", self.topic)
    }

    fn wants(&self, notice: &Notice) -> bool {
        notice.is_for(&self.on)
    }

    async fn deliver(&self, notice: &Notice) -> Result<(), String> {
        let request = self.client.post(&self.url).json(&self.message(notice));
        let request = match &self.token {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        };
        post::send(request).await.map(drop)
    }
}
