//! The notifiers of a config.

use std::sync::Arc;

use super::{
    Monitoring,
    chat::Chat,
    email::Email,
    notifier::{Notifier, TIMEOUT},
    ntfy::Ntfy,
    pagerduty::PagerDuty,
    post,
    telegram::Telegram,
    webhook::Webhook,
};
use crate::{ground::host::HostName, operate::config::secret::Environment};

/// The notifiers of a config. A secret that cannot be read becomes a sentence, and the other
/// notifiers are used.
pub(crate) fn notifiers(
    settings: &Monitoring,
    host: &HostName,
    environment: &Environment,
) -> (Vec<Arc<dyn Notifier>>, Vec<String>) {
    let (mut made, mut failed) = (Vec::new(), Vec::new());
    let client = match post::client(TIMEOUT) {
        Ok(client) => client,
        Err(why) => return (made, vec![why]),
    };
    let mut add = |notifier: Result<Arc<dyn Notifier>, String>| match notifier {
        Ok(notifier) => made.push(notifier),
        Err(why) => failed.push(why),
    };
    for (at, webhook) in settings.webhook.iter().enumerate() {
        add(Webhook::new(at + 1, webhook, environment, client.clone()).map(|it| Arc::new(it) as _));
    }
    for topic in &settings.ntfy {
        add(Ntfy::new(topic, environment, client.clone()).map(|it| Arc::new(it) as _));
    }
    for email in &settings.email {
        add(Email::new(email, host, environment).map(|it| Arc::new(it) as _));
    }
    for (at, chat) in settings.chat.iter().enumerate() {
        add(Chat::new(at + 1, chat, environment, client.clone()).map(|it| Arc::new(it) as _));
    }
    for chat in &settings.telegram {
        add(Telegram::new(chat, environment, client.clone()).map(|it| Arc::new(it) as _));
    }
    for (at, service) in settings.pagerduty.iter().enumerate() {
        add(PagerDuty::new(at + 1, service, environment, client.clone())
            .map(|it| Arc::new(it) as _));
    }
    (made, failed)
}
