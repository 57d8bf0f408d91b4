//! Who is notified of the ends of jobs: the seam, and webhooks and ntfy behind it.

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

/// Longest wait for one answer.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// The end of a job, as a notifier receives it; as JSON, it is what a webhook receives. Secrets are removed from its texts.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Notice {
    /// `failure`, `success`, `recovery` or `test`.
    pub event: When,
    /// The job's word, as in [`crate::engine::ledger::EventKind::word`].
    pub job: String,
    /// The host that it ran on.
    pub host: String,
    /// The run's id; `None` for a job that did not run.
    pub run: Option<String>,
    /// How it ended.
    pub exit: Exit,
    /// The same as an exit status.
    pub exit_code: u8,
    /// When it began; `None` for a job that did not run.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Timestamp,
    /// How each source, or mirror, ended.
    pub sources: Vec<NoticePart>,
    /// A few lines for a person.
    pub message: String,
}

/// The end of one source of a job, or of one mirror.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct NoticePart {
    /// Its name in the config.
    pub source: String,
    /// Its exit status.
    pub exit_code: u8,
    /// Why it did not end well; `None` where it did.
    pub message: Option<String>,
}

impl Notice {
    /// Whether someone who asked for these events receives it. A test is received by all, and a recovery is a success too.
    #[must_use]
    pub fn is_for(&self, on: &[When]) -> bool {
        match self.event {
            When::Test => true,
            When::Recovery => on.contains(&When::Recovery) || on.contains(&When::Success),
            event => on.contains(&event),
        }
    }
}

/// Someone who is notified of the ends of jobs. A program that embeds the library adds its own with
/// [`Site::with_notifier`](crate::Site::with_notifier).
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Its name for logs and for `notify test`; never an address that is a secret.
    fn name(&self) -> String;

    /// Whether it wants this notice; all of them unless it says otherwise.
    fn wants(&self, _notice: &Notice) -> bool {
        true
    }

    /// Delivers a notice. A delivery that takes longer than half a minute is given up, so that it never holds up a job for long.
    ///
    /// # Errors
    /// Why it was not delivered, as a sentence without a secret. That is logged and fails no job.
    async fn deliver(&self, notice: &Notice) -> Result<(), String>;
}

/// Notifies one of them, if it wants the notice.
pub(crate) async fn notify(notifier: &dyn Notifier, notice: &Notice) -> Option<Delivery> {
    if !notifier.wants(notice) {
        return None;
    }
    let delivered = tokio::time::timeout(post::longest(TIMEOUT), notifier.deliver(notice)).await;
    let error = delivered.unwrap_or_else(|_| Err("it did not answer in time".to_owned())).err();
    Some(Delivery { recipient: notifier.name(), error })
}

/// The notifiers of a config. A secret that cannot be read is a sentence, and leaves the others as they are.
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

/// An address that gets JSON.
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
                name.parse().map_err(|_| named(&format!("`{name}` is no name of a header")))?;
            let mut value =
                HeaderValue::from_str(secret(value)?.expose_secret()).map_err(|_| {
                    named(&format!("the header {name} has characters that none may have"))
                })?;
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

/// A topic of ntfy, notified in its JSON form (<https://docs.ntfy.sh/publish/#publish-as-json>), which takes any letters in titles.
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
