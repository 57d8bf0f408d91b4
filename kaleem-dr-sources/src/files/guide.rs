//! Instructions for restoring files by hand.

use std::path::PathBuf;

use kaleem_dr_core::ground::language::Language;

/// Restores with restic to the real paths, or copies from the restored snapshot; then reloads the
/// services.
pub(super) fn guide(
    language: Language,
    restored: &str,
    roots: &[PathBuf],
    hooks: &[Vec<String>],
) -> String {
    let paths: Vec<String> = roots.iter().map(|root| format!("`{}`", root.display())).collect();
    let mut commands: Vec<String> = roots
        .iter()
        .map(|root| format!("    diff -r {restored}{} {}", root.display(), root.display()))
        .collect();
    commands.extend(
        roots
            .iter()
            .map(|root| format!("    cp -a {restored}{}/. {}/", root.display(), root.display())),
    );
    commands.extend(hooks.iter().map(|hook| format!("    {}", hook.join(" "))));
    let (paths, commands) = (paths.join(", "), commands.join("\n"));
    match language {
        Language::En => format!(
            "The snapshot contains the trees {paths} at their real paths. Review the differences, copy what you need, then check and reload the \
             services that read them:\n\n{commands}"
        ),
        Language::Ar => format!(
            "تحتوي اللقطة على الأشجار {paths} بمساراتها الحقيقية. راجع الفروق وانسخ ما تحتاج إليه، ثم افحص الخدمات التي تقرؤها وأعد تحميلها:\n\n{commands}"
        ),
    }
}
