//! A source of file trees for a new config.

use kaleem_dr_core::operate::config::{DraftValue, SourceDraft, secret::Environment};

use crate::draft_path::existing;

/// Directories that exist only while the machine runs.
const OF_THE_KERNEL: [&str; 4] = ["/dev", "/proc", "/run", "/sys"];

pub(crate) fn draft(text: &str, environment: &Environment) -> Result<SourceDraft, String> {
    let path = existing(text, environment)?;
    let name = path.file_name().map_or_else(|| "root".into(), |name| name.to_string_lossy());
    let mut draft = SourceDraft::named(&name);
    let utf_8 = path.to_str().ok_or_else(|| format!("{} is not UTF-8", path.display()))?;
    draft.keys.push(("paths", DraftValue::List(vec![utf_8.to_owned()])));
    if utf_8 == "/" {
        let exclude = OF_THE_KERNEL.map(str::to_owned).to_vec();
        draft.keys.push(("exclude", DraftValue::List(exclude)));
    }
    draft.paths.push(path);
    Ok(draft)
}
