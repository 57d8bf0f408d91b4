//! What single commands of the old scripts do wrong. A line is judged by its words; nothing is run.

use super::{
    Finding,
    legacy::{CRON_FILE, CronLine, Legacy, LegacyJob},
};
use crate::operate::schedule::When;

/// Closer together than this, two jobs without a lock meet when one is slow.
const NEAR_MINUTES: u16 = 60;

/// A place and the command that stands there.
type Command<'a> = (&'a str, &'a str);

/// One thing that a line may do wrong.
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

/// All that is wrong with the lines of an installation.
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

/// Where the off-site repository is, in our words: `rclone:REMOTE:PATH` or `s3:…`. Direct backups tell first, then a sync's target.
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

/// The target of a command that carries a directory into a remote with rclone.
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
            "Qdrant has no such request: only single collections can be recovered, so this restore has never worked",
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
            "the default is `replica`: what is there wins, and a new collection stays empty while the answer is a success",
            "`kaleem-dr restore qdrant` asks for `snapshot` and counts the points",
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
            "nothing: source `mongo` reads all collections as of one moment where the server can",
        )
    })
}

fn gzip(line: &str) -> Option<Finding> {
    (line.contains("mongodump") && line.contains("--gzip")).then(|| {
        Finding::information(
            "compressed-before-deduplication",
            "it compresses the dump before restic sees it",
            "compressed archives share nothing from day to day, so the repository grows by a whole dump each day",
            "nothing: source `mongo` stores collections plain, and the repository compresses them",
        )
    })
}

fn prune(line: &str) -> Option<Finding> {
    let prunes = words(line).any(|word| word == "--prune") || line.contains("restic prune");
    (line.contains("restic") && prunes).then(|| {
        Finding::warning(
            "old-prune",
            "an old job prunes the repository",
            "two programs with their own retention on one repository delete by rules that do not know each other",
            "switch the old jobs off once the new ones are proven; `kaleem-dr migrate --apply` does",
        )
    })
}

fn unlock(line: &str) -> Option<Finding> {
    (line.contains("restic") && line.contains("unlock") && line.contains("--remove-all")).then(
        || {
            Finding::error(
                "old-unlock",
                "an old job removes all locks of the repository",
                "locks keep a prune from deleting what another program is writing at this moment",
                "take the line out now; locks of dead programs go by themselves",
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
            "a user and a password stand in a command",
            "every user of the machine sees them in `ps`, and they end up in logs and histories",
            "change that password; the config refers to a file that only root can read",
        )
    })
}

fn uri_in_arguments(line: &str) -> Option<Finding> {
    let tool = line.contains("mongodump") || line.contains("mongorestore");
    (tool && line.contains("--uri") && line.contains('$')).then(|| {
        Finding::warning(
            "uri-in-arguments",
            "the connection string, with its password, is handed over as an argument",
            "while the command runs, every user of the machine sees it in `ps`",
            "nothing: kaleem-dr reads it from a file, and calls no other program",
        )
    })
}

/// `scheme://user:password@host`, with a password that is written out.
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
            "it puts n8n's database into a tar while n8n runs",
            "what is in the write-ahead log is lost or torn, and without the encryption key no credential can be read",
            "source `n8n` takes a consistent copy, with the key",
        )
    })
}

fn lifecycle(line: &str) -> Option<Finding> {
    let tool =
        ["aws ", "wrangler", "rclone", "s3cmd", "mc "].iter().any(|tool| line.contains(tool));
    (tool && line.contains("lifecycle")).then(|| {
        Finding::error(
            "bucket-lifecycle",
            "it sets a lifecycle of the bucket",
            "new snapshots refer to old objects: expiry by age destroys new backups with the old",
            "remove every rule that expires objects of the repository; `kaleem-dr --repo r2 r2 check` finds them",
        )
    })
}

/// An `rclone sync` of a repository, and whether something else writes where it writes.
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
                    format!("`rclone` writes the local repository over {target}, and restic backs up into the same place ({backup})"),
                    "a sync deletes what only the target has: the snapshots made there. If the two have ids of their own, it \
                     replaces the keys, and nothing there can be decrypted any more",
                    "take the sync out now; `kaleem-dr replicate` looks at both ids first and deletes nothing that did not come from here",
                ),
                None => Finding::warning(
                    "unordered-sync",
                    "`rclone` carries the local repository off site in any order",
                    "an index may arrive before what it names, and a deletion before what replaces it: a cut leaves a broken copy",
                    "`kaleem-dr replicate` keeps the order and looks at each object's hash",
                ),
            }
            .at(*place),
        );
    }
    findings
}

/// Secrets that are assigned in cron's lines.
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
                "a secret is set in a line of cron",
                "the file can be read by all, and the line stands in `ps` and in the log of cron",
                "change that secret; keep it in a file of mode 600",
            )
            .at(format!("{CRON_FILE}:{}", line.number))
        })
        .collect()
}

/// Lines that do something else: they would stop with the file.
fn strangers(lines: &[CronLine]) -> Vec<Finding> {
    lines
        .iter()
        .filter(|line| LegacyJob::of(&line.command).is_none())
        .map(|line| {
            Finding::warning(
                "other-job",
                "this line starts none of the old backup scripts",
                "the whole file is switched off with them, and this job would stop unseen",
                "move the line to a file of its own",
            )
            .at(format!("{CRON_FILE}:{}", line.number))
            .blocking()
        })
        .collect()
}

/// Jobs that may meet, with no lock to keep them apart.
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
                "old jobs begin close to each other ({}), and no lock keeps them apart",
                pairs.join(", ")
            ),
            "when the first is slow, the next works on what is half written",
            "nothing: our jobs wait for each other",
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
