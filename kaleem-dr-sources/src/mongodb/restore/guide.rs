//! Instructions for restoring MongoDB by hand.

use kaleem_dr_core::ground::language::Language;

/// With mongorestore, from mongodump's layout. `server` is the target of restores.
pub(crate) fn guide(
    language: Language,
    restored: &str,
    server: &str,
    databases: &[String],
) -> String {
    let (first, all) = match databases {
        [] => ("DATABASE", "DATABASE".to_owned()),
        [first, ..] => (first.as_str(), databases.join(", ")),
    };
    let commands = format!(
        "mongorestore --uri \"$MONGO_RESTORE_URI\" --dir {restored}/mongo --nsFrom '{first}.*' --nsTo '{first}_restored.*'\n    \
         mongorestore --uri \"$MONGO_RESTORE_URI\" --dir {restored}/mongo --drop    # overwrites the live data"
    );
    match language {
        Language::En => format!(
            "`/mongo` contains {all} in mongodump's layout. The user needs the role `restore@admin`; `backup` alone has no write access. The server is \
             {server}:\n\n{commands}\n\n`kaleem-dr restore SOURCE --from FILE` and `mongorestore --archive=FILE --gzip` \
             restore the old dumps (`mongo-*.archive.gz`)."
        ),
        Language::Ar => format!(
            "يحوي `/mongo` قواعد {all} بتنسيق mongodump. يلزم المستخدم الدور `restore@admin`؛ فالدور `backup` وحده لا يكتب. الخادم هو {server}:\n\n\
             {commands}\n\nأما ملفات الأرشيف القديمة (`mongo-*.archive.gz`) فيستعيدها `kaleem-dr restore SOURCE --from FILE` أو \
             `mongorestore --archive=FILE --gzip`."
        ),
    }
}
