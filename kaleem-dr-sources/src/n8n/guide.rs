//! How an n8n is got back by hand.

use std::path::Path;

use kaleem_dr_core::ground::language::Language;

/// With copies into n8n's directory.
pub(super) fn guide(language: Language, restored: &str, directory: &Path) -> String {
    let directory = directory.display();
    let commands = format!(
        "    rm -f {directory}/database.sqlite-wal {directory}/database.sqlite-shm\n    cp -a {restored}/n8n/. {directory}/"
    );
    match language {
        Language::En => format!(
            "Stop n8n, put the files into its directory, give them to the user that n8n runs as, and start it with the environment it had:\n\n\
             {commands}\n\nWithout the key in `config` (or `N8N_ENCRYPTION_KEY`) no stored credential can be read."
        ),
        Language::Ar => format!(
            "أوقف n8n، وضع الملفات في مجلده، واجعل مالكها المستخدم الذي يعمل به، ثم شغّله بالبيئة نفسها:\n\n{commands}\n\nلا تُقرأ بيانات الاعتماد دون \
             مفتاح التشفير في `config` (أو `N8N_ENCRYPTION_KEY`)."
        ),
    }
}
