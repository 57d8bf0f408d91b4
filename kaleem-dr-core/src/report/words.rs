//! The words of a proof report, in English and in Arabic.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::verify::ProofLevel;

/// A language that people read reports and runbooks in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// English.
    #[default]
    En,
    /// Arabic, written from right to left.
    Ar,
}

impl Language {
    /// Its code: `en`, `ar`.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Ar => "ar",
        }
    }

    /// Which way it is written, in HTML's words.
    #[must_use]
    pub fn direction(self) -> &'static str {
        match self {
            Self::En => "ltr",
            Self::Ar => "rtl",
        }
    }
}

impl FromStr for Language {
    type Err = UnknownLanguage;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "en" => Ok(Self::En),
            "ar" => Ok(Self::Ar),
            other => Err(UnknownLanguage(other.to_owned())),
        }
    }
}

/// A language that nothing is written in.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no language of reports; say en or ar")]
pub struct UnknownLanguage(String);

/// Everything that a report says by itself. What sources say of their data stays in English.
pub(super) struct Words {
    pub(super) title: &'static str,
    pub(super) proven: &'static str,
    pub(super) not_proven: &'static str,
    pub(super) proven_detail: &'static str,
    pub(super) not_proven_detail: &'static str,
    pub(super) host: &'static str,
    pub(super) repository: &'static str,
    pub(super) run: &'static str,
    pub(super) began: &'static str,
    pub(super) took: &'static str,
    pub(super) whole_restore: &'static str,
    pub(super) sources: &'static str,
    pub(super) source: &'static str,
    pub(super) snapshot: &'static str,
    pub(super) data_of: &'static str,
    pub(super) size: &'static str,
    pub(super) level: &'static str,
    pub(super) nothing: &'static str,
    pub(super) control: &'static str,
    pub(super) control_red: &'static str,
    pub(super) control_blind: &'static str,
    pub(super) control_none: &'static str,
    pub(super) control_meaning: &'static str,
    pub(super) restore_time: &'static str,
    pub(super) forecast: &'static str,
    pub(super) not_tried: &'static str,
    pub(super) over_time: &'static str,
    pub(super) rpo_title: &'static str,
    pub(super) rpo_meaning: &'static str,
    pub(super) rto_title: &'static str,
    pub(super) rto_meaning: &'static str,
    pub(super) limit: &'static str,
    pub(super) no_history: &'static str,
    pub(super) details: &'static str,
    pub(super) stages: &'static str,
    pub(super) stage: &'static str,
    pub(super) checked: &'static str,
    pub(super) findings: &'static str,
    pub(super) cleared: &'static str,
    pub(super) chain: &'static str,
    pub(super) chain_meaning: &'static str,
    pub(super) this_hash: &'static str,
    pub(super) previous_hash: &'static str,
    pub(super) first_of_chain: &'static str,
    pub(super) chain_whole: &'static str,
    pub(super) chain_broken: &'static str,
    pub(super) hours: &'static str,
    pub(super) seconds: &'static str,
    levels: [&'static str; 4],
}

impl Words {
    pub(super) fn of(language: Language) -> &'static Self {
        match language {
            Language::En => &ENGLISH,
            Language::Ar => &ARABIC,
        }
    }

    pub(super) fn level(&self, level: ProofLevel) -> &'static str {
        match level {
            ProofLevel::Stored => self.levels[0],
            ProofLevel::Readable => self.levels[1],
            ProofLevel::Parsed => self.levels[2],
            ProofLevel::Restored => self.levels[3],
        }
    }
}

const ENGLISH: Words = Words {
    title: "Proof of restore",
    proven: "Proven",
    not_proven: "Not proven",
    proven_detail: "Every source below was brought to the level asked for, and found equal to what was captured.",
    not_proven_detail: "At least one source could not be proven. What is red below must be looked at before anyone relies on these backups.",
    host: "Host",
    repository: "Repository",
    run: "Drill",
    began: "Began",
    took: "Took",
    whole_restore: "Restoring everything took",
    sources: "Sources",
    source: "Source",
    snapshot: "Snapshot",
    data_of: "Data of",
    size: "Size",
    level: "What holds",
    nothing: "nothing",
    control: "Negative control",
    control_red: "red, as it must be",
    control_blind: "NOT SEEN: the drill itself is broken",
    control_none: "none",
    control_meaning: "After the comparison the restored copy was damaged on purpose and compared again. A comparison that does not see that proves nothing.",
    restore_time: "Restored in",
    forecast: "Forecast",
    not_tried: "could not be tried",
    over_time: "Over time",
    rpo_title: "RPO: age of the newest proven data",
    rpo_meaning: "Each drop is a proof; between proofs, what would be lost grows.",
    rto_title: "RTO: time a restore took",
    rto_meaning: "Each point is a restore into a scratch target, with its comparison.",
    limit: "limit",
    no_history: "Nothing has been measured yet.",
    details: "What was looked at",
    stages: "Where the time went",
    stage: "Stage",
    checked: "Found well",
    findings: "Findings",
    cleared: "Cleared up after drills that were killed",
    chain: "Chain of reports",
    chain_meaning: "Each report holds the SHA-256 of the one before it, so none can be changed or taken out without all that follow.",
    this_hash: "This report",
    previous_hash: "The one before",
    first_of_chain: "none: this is the first",
    chain_whole: "The chain up to this report is whole; its length:",
    chain_broken: "THE CHAIN IS BROKEN:",
    hours: "hours",
    seconds: "seconds",
    levels: ["stored", "readable", "parsed", "restored and equal"],
};

const ARABIC: Words = Words {
    title: "إثبات الاستعادة",
    proven: "مُثبَت",
    not_proven: "غير مُثبَت",
    proven_detail: "وصل كل مصدر أدناه إلى المستوى المطلوب، ووُجد مطابقًا لما جرى نسخه.",
    not_proven_detail: "تعذّر إثبات مصدر واحد على الأقل. يجب فحص ما هو بالأحمر أدناه قبل الاعتماد على هذه النسخ.",
    host: "الخادم",
    repository: "المستودع",
    run: "التمرين",
    began: "البداية",
    took: "المدة",
    whole_restore: "استغرقت استعادة الكل",
    sources: "المصادر",
    source: "المصدر",
    snapshot: "اللقطة",
    data_of: "بيانات بتاريخ",
    size: "الحجم",
    level: "المستوى المُثبَت",
    nothing: "لا شيء",
    control: "الضابط السلبي",
    control_red: "أحمر، كما يجب",
    control_blind: "لم يُلاحَظ: التمرين نفسه معطوب",
    control_none: "لا يوجد",
    control_meaning: "بعد المقارنة أُتلفت النسخة المستعادة عمدًا في موضع واحد ثم قورنت من جديد. مقارنةٌ لا ترى ذلك لا تثبت شيئًا.",
    restore_time: "مدة الاستعادة",
    forecast: "المتوقع",
    not_tried: "تعذّرت تجربته",
    over_time: "عبر الزمن",
    rpo_title: "نقطة الاستعادة (RPO): عمر أحدث بيانات مُثبَتة",
    rpo_meaning: "كل هبوط إثبات؛ وبين الإثباتات يزداد ما قد يضيع.",
    rto_title: "زمن الاستعادة (RTO): المدة المقيسة",
    rto_meaning: "كل نقطة استعادة إلى هدف مؤقت مع مقارنتها.",
    limit: "الحد",
    no_history: "لم يُقَس شيء بعد.",
    details: "ما جرى فحصه",
    stages: "أين ذهب الوقت",
    stage: "المرحلة",
    checked: "وُجد سليمًا",
    findings: "الملاحظات",
    cleared: "أُزيلت بقايا تمارين قُطعت",
    chain: "سلسلة التقارير",
    chain_meaning: "يحمل كل تقرير بصمة SHA-256 للتقرير السابق، فلا يمكن تغيير تقرير أو نزعه دون تغيير كل ما بعده.",
    this_hash: "هذا التقرير",
    previous_hash: "التقرير السابق",
    first_of_chain: "لا يوجد: هذا هو الأول",
    chain_whole: "السلسلة حتى هذا التقرير سليمة؛ طولها:",
    chain_broken: "السلسلة مكسورة:",
    hours: "ساعة",
    seconds: "ثانية",
    levels: ["محفوظ", "مقروء", "سليم البنية", "مستعاد ومطابق"],
};
