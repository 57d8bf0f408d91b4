//! Finds faults in single commands of the old scripts. A line is judged by its words; nothing is
//! run.

use super::{
    Finding,
    legacy::{CRON_FILE, CronLine, Legacy, LegacyJob},
};
use crate::operate::schedule::When;

/// Minutes below which two jobs without a lock may overlap when one is slow.
const NEAR_MINUTES: u16 = 60;

/// A command, with its place.
type Command<'a> = (&'a str, &'a str);

/// A rule for a fault of a line.
type Check = fn(&str) -> Option<Finding>;

const CHECKS: [Check; 10] = [
    qdrant_recover,
    qdrant_priority,
    oplog,
    gzip,
    prune,
    unlock,
    credentials_in_arguments,
    uri_in_arguments,
    live_database_in_tar,
    lifecycle,
];

/// All faults of an installation's lines.
pub(super) fn findings(old: &Legacy) -> Vec<Finding> {
    let commands = old.commands();
    let mut findings = Vec::new();
    for (place, line) in &commands {
        findings.extend(
            CHECKS.iter().filter_map(|check| check(line)).map(|finding| finding.at(place.as_str())),
        );
    }
    let commands: Vec<Command<'_>> =
        commands.iter().map(|(place, line)| (place.as_str(), line.as_str())).collect();
    findings.extend(syncs(&commands));
    findings.extend(secrets_in_cron(&old.cron));
    findings.extend(strangers(&old.cron));
    findings.extend(meetings(old, &commands));
    findings
}

/// Location of the off-site repository as in our config: `rclone:REMOTE:PATH` or `s3:…`. Direct
/// backups have precedence over the target of a sync.
pub(super) fn off_site(old: &Legacy) -> Option<String> {
    let commands = old.commands();
    let words = || commands.iter().flat_map(|(_, line)| words(line));
    let direct = words().find_map(|word| {
        let at = ["rclone:", "s3:"].iter().filter_map(|scheme| word.find(scheme)).min()?;
        let location = &word[at..];
        let is_whole = !location.contains('$')
            && location.split_once(':').is_some_and(|(_, rest)| rest.contains(['/', ':']));
        is_whole.then(|| location.to_owned())
    });
    direct.or_else(|| {
        let targets = commands.iter().filter_map(|(_, line)| sync_target(line));
        targets
            .filter(|target| !target.contains('$'))
            .map(|target| format!("rclone:{target}"))
            .next()
    })
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| c.is_whitespace() || "\"'();".contains(c)).filter(|word| !word.is_empty())
}

/// The target of an rclone command that transfers a directory to a remote.
fn sync_target(line: &str) -> Option<&str> {
    let mut words =
        words(line).skip_while(|word| *word != "rclone" && !word.ends_with("/rclone")).skip(1);
    words.by_ref().find(|word| matches!(*word, "sync" | "copy" | "move"))?;
    let mut places = words.filter(|word| !word.starts_with('-'));
    let (from, to) = (places.next()?, places.next()?);
    (!is_remote(from) && (is_remote(to) || to.contains('$'))).then_some(to)
}

fn is_remote(word: &str) -> bool {
    word.contains(':') && !word.starts_with('/')
}

fn qdrant_recover(line: &str) -> Option<Finding> {
    (line.contains("/snapshots/recover") && !line.contains("/collections/")).then(|| {
        Finding::error(
            "qdrant-recover",
            "it restores Qdrant by POST /snapshots/recover",
            "Qdrant has no such request: it recovers single collections only, so this restore has never worked",
            "`kaleem-dr restore qdrant` loads a full snapshot collection by collection, with its aliases",
        )
    })
}

fn qdrant_priority(line: &str) -> Option<Finding> {
    let recovers = line.contains("/collections/")
        && (line.contains("snapshots/recover") || line.contains("snapshots/upload"));
    (recovers && !line.contains("priority")).then(|| {
        Finding::error(
            "qdrant-priority",
            "it recovers a collection of Qdrant without `priority`",
            "the default is `replica`: existing data win, and a new collection stays empty although the request succeeds",
            "`kaleem-dr restore qdrant` requests `snapshot` and counts the points",
        )
    })
}

fn oplog(line: &str) -> Option<Finding> {
    let of_one = ["--db", "-d ", "MONGO_URI", "mongodb://", "mongodb+srv://"]
        .iter()
        .any(|word| line.contains(word));
    (line.contains("mongodump") && line.contains("--oplog") && of_one).then(|| {
        Finding::error(
            "mongodump-oplog",
            "it calls mongodump with --oplog for one database",
            "mongodump refuses that: `--oplog mode only supported on full dumps`",
            "no action needed: source `mongo` reads all collections as of one moment if the server supports it",
        )
    })
}

fn gzip(line: &str) -> Option<Finding> {
    (line.contains("mongodump") && line.contains("--gzip")).then(|| {
        Finding::information(
            "compressed-before-deduplication",
            "it compresses the dump before restic sees it",
            "compressed archives cannot be deduplicated, so the repository grows by a whole dump each day",
            "no action needed: source `mongo` stores collections uncompressed, and the repository compresses them",
        )
    })
}

fn prune(line: &str) -> Option<Finding> {
    let prunes = words(line).any(|word| word == "--prune") || line.contains("restic prune");
    (line.contains("restic") && prunes).then(|| {
        Finding::warning(
            "old-prune",
            "an old job prunes the repository",
            "two programs that apply their own retention to one repository delete what the other would keep",
            "disable the old jobs after the new ones are proven, as `kaleem-dr migrate --apply` does",
        )
    })
}

fn unlock(line: &str) -> Option<Finding> {
    (line.contains("restic") && line.contains("unlock") && line.contains("--remove-all")).then(
        || {
            Finding::error(
                "old-unlock",
                "an old job removes all locks of the repository",
                "locks keep a prune from deleting data that another program is writing",
                "remove the line now; locks of dead processes are removed automatically",
            )
        },
    )
}

fn credentials_in_arguments(line: &str) -> Option<Finding> {
    let words: Vec<&str> = words(line).collect();
    let of_user = |pair: &[&str]| matches!(pair[0], "-u" | "--user") && pair[1].contains(':');
    let by_option = line.contains("curl") && words.windows(2).any(of_user);
    let password = words
        .iter()
        .any(|word| word.strip_prefix("--password=").is_some_and(|value| !value.is_empty()));
    (by_option || password || has_credentials(line)).then(|| {
        Finding::error(
            "secret-in-arguments",
            "a command contains a user and a password",
            "every user of the machine can see them in `ps`, and they are stored in logs and shell histories",
            "change that password; the new config refers to a file that only root can read",
        )
    })
}

fn uri_in_arguments(line: &str) -> Option<Finding> {
    let tool = line.contains("mongodump") || line.contains("mongorestore");
    (tool && line.contains("--uri") && line.contains('$')).then(|| {
        Finding::warning(
            "uri-in-arguments",
            "the connection string, with its password, is passed as an argument",
            "while the command runs, every user of the machine can see it in `ps`",
            "no action needed: kaleem-dr reads it from a file, and calls no other program",
        )
    })
}

/// Finds `scheme://user:password@host` with a literal password.
fn has_credentials(line: &str) -> bool {
    line.split("://").skip(1).any(|rest| {
        let authority = rest.split(['/', ' ', '"', '\'', '?']).next().unwrap_or_default();
        authority
            .rsplit_once('@')
            .and_then(|(login, _)| login.split_once(':'))
            .is_some_and(|(_, password)| !password.is_empty() && !password.starts_with('$'))
    })
}

fn live_database_in_tar(line: &str) -> Option<Finding> {
    (words(line).any(|word| word == "tar") && line.contains("n8n")).then(|| {
        Finding::warning(
            "live-database-in-tar",
            "it archives n8n's database with tar while n8n runs",
            "the content of the write-ahead log is lost or torn, and without the encryption key no credential can be read",
            "source `n8n` makes a consistent copy, with the key",
        )
    })
}

fn lifecycle(line: &str) -> Option<Finding> {
    let tool =
        ["aws ", "wrangler", "rclone", "s3cmd", "mc "].iter().any(|tool| line.contains(tool));
    (tool && line.contains("lifecycle")).then(|| {
        Finding::error(
            "bucket-lifecycle",
            "it sets lifecycle rules on the bucket",
            "new snapshots refer to old objects: expiry by age destroys new backups with the old ones",
            "remove every rule that expires objects of the repository; `kaleem-dr --repo r2 r2 check` finds them",
        )
    })
}

/// Finds an `rclone sync` of a repository, and whether another command writes to its target.
fn syncs(commands: &[Command<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (place, line) in commands {
        let Some(target) = sync_target(line) else { continue };
        let direct = commands.iter().find(|(_, other)| {
            words(other).any(|word| {
                word.split_once("rclone:").is_some_and(|(_, location)| location == target)
            })
        });
        findings.push(
            match direct {
                Some((backup, _)) => Finding::error(
                    "sync-over-repository",
                    format!("`rclone` syncs the local repository to {target}, and restic backs up to the same place ({backup})"),
                    "a sync deletes what only the target has: the snapshots made there. If the two have different ids, it \
                     replaces the keys, and nothing there can be decrypted any more",
                    "remove the sync now; `kaleem-dr replicate` compares both ids first, and deletes nothing that did not come from here",
                ),
                None => Finding::warning(
                    "unordered-sync",
                    "`rclone` copies the local repository off site in arbitrary order",
                    "an index may arrive before its packs, and a deletion before the replacement: an interruption leaves a broken copy",
                    "`kaleem-dr replicate` keeps the order and checks each object's hash",
                ),
            }
            .at(*place),
        );
    }
    findings
}

/// Finds secrets that lines of cron assign.
fn secrets_in_cron(lines: &[CronLine]) -> Vec<Finding> {
    let is_secret = |name: &str| {
        ["PASS", "SECRET", "TOKEN", "API_KEY", "ACCESS_KEY"].iter().any(|part| name.contains(part))
    };
    let assigns = |line: &CronLine| {
        words(&line.command).filter_map(|word| word.split_once('=')).any(|(name, value)| {
            is_secret(name)
                && !name.ends_with("_FILE")
                && !value.is_empty()
                && !value.starts_with('$')
        })
    };
    lines
        .iter()
        .filter(|line| assigns(line))
        .map(|line| {
            Finding::error(
                "secret-in-cron",
                "a line of cron sets a secret",
                "every user can read the file, and the line is visible in `ps` and in cron's log",
                "change that secret; keep it in a file of mode 600",
            )
            .at(format!("{CRON_FILE}:{}", line.number))
        })
        .collect()
}

/// Finds lines with other commands: they would stop with the file.
fn strangers(lines: &[CronLine]) -> Vec<Finding> {
    lines
        .iter()
        .filter(|line| LegacyJob::of(&line.command).is_none())
        .map(|line| {
            Finding::warning(
                "other-job",
                "this line starts none of the old backup scripts",
                "the whole file is disabled with them, and this job would stop unnoticed",
                "move the line to its own file",
            )
            .at(format!("{CRON_FILE}:{}", line.number))
            .blocking()
        })
        .collect()
}

/// Finds jobs that may overlap, without a lock to prevent it.
fn meetings(old: &Legacy, commands: &[Command<'_>]) -> Option<Finding> {
    if commands.iter().any(|(_, line)| line.contains("flock")) {
        return None;
    }
    let jobs: Vec<_> = [
        ("local backup", LegacyJob::Backup),
        ("off-site backup", LegacyJob::OffSite),
        ("restore test", LegacyJob::RestoreTest),
    ]
    .into_iter()
    .filter_map(|(name, job)| Some((name, old.when(job)?)))
    .collect();
    let near = |at: usize, (name, when): &(&str, When)| {
        let others = jobs[..at]
            .iter()
            .filter_map(|(other, earlier)| Some((*other, when.minutes_apart(*earlier)?)));
        let pair = others
            .filter(|(_, minutes)| *minutes < NEAR_MINUTES)
            .min_by_key(|(_, minutes)| *minutes);
        pair.map(|(other, minutes)| format!("{other} and {name}: {minutes} min"))
    };
    let pairs: Vec<String> =
        jobs.iter().enumerate().filter_map(|(at, job)| near(at, job)).collect();
    (!pairs.is_empty()).then(|| {
        Finding::warning(
            "no-lock",
            format!(
                "old jobs start shortly after each other ({}), and no lock separates them",
                pairs.join(", ")
            ),
            "if the first is slow, the next reads incomplete files",
            "no action needed: the new jobs wait for each other",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(line: &str) -> Vec<&'static str> {
        CHECKS.iter().filter_map(|check| check(line)).map(|finding| finding.diagnosis.id).collect()
    }

    #[test]
    fn each_fault_is_seen_in_the_line_that_has_it_and_in_no_other() {
        for (line, code) in [
            ("curl -fsS -X POST http://127.0.0.1:6333/snapshots/recover -d '{}'", "qdrant-recover"),
            (
                "curl -X PUT http://127.0.0.1:6333/collections/c/snapshots/recover -d '{}'",
                "qdrant-priority",
            ),
            ("mongodump --db kaleem --oplog", "mongodump-oplog"),
            ("mongodump --archive=a --gzip", "compressed-before-deduplication"),
            ("restic forget --keep-daily 7 --prune", "old-prune"),
            ("restic unlock --remove-all", "old-unlock"),
            (
                "curl -u \"kaleem:supersecret\" -X POST http://127.0.0.1:15672/api/definitions",
                "secret-in-arguments",
            ),
            ("x mongodb://backup:canary@127.0.0.1/kaleem", "secret-in-arguments"),
            ("mongodump --uri=\"$MONGO_URI\"", "uri-in-arguments"),
            ("tar -czf n.tgz /home/node/.n8n", "live-database-in-tar"),
            ("aws s3api put-bucket-lifecycle-configuration", "bucket-lifecycle"),
        ] {
            assert_eq!(codes(line), [code], "{line}");
        }
        for line in [
            "curl -X POST http://127.0.0.1:6333/snapshots",
            "curl -X PUT 'http://q/collections/c/snapshots/recover' -d '{\"priority\":\"snapshot\"}'",
            "mongodump --oplog",
            "restic backup /etc",
            "restic unlock",
            "curl http://127.0.0.1:15672/api",
            "x mongodb://$USER:$PASS@h/kaleem",
            "tar -czf c.tgz /etc",
        ] {
            assert!(codes(line).is_empty(), "{line}: {:?}", codes(line));
        }
    }

    #[test]
    fn a_sync_onto_the_place_of_direct_backups_is_the_worst() {
        let sync = ("/a.sh:3", "rclone sync /backups/restic-local r2:kaleem-backup/restic");
        let direct = ("/b.sh:2", "RESTIC_REPOSITORY=\"rclone:r2:kaleem-backup/restic\"");
        let codes = |commands: &[Command<'_>]| {
            syncs(commands).iter().map(|finding| finding.diagnosis.id).collect::<Vec<_>>()
        };
        assert_eq!(codes(&[sync, direct]), ["sync-over-repository"]);
        assert_eq!(codes(&[sync]), ["unordered-sync"]);
        assert!(
            codes(&[("/a:1", "rclone sync r2:kaleem-backup/restic /tmp/restic-remote"), direct])
                .is_empty()
        );
    }
}
