//! Channels of chat services, by their incoming webhooks.
//!
//! Forms: Slack <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>, Discord
//! <https://docs.discord.com/developers/resources/webhook#execute-webhook>, Mattermost
//! <https://developers.mattermost.com/integrate/webhooks/incoming/>, Teams
//! <https://learn.microsoft.com/power-automate/overview-adaptive-cards>.

use async_trait::async_trait;
use reqwest::Client;
use serde_json::{Value, json};

use super::{
    ChatService, ChatSettings, Severity, When,
    notice::Notice,
    notifier::{Deliver, secret},
    post,
};
use crate::operate::config::secret::{Environment, ExposeSecret as _, SecretString};

/// Limits of a message, in characters: Slack cuts longer texts, and Discord refuses them.
const SLACK: usize = 3000;
const DISCORD: usize = 4096;
const MATTERMOST: usize = 16_000;
const TEAMS: usize = 20_000;

pub(super) struct Chat {
    client: Client,
    number: usize,
    service: ChatService,
    url: SecretString,
}

impl Chat {
    pub(super) fn new(
        number: usize,
        settings: &ChatSettings,
        environment: &Environment,
        client: Client,
    ) -> Result<Self, String> {
        let url = secret(&named(settings.service, number), &settings.url, environment)?;
        Ok(Self { client, number, service: settings.service, url })
    }
}

fn named(service: ChatService, number: usize) -> String {
    let service = match service {
        ChatService::Slack => "slack",
        ChatService::Discord => "discord",
        ChatService::Mattermost => "mattermost",
        ChatService::Teams => "teams",
    };
    format!("chat {number} ({service})")
}

/// The message for a service. No part of it is taken for formatting or for a mention of people.
fn message(service: ChatService, notice: &Notice) -> Value {
    let title = notice.title();
    let text = notice.message.trim();
    match service {
        ChatService::Slack => {
            let text = shortened(&slack_text(text), SLACK - 100);
            let fallback = slack_text(&title);
            json!({
                "text": fallback,
                "attachments": [{
                    "color": format!("#{:06x}", color(notice)),
                    "blocks": [
                        { "type": "section", "text": { "type": "mrkdwn", "text": format!("*{fallback}*") } },
                        { "type": "section", "text": { "type": "mrkdwn", "text": format!("```{text}```") } },
                    ],
                }],
            })
        }
        ChatService::Discord => json!({
            "allowed_mentions": { "parse": [] },
            "embeds": [{
                "title": shortened(&title, 256),
                "description": fenced(text, DISCORD),
                "color": color(notice),
                "timestamp": notice.finished.to_string(),
            }],
        }),
        ChatService::Mattermost => json!({
            "attachments": [{
                "fallback": title,
                "title": title,
                "color": format!("#{:06x}", color(notice)),
                "text": fenced(text, MATTERMOST),
            }],
        }),
        ChatService::Teams => json!({
            "type": "message",
            "attachments": [{
                "contentType": "application/vnd.microsoft.card.adaptive",
                "contentUrl": null,
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.4",
                    "body": [
                        { "type": "TextBlock", "text": title, "weight": "Bolder", "size": "Medium", "wrap": true },
                        { "type": "TextBlock", "text": shortened(text, TEAMS), "fontType": "Monospace", "wrap": true },
                    ],
                },
            }],
        }),
    }
}

/// Red, amber, green or grey, as 0xRRGGBB.
fn color(notice: &Notice) -> u32 {
    match (notice.event, notice.severity) {
        (When::Failure, Severity::Warning) => 0xd9_8e_04,
        (When::Failure, _) => 0xc0_39_2b,
        (When::Test, _) => 0x7f_8c_8d,
        (When::Success | When::Recovery, _) => 0x2e_8b_57,
    }
}

/// Escaped as Slack requires: <https://docs.slack.dev/messaging/formatting-message-text#escaping>.
fn slack_text(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace("```", "\u{2019}\u{2019}\u{2019}")
}

/// A block of code in Markdown, of at most so many characters.
fn fenced(text: &str, limit: usize) -> String {
    let text = text.replace("```", "\u{2019}\u{2019}\u{2019}");
    format!("```\n{}\n```", shortened(&text, limit - 8))
}

/// The first characters of a text.
pub(super) fn shortened(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => text.to_owned(),
        Some(_) => text.chars().take(limit - 1).chain(['…']).collect(),
    }
}

#[async_trait]
impl Deliver for Chat {
    fn name(&self) -> String {
        named(self.service, self.number)
    }

    async fn deliver(&self, notice: &Notice) -> Result<(), String> {
        let request = self.client.post(self.url.expose_secret().trim());
        post::send(request.json(&message(self.service, notice))).await.map(drop)
    }
}
