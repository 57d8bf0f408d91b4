//! The texts of a runbook, in English and in Arabic.

use std::path::Path;

use crate::{ground::language::Language, operate::config::secret::SecretRef};

/// All fixed texts of a runbook.
pub(super) struct Words {
    language: Language,
    pub(super) title: &'static str,
    pub(super) opening: &'static str,
    pub(super) lost_machine: &'static str,
    pub(super) lost_machine_text: &'static str,
    pub(super) then_recover: &'static str,
    pub(super) repositories: &'static str,
    pub(super) name: &'static str,
    pub(super) place: &'static str,
    pub(super) password: &'static str,
    pub(super) look: &'static str,
    pub(super) stock: &'static str,
    pub(super) restore: &'static str,
    pub(super) plan: &'static str,
    pub(super) beside: &'static str,
    pub(super) older: &'static str,
    pub(super) in_place: &'static str,
    pub(super) by_hand: &'static str,
    pub(super) no_guide: &'static str,
    pub(super) everything: &'static str,
    pub(super) afterwards: &'static str,
    pub(super) afterwards_text: &'static str,
}

impl Words {
    pub(super) fn of(language: Language) -> &'static Self {
        match language {
            Language::En => &ENGLISH,
            Language::Ar => &ARABIC,
        }
    }

    pub(super) fn config(&self, path: &Path) -> String {
        let path = path.display();
        match self.language {
            Language::En => format!(
                "The commands read the config `{path}`. If it is lost, restore it from a snapshot of the files, or write a new one: \
                 a repository's location and password are enough to read everything."
            ),
            Language::Ar => format!(
                "تقرأ الأوامر ملف الإعداد `{path}`. إن فُقد فخذه من لقطات الملفات أو اكتب غيره: يكفي موضع المستودع وكلمة سره لقراءة كل شيء."
            ),
        }
    }

    pub(super) fn secret(&self, secret: &SecretRef) -> String {
        match (self.language, secret) {
            (Language::En, SecretRef::File(path)) => format!("in the file `{}`", path.display()),
            (Language::En, SecretRef::Env(name)) => format!("in the variable `{name}`"),
            (Language::En, SecretRef::Credential(name)) => {
                format!("the systemd credential `{name}`")
            }
            (Language::En, SecretRef::Command(words)) => {
                format!("printed by the command `{}`", words.join(" "))
            }
            (Language::Ar, SecretRef::Command(words)) => {
                format!("يطبعها الأمر `{}`", words.join(" "))
            }
            (Language::Ar, SecretRef::File(path)) => format!("في الملف `{}`", path.display()),
            (Language::Ar, SecretRef::Env(name)) => format!("في المتغير `{name}`"),
            (Language::Ar, SecretRef::Credential(name)) => format!("اعتماد systemd ‏`{name}`"),
        }
    }

    pub(super) fn mirror_of(&self, of: &str) -> String {
        match self.language {
            Language::En => format!("mirror of {of}"),
            Language::Ar => format!("مرآة {of}"),
        }
    }

    pub(super) fn new_machine_from(&self, repository: &str) -> String {
        match self.language {
            Language::En => format!("From the repository `{repository}`:"),
            Language::Ar => format!("من المستودع `{repository}`:"),
        }
    }

    pub(super) fn from(&self, repository: &str) -> String {
        match self.language {
            Language::En => {
                format!("From the repository `{repository}`, each source next to the live data:")
            }
            Language::Ar => format!("من المستودع `{repository}`، كل مصدر إلى جانب ما هو موجود:"),
        }
    }

    pub(super) fn lost(&self, of: &str, mirror: &str) -> String {
        match self.language {
            Language::En => format!(
                "If the repository `{of}` itself is lost, restore it from its mirror `{mirror}`, object by object; no password is needed:"
            ),
            Language::Ar => format!(
                "إذا ضاع المستودع `{of}` نفسه فأعده من مرآته `{mirror}` كائنًا كائنًا، دون حاجة إلى كلمة سر:"
            ),
        }
    }
}

const ENGLISH: Words = Words {
    language: Language::En,
    title: "How to restore everything",
    opening: "These snapshots were made by kaleem-dr in standard restic repositories. You can restore everything with kaleem-dr, which \
              compares what it restored with what was captured; or with [restic](https://restic.net) 0.14 or newer and each service's own tools. \
              `.kaleem-dr/manifest.json` in each snapshot lists every artifact with its length and SHA-256, the server's version and the \
              moment of the data.",
    lost_machine: "The machine is lost",
    lost_machine_text: "Install kaleem-dr and the servers on a new machine. Write the password of a repository, and the key of its bucket, into files with mode 600. \
                        `bootstrap` writes the config that this machine had, and the secrets: it opens the sealed ones with `--passphrase-file`, takes others from \
                        `--secret KEY=FILE`, or asks for them.",
    then_recover: "Then recover everything: the first command shows the plan, the second asks once and compares all that it restored. If it is interrupted or leaves \
                   something to do, run it again.",
    repositories: "Repositories",
    name: "repository",
    place: "location",
    password: "password",
    look: "List what exists, and how old it is:",
    stock: "The same with restic alone; there is one snapshot for each source and run:",
    restore: "With kaleem-dr:",
    plan: "shows the plan; writes nothing",
    beside: "newest point, next to the live data, compared",
    older: "an older one; `kaleem-dr points` lists them",
    in_place: "overwrites the live data, after a confirmation",
    by_hand: "By hand:",
    no_guide: "By hand: restore the snapshot with restic as above; its manifest lists the content.",
    everything: "Everything",
    afterwards: "Afterwards",
    afterwards_text: "Check that the repository is undamaged, that a new backup works, and that it can be restored:",
};

const ARABIC: Words = Words {
    language: Language::Ar,
    title: "كيف يُستعاد كل شيء",
    opening: "أنشأ kaleem-dr هذه اللقطات في مستودعات restic قياسية. يمكن استعادة كل شيء بواسطة kaleem-dr الذي يقارن ما استعاده بما جرى نسخه، \
              أو بواسطة [restic](https://restic.net) ‏0.14 أو أحدث مع أدوات كل خدمة. يذكر الملف `.kaleem-dr/manifest.json` في كل لقطة كل محتوى بحجمه \
              وبصمته SHA-256 وإصدار الخادم واللحظة التي تمثلها البيانات.",
    lost_machine: "ضاع الخادم",
    lost_machine_text: "ثبّت kaleem-dr والخدمات على خادم جديد، واكتب كلمة سر أحد المستودعات ومفتاح البكت في ملفات بصلاحية 600. يكتب `bootstrap` ملف الإعداد الذي كان لهذا الخادم \
                        ومعه الأسرار: يفتح المختوم منها بالخيار `--passphrase-file`، ويأخذ غيرها من `--secret KEY=FILE` أو يسأل عنها.",
    then_recover: "ثم استعد كل شيء: الأمر الأول يعرض الخطة، والثاني يسأل مرة واحدة ويقارن كل ما استعاده. إن انقطع أو بقي شيء فشغّله من جديد.",
    repositories: "أين توجد النسخ",
    name: "المستودع",
    place: "الموضع",
    password: "كلمة السر",
    look: "اعرض الموجود وعمره:",
    stock: "والأمر نفسه بواسطة restic وحده؛ لكل مصدر وتشغيل لقطة:",
    restore: "بواسطة kaleem-dr:",
    plan: "ما الذي سيفعله؛ لا يكتب شيئًا",
    beside: "أحدث نقطة، إلى جانب الموجود، مع المقارنة",
    older: "نقطة أقدم؛ يعرضها `kaleem-dr points`",
    in_place: "فوق الموجود، بعد سؤال",
    by_hand: "يدويًا:",
    no_guide: "يدويًا: استعد اللقطة بواسطة restic كما سبق؛ ويذكر البيان محتواها.",
    everything: "كل شيء",
    afterwards: "بعد ذلك",
    afterwards_text: "تحقق من سلامة المستودع، ومن أن نسخًا جديدًا يعمل، ومن أنه قابل للاستعادة:",
};
