//! A source of n8n for a new config.

use kaleem_dr_core::operate::config::{SourceDraft, secret::Environment};

use crate::draft_path::existing;

pub(crate) fn draft(text: &str, environment: &Environment) -> Result<SourceDraft, String> {
    let path = existing(text, environment)?;
    let utf_8 = path.to_str().ok_or_else(|| format!("{} is not UTF-8", path.display()))?;
    let mut draft = SourceDraft::named("n8n");
    draft.keys.push(("directory", utf_8.into()));
    draft.paths.push(path);
    Ok(draft)
}
