//! How files are got back by hand.

use std::path::PathBuf;

use kaleem_dr_core::ground::language::Language;

/// With restic to their real paths, or out of the restored snapshot; then the services that read them.
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
            "The trees {paths} lie in the snapshot at their real paths. Look at the differences, copy what is wanted, then check and reload the \
             services that read them:\n\n{commands}"
        ),
        Language::Ar => format!(
            "توجد الأشجار {paths} في اللقطة بمساراتها الحقيقية. انظر إلى الفروق وانسخ المطلوب، ثم افحص الخدمات التي تقرؤها وأعد تحميلها:\n\n{commands}"
        ),
    }
}
