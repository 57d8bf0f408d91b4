//! Topics of ntfy, which receive JSON (<https://docs.ntfy.sh/publish/#publish-as-json>), because that
//! allows all letters in titles.

use async_trait::async_trait;
use reqwest::Client;
use serde_json::{Value, json};

use super::{
    NtfySettings, When,
    notice::Notice,
    notifier::{Deliver, secret},
    post,
};
use crate::operate::config::secret::{Environment, ExposeSecret as _, SecretString};

pub(super) struct Ntfy {
    client: Client,
    url: String,
    topic: String,
    token: Option<SecretString>,
}

impl Ntfy {
    pub(super) fn new(
        settings: &NtfySettings,
        environment: &Environment,
        client: Client,
    ) -> Result<Self, String> {
        let name = format!("ntfy topic {}", settings.topic);
        let token = settings.token.as_ref().map(|token| secret(&name, token, environment));
        Ok(Self {
            client,
            url: settings.url.clone(),
            topic: settings.topic.clone(),
            token: token.transpose()?,
        })
    }

    fn message(&self, notice: &Notice) -> Value {
        let (priority, tag) = match notice.event {
            When::Failure => (5, "rotating_light"),
            When::Recovery => (3, "white_check_mark"),
            When::Success => (2, "white_check_mark"),
            When::Test => (3, "speaking_head"),
        };
        json!({
            "topic": self.topic,
            "title": notice.title(),
            "message": notice.message,
            "priority": priority,
            "tags": [tag, notice.job],
        })
    }
}

#[async_trait]
impl Deliver for Ntfy {
    fn name(&self) -> String {
        format!("ntfy topic {}", self.topic)
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
