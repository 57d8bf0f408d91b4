//! The notifiers of a config.

use std::sync::Arc;

use super::{
    Monitoring, When,
    chat::Chat,
    email::Email,
    notifier::{Deliver, Notifier, PEOPLE, PROGRAMS, Recipient, TIMEOUT, Wanted},
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
    let mut add = |way: Result<Box<dyn Deliver>, String>, on: &[When], only, repeat_hours| match way
    {
        Ok(way) => {
            let wanted = Wanted::new(on, only, repeat_hours);
            made.push(Arc::new(Recipient { wanted, way }) as Arc<dyn Notifier>);
        }
        Err(why) => failed.push(why),
    };
    for (at, webhook) in settings.webhook.iter().enumerate() {
        let way = Webhook::new(at + 1, webhook, environment, client.clone());
        add(boxed(way), &webhook.on, &webhook.only, PROGRAMS);
    }
    for topic in &settings.ntfy {
        let way = Ntfy::new(topic, environment, client.clone());
        add(boxed(way), &topic.on, &topic.only, PEOPLE);
    }
    for email in &settings.email {
        add(boxed(Email::new(email, host, environment)), &email.on, &email.only, PEOPLE);
    }
    for (at, chat) in settings.chat.iter().enumerate() {
        let way = Chat::new(at + 1, chat, environment, client.clone());
        add(boxed(way), &chat.on, &chat.only, PEOPLE);
    }
    for chat in &settings.telegram {
        let way = Telegram::new(chat, environment, client.clone());
        add(boxed(way), &chat.on, &chat.only, PEOPLE);
    }
    for (at, service) in settings.pagerduty.iter().enumerate() {
        let way = PagerDuty::new(at + 1, service, environment, client.clone());
        add(boxed(way), &service.on, &service.only, PROGRAMS);
    }
    (made, failed)
}

fn boxed<T: Deliver + 'static>(way: Result<T, String>) -> Result<Box<dyn Deliver>, String> {
    way.map(|way| Box::new(way) as _)
}
