//! Instructions for restoring RabbitMQ's definitions by hand.

use kaleem_dr_core::ground::language::Language;

/// With one request to the management API at `url`.
pub(super) fn guide(language: Language, restored: &str, url: &str, user: &str) -> String {
    let command = format!(
        "    curl -u {user} -H 'content-type: application/json' -X POST \\\n        --data-binary @{restored}/rabbitmq/definitions.json {url}/api/definitions"
    );
    match language {
        Language::En => format!(
            "curl asks for the password, so that it is not on the command line:\n\n{command}\n\nThe server answers 204 even if it ignored a queue or \
             exchange that exists with other arguments: check afterwards, or let kaleem-dr compare. The definitions contain no messages."
        ),
        Language::Ar => format!(
            "تُطلب كلمة السر عند التنفيذ فلا تظهر في سطر الأوامر:\n\n{command}\n\nيجيب الخادم بالرمز 204 حتى إن تجاهل طابورًا أو مبدِّلًا موجودًا \
             بخصائص أخرى: تحقق بعد ذلك، أو دع kaleem-dr يقارن. الرسائل غير محفوظة."
        ),
    }
}
