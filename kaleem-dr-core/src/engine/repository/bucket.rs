//! Checks that a bucket is suitable: tries each operation of a repository with a canary, and looks for rules that would delete or
//! lock its objects.

use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer};
use ulid::Ulid;

use super::store::{BasicStore as _, OpendalStore, S3Access, StoreError, StoreErrorKind, region};
use crate::ground::{
    Exit,
    diagnosis::{Diagnosis, Severity},
    error_chain,
};

/// Advice for a key that may only add objects.
const APPEND_ONLY: &str = "if that is intended, set `append_only = true` for the repository, and let another host forget and prune; otherwise \
                           give the key the right to delete and to overwrite";

/// The result of testing a bucket.
#[derive(Clone, Debug, Serialize)]
#[must_use]
#[non_exhaustive]
pub struct BucketReport {
    /// The bucket and prefix, without credentials.
    pub location: String,
    /// The steps in order. Each id is a step: `put`, `get`, `list`, `overwrite`, `conditional-put`, `delete`, `lifecycle`,
    /// `bucket-lock`.
    #[serde(serialize_with = "as_steps")]
    pub findings: Vec<Diagnosis>,
    /// True if access was denied before any object could be reached.
    pub kept_out: bool,
}

/// A diagnosis in the JSON of `r2 check`.
#[derive(Serialize)]
struct CheckedStep<'a> {
    step: &'a str,
    verdict: Severity,
    message: &'a str,
    advice: Option<&'a str>,
}

fn as_steps<S: Serializer>(findings: &[Diagnosis], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(findings.iter().map(|found| CheckedStep {
        step: found.id,
        verdict: found.severity,
        message: &found.what,
        advice: found.fix.as_deref(),
    }))
}

impl BucketReport {
    /// The exit status: 7 if access was denied, 4 if an operation failed, otherwise 0.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.kept_out {
            Exit::Unreachable
        } else if self.findings.iter().any(|finding| finding.severity == Severity::Error) {
            Exit::NotVerified
        } else {
            Exit::Done
        }
    }

    fn note(
        &mut self,
        step: &'static str,
        severity: Severity,
        message: impl Into<String>,
        advice: Option<&str>,
    ) {
        let found = Diagnosis::new(severity, step, message);
        self.findings.push(match advice {
            Some(advice) => found.fix(advice),
            None => found,
        });
    }

    fn failed(&mut self, step: &'static str, error: &StoreError) {
        self.kept_out |= error.kind().keeps_out();
        self.note(step, Severity::Error, error_chain(error), error.kind().advice());
    }
}

/// Tests a bucket with an object that is deleted afterwards, and reads its lifecycle rules. It need not contain a repository.
///
/// # Errors
/// If the access settings are invalid. Operations that the service rejects are in the report.
pub async fn check_bucket(access: &S3Access) -> Result<BucketReport, StoreError> {
    let store = OpendalStore::s3(access)?;
    let mut report =
        BucketReport { location: access.location(), findings: Vec::new(), kept_out: false };
    let canary = format!("kaleem-dr-canary-{}", Ulid::generate());
    let came = try_objects(&store, &canary, &mut report).await;
    // In any case: a write whose response was lost may have created it too.
    let deleted = store.delete(&canary).await;
    if came {
        match deleted {
            Ok(()) => match store.size(&canary).await {
                Ok(None) => report.note("delete", Severity::Ok, "an object can be deleted, and no longer exists afterwards", None),
                Ok(Some(_)) => report.note(
                    "delete",
                    Severity::Error,
                    format!("the service reported that it deleted {canary}, but still has it"),
                    Some("is there a cache or a lock rule before the bucket? forget and prune would not free anything"),
                ),
                Err(error) => report.failed("delete", &error),
            },
            Err(error) if error.kind() == StoreErrorKind::Denied => {
                report.note("delete", Severity::Warning, "the key may add objects, and not delete them", Some(APPEND_ONLY));
                report.note("delete", Severity::Warning, format!("{canary} is left in the bucket"), Some("delete it by hand"));
            }
            Err(error) => {
                report.failed("delete", &error);
                report.note("delete", Severity::Warning, format!("{canary} is left in the bucket"), Some("delete it by hand"));
            }
        }
    }
    if !report.kept_out {
        lifecycle(access, &mut report).await;
    }
    if access.is_r2() {
        report.note("bucket-lock", Severity::Information, lock_advice(&access.prefix), None);
    }
    Ok(report)
}

/// Reads a bucket's lifecycle rules without writing anything.
pub async fn check_lifecycle(access: &S3Access) -> BucketReport {
    let mut report =
        BucketReport { location: access.location(), findings: Vec::new(), kept_out: false };
    lifecycle(access, &mut report).await;
    report
}

/// Reports whether the canary was created.
async fn try_objects(store: &OpendalStore, canary: &str, report: &mut BucketReport) -> bool {
    let (first, second) =
        (Bytes::from(format!("{canary} 1\n")), Bytes::from(format!("{canary} 2\n")));
    if let Err(error) = store.write(canary, vec![first.clone()]).await {
        report.failed("put", &error);
        if error.kind() == StoreErrorKind::Denied && store.has(canary).await.is_ok() {
            let advice = "give the token \"Object Read & Write\": this one may list, but not write";
            report.note("list", Severity::Ok, "objects can be listed", Some(advice));
        }
        return false;
    }
    report.note(
        "put",
        Severity::Ok,
        "an object can be written, and the service's digest of it is right",
        None,
    );
    read_back(
        store,
        canary,
        &first,
        "get",
        "an object can be read, and is what was written",
        report,
    )
    .await;
    match store.has(canary).await {
        Ok(true) => report.note("list", Severity::Ok, "a listing has an object at once after it was written", None),
        Ok(false) => report.note(
            "list",
            Severity::Error,
            "a listing does not have an object that was just written",
            Some("the service lists late: prune would take new packs for garbage; use one that is consistent"),
        ),
        Err(error) => report.failed("list", &error),
    }
    match store.write(canary, vec![second.clone()]).await {
        Ok(()) => {
            read_back(store, canary, &second, "overwrite", "an object can be written over", report)
                .await;
        }
        Err(error)
            if matches!(error.kind(), StoreErrorKind::Denied | StoreErrorKind::Condition) =>
        {
            let message = "the key may add objects, and not overwrite them";
            report.note("overwrite", Severity::Warning, message, Some(APPEND_ONLY));
        }
        Err(error) => report.failed("overwrite", &error),
    }
    match store.write_new(canary, first).await {
        Err(error) if error.kind() == StoreErrorKind::Condition => {
            report.note(
                "conditional-put",
                Severity::Information,
                "`If-None-Match: *` is honoured: an object is not written over",
                None,
            );
        }
        Err(error) => {
            let message = format!("`If-None-Match: *` is not understood: {}", error_chain(&error));
            report.note("conditional-put", Severity::Information, message, None);
        }
        Ok(()) => {
            let message = "`If-None-Match: *` is ignored: an object was written over; nothing here relies on it";
            report.note("conditional-put", Severity::Information, message, None);
        }
    }
    true
}

async fn read_back(
    store: &OpendalStore,
    key: &str,
    wanted: &Bytes,
    step: &'static str,
    well: &str,
    report: &mut BucketReport,
) {
    match store.read(key, None).await {
        Ok(found) if found == wanted => report.note(step, Severity::Ok, well, None),
        Ok(_) => report.note(
            step,
            Severity::Error,
            "what was read is not what was just written",
            Some("is there a cache before the bucket? use the service's own endpoint"),
        ),
        Err(error) => report.failed(step, &error),
    }
}

/// The part of a prefix to which R2's bucket locks may apply.
fn lock_advice(prefix: &str) -> String {
    let below = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    let prefixes: Vec<String> = ["data/", "index/", "keys/", "snapshots/", "config"]
        .iter()
        .map(|part| format!("{below}{part}"))
        .collect();
    format!(
        "against deletion by whoever has the key, R2 bucket locks of N days on {} help; never on {below}locks/, which each run deletes. \
         N must be below the age at which forget and prune first delete (keep_daily, and the days between prunes): while an object is \
         locked, prune fails on it",
        prefixes.join(", "),
    )
}

#[derive(Debug, Deserialize)]
struct Lifecycle {
    #[serde(rename = "Rule", default)]
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Rule {
    #[serde(rename = "ID")]
    id: Option<String>,
    status: String,
    /// The form of old clients, outside of the filter.
    prefix: Option<String>,
    filter: Option<Filter>,
    expiration: Option<Expiration>,
    #[serde(default)]
    transition: Vec<Transition>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Filter {
    prefix: Option<String>,
    tag: Option<serde::de::IgnoredAny>,
    and: Option<Box<Filter>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Expiration {
    days: Option<String>,
    date: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Transition {
    storage_class: Option<String>,
}

impl Rule {
    /// Reports whether a rule applies to objects of a repository below this prefix. Ours have no tags.
    fn meets(&self, repository: &str) -> bool {
        let filter = self.filter.as_ref();
        let and = filter.and_then(|filter| filter.and.as_deref());
        if filter.is_some_and(|filter| filter.tag.is_some())
            || and.is_some_and(|and| and.tag.is_some())
        {
            return false;
        }
        let prefix = [
            filter.and_then(|filter| filter.prefix.as_deref()),
            and.and_then(|and| and.prefix.as_deref()),
        ];
        let prefix =
            prefix.into_iter().flatten().next().or(self.prefix.as_deref()).unwrap_or_default();
        let below = if repository.is_empty() { String::new() } else { format!("{repository}/") };
        self.status.eq_ignore_ascii_case("enabled")
            && (below.starts_with(prefix) || prefix.starts_with(&below))
    }

    fn expires(&self) -> Option<String> {
        let expiration = self.expiration.as_ref()?;
        let days = expiration.days.as_ref().map(|days| format!("after {days} days"));
        days.or_else(|| expiration.date.as_ref().map(|date| format!("on {date}")))
    }
}

async fn lifecycle(access: &S3Access, report: &mut BucketReport) {
    const STEP: &str = "lifecycle";
    let unread = |report: &mut BucketReport, why: String| {
        let advice =
            "look in the bucket's settings yourself: no rule may expire objects of the repository";
        report.note(
            STEP,
            Severity::Warning,
            format!("the lifecycle rules could not be read: {why}"),
            Some(advice),
        );
    };
    let asked = match region::of(access).await {
        Ok(region) => region::signed_get(access, &region, "lifecycle")
            .await
            .map_err(|(_, why)| error_chain(&*why)),
        Err(error) => Err(error_chain(&error)),
    };
    let (status, body) = match asked {
        Ok(answer) => (answer.status.as_u16(), answer.body),
        Err(why) => return unread(report, why),
    };
    if status == 404 || body.contains("NoSuchLifecycleConfiguration") {
        return report.note(STEP, Severity::Ok, "no lifecycle rule is set", None);
    }
    if status == 403 {
        return unread(report, "the key may not (R2: only \"Admin\" tokens may)".to_owned());
    }
    if status != 200 || !body.contains("<LifecycleConfiguration") {
        return unread(report, format!("the service answered {status}"));
    }
    match quick_xml::de::from_str::<Lifecycle>(&body) {
        Ok(found) => judge(&found, &access.prefix, report),
        Err(error) => unread(report, error.to_string()),
    }
}

fn judge(lifecycle: &Lifecycle, prefix: &str, report: &mut BucketReport) {
    const STEP: &str = "lifecycle";
    let before = report.findings.len();
    for rule in lifecycle.rules.iter().filter(|rule| rule.meets(prefix)) {
        let name = rule.id.as_deref().unwrap_or("(without a name)");
        if let Some(when) = rule.expires() {
            report.note(
                STEP,
                Severity::Error,
                format!(
                    "the lifecycle rule \"{name}\" deletes objects of the repository {when}: packs are shared by old and new \
                     snapshots, so expiry by age destroys the repository"
                ),
                Some("delete the rule, or limit it to a prefix without a repository; retention is what `forget` and `prune` do"),
            );
        }
        for transition in &rule.transition {
            let class = transition.storage_class.as_deref().unwrap_or("another storage class");
            let message =
                format!("the lifecycle rule \"{name}\" moves objects of the repository to {class}");
            report.note(
                STEP,
                Severity::Warning,
                message,
                Some("a restore may wait or cost; an archive class makes it fail"),
            );
        }
    }
    if report.findings.len() == before {
        report.note(STEP, Severity::Ok, "no lifecycle rule touches the repository", None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(rules: &str, prefix: &str) -> Vec<(Severity, String)> {
        let xml = format!(
            "<LifecycleConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{rules}</LifecycleConfiguration>"
        );
        let mut report =
            BucketReport { location: String::new(), findings: Vec::new(), kept_out: false };
        judge(&quick_xml::de::from_str(&xml).unwrap(), prefix, &mut report);
        report.findings.into_iter().map(|finding| (finding.severity, finding.what)).collect()
    }

    #[test]
    fn only_a_rule_that_eats_the_repository_is_an_error() {
        let rule = |status: &str, filter: &str, action: &str| {
            format!("<Rule><ID>old things</ID><Status>{status}</Status>{filter}{action}</Rule>")
        };
        let expires = "<Expiration><Days>30</Days></Expiration>";
        let on = |prefix: &str| format!("<Filter><Prefix>{prefix}</Prefix></Filter>");
        for filter in [
            on(""),
            on("restic"),
            on("restic/data/"),
            "<Filter/>".into(),
            "<Prefix>re</Prefix>".into(),
            "<Filter><And><Prefix>restic/</Prefix><ObjectSizeGreaterThan>1</ObjectSizeGreaterThan></And></Filter>".into(),
        ] {
            let found = judged(&rule("Enabled", &filter, expires), "restic");
            assert!(
                matches!(&found[..], [(Severity::Error, why)] if why.contains("old things") && why.contains("30 days")),
                "{filter}: {found:?}"
            );
        }
        for harmless in [
            rule("Disabled", &on(""), expires),
            rule("Enabled", &on("restic-old/"), expires),
            rule("Enabled", &on("logs/"), expires),
            rule("Enabled", "<Filter><Tag><Key>a</Key><Value>b</Value></Tag></Filter>", expires),
            rule(
                "Enabled",
                &on(""),
                "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>",
            ),
            rule(
                "Enabled",
                &on(""),
                "<AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload>",
            ),
            rule(
                "Enabled",
                &on(""),
                "<NoncurrentVersionExpiration><NoncurrentDays>7</NoncurrentDays></NoncurrentVersionExpiration>",
            ),
            String::new(),
        ] {
            assert!(matches!(&judged(&harmless, "restic")[..], [(Severity::Ok, _)]), "{harmless}");
        }
        let moves = rule(
            "Enabled",
            &on(""),
            "<Transition><Days>30</Days><StorageClass>GLACIER</StorageClass></Transition>",
        );
        assert!(
            matches!(&judged(&moves, "")[..], [(Severity::Warning, why)] if why.contains("GLACIER"))
        );
        // Two rules, with the harmless one first.
        let two = format!(
            "{}{}",
            rule("Enabled", &on("logs/"), expires),
            rule("Enabled", &on("restic/"), expires)
        );
        assert_eq!(judged(&two, "restic").len(), 1);
    }

    #[test]
    fn locks_are_never_to_be_locked() {
        let advice = lock_advice("restic");
        assert!(
            advice.contains("restic/data/, restic/index/")
                && advice.contains("never on restic/locks/"),
            "{advice}"
        );
    }

    #[test]
    fn the_json_of_a_report_is_of_steps_and_verdicts() {
        let mut report =
            BucketReport { location: "l".into(), findings: Vec::new(), kept_out: false };
        report.note("put", Severity::Ok, "well", None);
        report.note("get", Severity::Information, "odd", Some("look"));
        assert_eq!(
            serde_json::to_string(&report).unwrap(),
            r#"{"location":"l","findings":[{"step":"put","verdict":"ok","message":"well","advice":null},{"step":"get","verdict":"information","message":"odd","advice":"look"}],"kept_out":false}"#
        );
    }
}
