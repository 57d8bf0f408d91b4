//! How a MongoDB is got back by hand.

use kaleem_dr_core::ground::language::Language;

/// With mongorestore, out of mongodump's layout. `server` is where restores go.
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
        "    mongorestore --uri \"$MONGO_RESTORE_URI\" --dir {restored}/mongo --nsFrom '{first}.*' --nsTo '{first}_restored.*'\n    \
         mongorestore --uri \"$MONGO_RESTORE_URI\" --dir {restored}/mongo --drop    # over what is there"
    );
    match language {
        Language::En => format!(
            "`/mongo` holds mongodump's layout of {all}. The user needs the role `restore@admin`; `backup` alone may not write. The server is \
             {server}:\n\n{commands}\n\nThe old dumps (`mongo-*.archive.gz`) are taken by `kaleem-dr restore SOURCE --from FILE`, and by \
             `mongorestore --archive=FILE --gzip`."
        ),
        Language::Ar => format!(
            "يحوي `/mongo` قواعد {all} بتنسيق mongodump. يلزم المستخدم الدور `restore@admin`؛ فالدور `backup` وحده لا يكتب. الخادم هو {server}:\n\n\
             {commands}\n\nأما ملفات الأرشيف القديمة (`mongo-*.archive.gz`) فيستعيدها `kaleem-dr restore SOURCE --from FILE` أو \
             `mongorestore --archive=FILE --gzip`."
        ),
    }
}
