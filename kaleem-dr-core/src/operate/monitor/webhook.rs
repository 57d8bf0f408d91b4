//! Webhooks, which receive JSON or the body of a template.

use async_trait::async_trait;
use http::{HeaderName, HeaderValue, header::CONTENT_TYPE};
use reqwest::Client;

use super::{
    WebhookSettings,
    body::Body,
    notice::Notice,
    notifier::{Deliver, secret},
    post,
};
use crate::operate::config::secret::{Environment, ExposeSecret as _, SecretString};

pub(super) struct Webhook {
    client: Client,
    number: usize,
    url: SecretString,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Option<Body>,
}

impl Webhook {
    pub(super) fn new(
        number: usize,
        settings: &WebhookSettings,
        environment: &Environment,
        client: Client,
    ) -> Result<Self, String> {
        let name = format!("webhook {number}");
        let url = secret(&name, &settings.url, environment)?;
        let mut headers = Vec::new();
        for (header, value) in &settings.headers {
            let parsed: HeaderName = header
                .parse()
                .map_err(|_| format!("{name}: `{header}` is not a valid header name"))?;
            let value = secret(&name, value, environment)?;
            let mut value = HeaderValue::from_str(value.expose_secret())
                .map_err(|_| format!("{name}: the header {header} contains invalid characters"))?;
            value.set_sensitive(true);
            headers.push((parsed, value));
        }
        let body = settings.body.as_deref().map(Body::new).transpose();
        Ok(Self {
            client,
            number,
            url,
            headers,
            body: body.map_err(|why| format!("{name}: {why}"))?,
        })
    }
}

#[async_trait]
impl Deliver for Webhook {
    fn name(&self) -> String {
        format!("webhook {}", self.number)
    }

    async fn deliver(&self, notice: &Notice) -> Result<(), String> {
        let request = self.client.post(self.url.expose_secret().trim());
        let request = match &self.body {
            None => request.json(notice),
            Some(body) => {
                let text = body.of(notice)?;
                let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
                let kind = if is_json { "application/json" } else { "text/plain; charset=utf-8" };
                // A header of the config replaces it.
                if self.headers.iter().any(|(name, _)| name == CONTENT_TYPE) {
                    request.body(text)
                } else {
                    request.header(CONTENT_TYPE, kind).body(text)
                }
            }
        };
        let request =
            self.headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        post::send(request).await.map(drop)
    }
}
