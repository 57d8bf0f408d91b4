//! Chats of Telegram, which a bot writes to (<https://core.telegram.org/bots/api#sendmessage>).

use async_trait::async_trait;
use reqwest::Client;
use serde_json::json;

use super::{
    TelegramSettings, When,
    chat::shortened,
    notice::Notice,
    notifier::{Deliver, secret},
    post,
};
use crate::operate::config::secret::{Environment, ExposeSecret as _, SecretString};

/// Limit of a message, in characters.
const LIMIT: usize = 4096;

pub(super) struct Telegram {
    client: Client,
    url: String,
    token: SecretString,
    chat: String,
}

impl Telegram {
    pub(super) fn new(
        settings: &TelegramSettings,
        environment: &Environment,
        client: Client,
    ) -> Result<Self, String> {
        let token = secret(&named(&settings.chat), &settings.token, environment)?;
        let url = settings.url.trim_end_matches('/').to_owned();
        Ok(Self { client, url, token, chat: settings.chat.clone() })
    }
}

fn named(chat: &str) -> String {
    format!("telegram chat {chat}")
}

#[async_trait]
impl Deliver for Telegram {
    fn name(&self) -> String {
        named(&self.chat)
    }

    async fn deliver(&self, notice: &Notice) -> Result<(), String> {
        let text = format!("{}\n\n{}", notice.title(), notice.message.trim());
        let message = json!({
            "chat_id": self.chat,
            "text": shortened(&text, LIMIT),
            "disable_notification": notice.event == When::Success,
            "link_preview_options": { "is_disabled": true },
        });
        let url = format!("{}/bot{}/sendMessage", self.url, self.token.expose_secret().trim());
        post::send(self.client.post(url).json(&message)).await.map(drop)
    }
}
