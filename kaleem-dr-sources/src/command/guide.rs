//! Instructions for restoring the output of a command by hand.

use kaleem_dr_core::ground::language::Language;

/// By giving the file to the restore command.
pub(super) fn guide(language: Language, file: &str, restore: &[String]) -> String {
    if restore.is_empty() {
        return match language {
            Language::En => format!("The output of the command is the file `{file}`."),
            Language::Ar => format!("خرج الأمر هو الملف `{file}`."),
        };
    }
    let command = format!(
        "    {} < {file}",
        restore.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    );
    match language {
        Language::En => format!("Give the file to the command that loads it:\n\n{command}"),
        Language::Ar => format!("مرّر الملف إلى الأمر الذي يحمّله:\n\n{command}"),
    }
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+:@%=,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}
