//! A source of a RabbitMQ server for a new config.

use kaleem_dr_core::operate::config::{DraftSecret, SourceDraft, secret::Environment};
use reqwest::Url;

const FORM: &str = "write the address of its management API with the name of an administrator: http://USER@127.0.0.1:15672";

pub(crate) fn draft(text: &str, _: &Environment) -> Result<SourceDraft, String> {
    let mut url: Url = text.parse().map_err(|_| FORM.to_owned())?;
    if url.password().is_some() {
        return Err("the address contains a password, which other users of this machine can read in `ps`; leave it out: it is asked for, \
                    or read from a file".into());
    }
    let user = url.username().to_owned();
    if user.is_empty() || !matches!(url.scheme(), "http" | "https") {
        return Err(FORM.to_owned());
    }
    url.set_username("").map_err(|()| FORM.to_owned())?;
    let mut draft = SourceDraft::named("rabbitmq");
    draft.keys.push(("url", url.as_str().trim_end_matches('/').into()));
    draft.keys.push(("username", user.as_str().into()));
    let question = format!("password of the RabbitMQ user {user}");
    draft.secrets.push(DraftSecret::asked("password", "pass", question));
    Ok(draft)
}
