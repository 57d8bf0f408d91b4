//! Instructions for restoring Qdrant's collections by hand.

use kaleem_dr_core::ground::language::Language;

/// With one upload per collection to the server at `url`.
pub(super) fn guide(language: Language, restored: &str, url: &str) -> String {
    let command = format!(
        "    curl -H \"api-key: $QDRANT_API_KEY\" -F 'snapshot=@{restored}/qdrant/collections/NAME.snapshot' \\\n        \
         '{url}/collections/NAME_restored/snapshots/upload?wait=true&priority=snapshot'"
    );
    match language {
        Language::En => format!(
            "The server must have the minor version recorded in the manifest, and not be older. Give each collection a new name:\n\n{command}\n\n\
             Without `priority=snapshot` the server may keep an empty collection and still report success; an upload to the name of an alias \
             overwrites the collection behind it. A collection that is sharded by key must first be created with the shard keys in `NAME.json`. \
             If there is a directory `NAME.shards` instead of a file, it was captured from a cluster: create NAME_restored with the settings, \
             shard keys and indexes in `NAME.json`, look with `GET {url}/collections/NAME_restored/cluster` which peer holds which shard, and \
             upload `NAME.shards/N.snapshot` to that peer's `/collections/NAME_restored/shards/N/snapshots/upload?wait=true&priority=snapshot`. \
             Compare the number of points with `NAME.json`, then move the aliases of `aliases.json` with one `POST {url}/collections/aliases`.\n\n\
             There is no `POST /snapshots/recover`. `kaleem-dr restore SOURCE --from FILE` restores a full snapshot \
             (`full-snapshot-*.snapshot`) while the server is running."
        ),
        Language::Ar => format!(
            "يجب أن يكون الخادم من الإصدار الفرعي المسجَّل في البيان وألا يكون أقدم منه. أعط كل مجموعة اسمًا جديدًا:\n\n{command}\n\nبدون \
             `priority=snapshot` قد يُبقي الخادم مجموعة فارغة ويجيب بالنجاح؛ والرفع إلى اسم مستعار يكتب فوق المجموعة التي يشير إليها. المجموعة \
             المقسمة بمفاتيح تُنشأ أولًا بمفاتيحها المسجَّلة في `NAME.json`. وإن وُجد مجلد `NAME.shards` بدل الملف فقد التُقطت من عنقود: أنشئ NAME_restored \
             بما في `NAME.json` من إعدادات ومفاتيح وفهارس، وانظر بالطلب `GET {url}/collections/NAME_restored/cluster` أيُّ قرين يحمل أيَّ جزء، وارفع \
             `NAME.shards/N.snapshot` إلى `/collections/NAME_restored/shards/N/snapshots/upload?wait=true&priority=snapshot` عند ذلك القرين. \
             قارن عدد النقاط بما في `NAME.json`، ثم انقل الأسماء المستعارة في \
             `aliases.json` بطلب واحد `POST {url}/collections/aliases`.\n\nلا وجود للمسار `POST /snapshots/recover`. اللقطة الكاملة \
             (`full-snapshot-*.snapshot`) يستعيدها `kaleem-dr restore SOURCE --from FILE` والخادم يعمل."
        ),
    }
}
