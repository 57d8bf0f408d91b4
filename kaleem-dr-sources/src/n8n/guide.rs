//! Instructions for restoring n8n by hand.

use std::path::Path;

use kaleem_dr_core::ground::language::Language;

/// By copying files into n8n's directory.
pub(super) fn guide(language: Language, restored: &str, directory: &Path) -> String {
    let directory = directory.display();
    let commands = format!(
        "    rm -f {directory}/database.sqlite-wal {directory}/database.sqlite-shm\n    cp -a {restored}/n8n/. {directory}/"
    );
    match language {
        Language::En => format!(
            "Stop n8n, copy the files into its directory, make its user their owner, and start it with its previous environment:\n\n\
             {commands}\n\nWithout the key in `config` (or `N8N_ENCRYPTION_KEY`) no stored credential can be read."
        ),
        Language::Ar => format!(
            "أوقف n8n، وضع الملفات في مجلده، واجعل مالكها المستخدم الذي يعمل به، ثم شغّله بالبيئة نفسها:\n\n{commands}\n\nلا تُقرأ بيانات الاعتماد دون \
             مفتاح التشفير في `config` (أو `N8N_ENCRYPTION_KEY`)."
        ),
    }
}
