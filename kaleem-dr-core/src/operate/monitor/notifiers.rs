//! Webhooks and ntfy: told of ends of jobs that they want to hear of.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use reqwest::{Client, RequestBuilder};
use serde::Serialize;
use serde_json::{Value, json};

use super::{NtfySettings, Told, WebhookSettings, When, post};
use crate::{
    ground::{Exit, error_chain},
    operate::config::secret::{Environment, ExposeSecret as _, SecretString},
};

/// Longest wait for one answer.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// What is told: the JSON that a webhook gets.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Notice {
    /// `failure`, `success`, `recovery`, `test`.
    pub(crate) event: When,
    pub(crate) job: String,
    pub(crate) host: String,
    /// `None` for what did not run.
    pub(crate) run: Option<String>,
    pub(crate) exit: Exit,
    pub(crate) exit_code: u8,
    pub(crate) started: Option<Timestamp>,
    pub(crate) finished: Timestamp,
    pub(crate) sources: Vec<NoticePart>,
    pub(crate) message: String,
}

/// One source of a job, or one mirror.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct NoticePart {
    pub(crate) source: String,
    pub(crate) exit_code: u8,
    pub(crate) message: Option<String>,
}

impl Notice {
    /// Whether someone who asked for these is told.
    fn is_for(&self, on: &[When]) -> bool {
        match self.event {
            When::Test => true,
            When::Recovery => on.contains(&When::Recovery) || on.contains(&When::Success),
            event => on.contains(&event),
        }
    }
}

/// One who is told.
pub(crate) trait Notifier: Send + Sync {
    /// In words, without an address that is a secret.
    fn name(&self) -> String;
    /// The request that tells it, if it wants to hear.
    fn request(&self, client: &Client, notice: &Notice) -> Option<RequestBuilder>;
}

/// Tells one, if it wants to hear.
pub(crate) async fn tell(
    notifier: &dyn Notifier,
    client: &Client,
    notice: &Notice,
) -> Option<Told> {
    let request = notifier.request(client, notice)?;
    Some(Told { whom: notifier.name(), error: post::send(request).await.err() })
}

/// An address that gets JSON.
pub(crate) struct Webhook {
    number: usize,
    url: SecretString,
    on: Vec<When>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Webhook {
    pub(crate) fn new(
        number: usize,
        settings: &WebhookSettings,
        environment: &Environment,
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
        Ok(Self { number, url, on: settings.on.clone(), headers })
    }
}

impl Notifier for Webhook {
    fn name(&self) -> String {
        format!("webhook {}", self.number)
    }

    fn request(&self, client: &Client, notice: &Notice) -> Option<RequestBuilder> {
        let wanted = notice.is_for(&self.on);
        wanted.then(|| {
            let request = client.post(self.url.expose_secret().trim()).json(notice);
            self.headers.iter().fold(request, |request, (name, value)| request.header(name, value))
        })
    }
}

/// A topic of ntfy, told by its JSON form (<https://docs.ntfy.sh/publish/#publish-as-json>), which takes any letters in titles.
pub(crate) struct Ntfy {
    url: String,
    topic: String,
    token: Option<SecretString>,
    on: Vec<When>,
}

impl Ntfy {
    pub(crate) fn new(settings: &NtfySettings, environment: &Environment) -> Result<Self, String> {
        let token = settings.token.as_ref().map(|token| environment.secret(token)).transpose();
        let token = token
            .map_err(|error| format!("ntfy topic {}: {}", settings.topic, error_chain(&error)))?;
        Ok(Self {
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

impl Notifier for Ntfy {
    fn name(&self) -> String {
        format!("ntfy topic {}", self.topic)
    }

    fn request(&self, client: &Client, notice: &Notice) -> Option<RequestBuilder> {
        let wanted = notice.is_for(&self.on);
        wanted.then(|| {
            let request = client.post(&self.url).json(&self.message(notice));
            match &self.token {
                Some(token) => request.bearer_auth(token.expose_secret()),
                None => request,
            }
        })
    }
}
