//! Services of PagerDuty, by the Events API v2
//! (<https://developer.pagerduty.com/docs/send-alert-event>).

use async_trait::async_trait;
use reqwest::Client;
use serde_json::{Value, json};

use super::{
    PagerDutySettings, Severity, When,
    chat::shortened,
    notice::Notice,
    notifier::{Deliver, secret},
    post,
};
use crate::operate::config::secret::{Environment, ExposeSecret as _, SecretString};

/// Limit of a summary, in characters.
const SUMMARY: usize = 1024;

pub(super) struct PagerDuty {
    client: Client,
    number: usize,
    url: String,
    routing_key: SecretString,
}

impl PagerDuty {
    pub(super) fn new(
        number: usize,
        settings: &PagerDutySettings,
        environment: &Environment,
        client: Client,
    ) -> Result<Self, String> {
        let routing_key =
            secret(&format!("pagerduty {number}"), &settings.routing_key, environment)?;
        Ok(Self { client, number, url: settings.url.clone(), routing_key })
    }

    /// One incident a host and kind of job: failures open it, and a good end closes it.
    fn event(&self, notice: &Notice) -> Value {
        let (action, key) = match notice.event {
            When::Failure | When::Test => {
                ("trigger", format!("kaleem-dr/{}/{}", notice.host, notice.job))
            }
            When::Recovery | When::Success => {
                ("resolve", format!("kaleem-dr/{}/{}", notice.host, notice.job))
            }
        };
        let severity = match notice.severity {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        };
        json!({
            "routing_key": self.routing_key.expose_secret().trim(),
            "event_action": action,
            "dedup_key": shortened(&key, 255),
            "client": "kaleem-dr",
            "payload": {
                "summary": shortened(&notice.title(), SUMMARY),
                "source": notice.host,
                "severity": severity,
                "timestamp": notice.finished.to_string(),
                "component": "kaleem-dr",
                "class": notice.job,
                "custom_details": notice,
            },
        })
    }
}

#[async_trait]
impl Deliver for PagerDuty {
    fn name(&self) -> String {
        format!("pagerduty {}", self.number)
    }

    async fn deliver(&self, notice: &Notice) -> Result<(), String> {
        post::send(self.client.post(&self.url).json(&self.event(notice))).await.map(drop)?;
        if notice.event == When::Test {
            // A test must not leave an incident open.
            let mut event = self.event(notice);
            event["event_action"] = "resolve".into();
            post::send(self.client.post(&self.url).json(&event)).await.map(drop)?;
        }
        Ok(())
    }
}
