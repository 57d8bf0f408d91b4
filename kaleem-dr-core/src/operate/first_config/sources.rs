//! The sources of a first config.

use std::path::Path;

use crate::operate::config::{SourceDraft, SourceKind, secret::Environment};

/// The drafts of sources, each with its kind and a name of its own.
///
/// # Errors
/// The fault of each text that is wrong.
pub(crate) fn drafts(
    texts: &[String],
    kinds: &[SourceKind],
    environment: &Environment,
) -> Result<Vec<(&'static str, SourceDraft)>, Vec<String>> {
    let (mut drafts, mut faults) = (Vec::<(&'static str, SourceDraft)>::new(), Vec::new());
    for text in texts {
        match draft(text, kinds, environment) {
            Ok((kind, mut draft)) => {
                let base = draft.name.clone();
                let mut number = 2;
                while drafts.iter().any(|(_, other)| other.name == draft.name) {
                    draft.name = format!("{base}-{number}");
                    number += 1;
                }
                drafts.push((kind, draft));
            }
            Err(why) => faults.push(format!("source {}: {why}", shown(text))),
        }
    }
    if faults.is_empty() { Ok(drafts) } else { Err(faults) }
}

fn draft(
    text: &str,
    kinds: &[SourceKind],
    environment: &Environment,
) -> Result<(&'static str, SourceDraft), String> {
    let forms = || {
        let forms = kinds.iter().filter_map(|kind| Some((kind.name(), kind.draft()?.0)));
        let forms = forms.map(|(name, form)| {
            if form.starts_with(name) { form.to_owned() } else { format!("{name}:{form}") }
        });
        format!("write one of {}", forms.collect::<Vec<_>>().join(", "))
    };
    let (word, rest) = text.split_once(':').ok_or_else(forms)?;
    // `mongodb://…` and `mongodb:mongodb://…` mean the same.
    let scheme = word.split('+').next().unwrap_or_default();
    let rest = if rest.starts_with("//") && word != "files" && word != "n8n" { text } else { rest };
    let kind = kinds.iter().find(|kind| kind.name() == scheme).ok_or_else(forms)?;
    let (_, drafting) = kind.draft().ok_or_else(forms)?;
    Ok((kind.name(), drafting(rest, environment)?))
}

/// A source's text without what might be a password.
fn shown(text: &str) -> String {
    match (text.find("//"), text.rfind('@')) {
        (Some(begin), Some(end)) if begin < end => {
            format!("{}//…{}", &text[..begin], &text[end..])
        }
        _ => text.to_owned(),
    }
}

/// The directories that a source of file trees has to leave out, because the repository is in one of them. Empty if it is elsewhere.
///
/// # Errors
/// If the repository is the tree itself, or the tree is in the repository.
pub(crate) fn excluded(draft: &SourceDraft, repository: &Path) -> Result<Vec<String>, String> {
    for path in &draft.paths {
        if path.starts_with(repository) {
            return Err(format!(
                "source {}: {} is in the repository {}; name a repository elsewhere",
                draft.name,
                path.display(),
                repository.display()
            ));
        }
        if repository.starts_with(path) {
            return Ok(vec![repository.display().to_string()]);
        }
    }
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_sources_text_is_not_repeated() {
        assert_eq!(shown("mongodb://u:canary@h/d"), "mongodb://…@h/d");
        assert_eq!(shown("files:/home"), "files:/home");
        let faults = drafts(&["mongodb://u:canary@h/d".to_owned()], &[], &Environment::default())
            .unwrap_err();
        assert!(!faults.concat().contains("canary"), "{faults:?}");
    }
}
