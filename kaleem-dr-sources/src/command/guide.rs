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
    // No word has a NUL, which no command line could pass.
    let words = shlex::try_join(restore.iter().map(String::as_str)).unwrap_or_default();
    let command = format!("    {words} < {file}");
    match language {
        Language::En => format!("Give the file to the command that loads it:\n\n{command}"),
        Language::Ar => format!("مرّر الملف إلى الأمر الذي يحمّله:\n\n{command}"),
    }
}
