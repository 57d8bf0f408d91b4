//! A source of a Qdrant server for a new config.

use kaleem_dr_core::operate::config::{DraftSecret, SourceDraft, secret::Environment};
use reqwest::Url;

pub(crate) fn draft(text: &str, _: &Environment) -> Result<SourceDraft, String> {
    let url: Url =
        text.parse().map_err(|_| "write its address: http://127.0.0.1:6333".to_owned())?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "the address contains credentials; an API key is asked for, or read from a file".into(),
        );
    }
    let mut draft = SourceDraft::named("qdrant");
    draft.keys.push(("url", text.trim_end_matches('/').into()));
    draft.secrets.push(DraftSecret::asked("api_key", "key", "API key (empty: none)").optional());
    Ok(draft)
}
