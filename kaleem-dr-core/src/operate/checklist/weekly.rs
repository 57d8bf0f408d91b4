//! Weekly: the other repositories are complete, nothing failed, nothing accumulates.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use super::{Answer, ChecklistLine, Inspection, Known, listed};
use crate::{
    engine::{
        ledger::{EventKind, Ledger, LedgerError, PastEvent},
        repository::Location,
    },
    ground::{Exit, error_chain, moment::moment, size::size},
    operate::{config::RepositorySettings, job::Freshness},
};

const WEEK: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Maximum number of failures to list.
const MOST_LISTED: usize = 20;
/// Maximum wait for the listing of another repository.
const LISTING_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum growth factor of a staged file within a week.
const GROWTH: u64 = 2;

pub(super) async fn lines(job: &Inspection, known: &Known) -> Vec<ChecklistLine> {
    vec![
        elsewhere(job, known).await.line(
            "snapshots-elsewhere",
            "The newest snapshot of each source is in every other repository",
            "أحدث لقطة لكل مصدر موجودة في كل مستودع آخر",
        ),
        failures(known).line(
            "no-failures",
            "No backup and no replication failed in the last seven days",
            "لم يفشل أي نسخ احتياطي أو مزامنة في الأيام السبعة الأخيرة",
        ),
        staged(job, known.now).line(
            "staged-files",
            "Staged files do not accumulate",
            "لا يوجد تراكم غير مبرر للملفات المرحلية",
        ),
    ]
}

async fn elsewhere(job: &Inspection, known: &Known) -> Answer {
    let mut answer = Answer::new();
    let newest = match known.newest(job) {
        Ok(newest) => newest,
        Err(why) => {
            answer.untold(&format!("the content of repository {}", job.primary), &why);
            return answer;
        }
    };
    for source in newest.iter().filter(|source| source.snapshot.is_none()) {
        answer.against(format!(
            "{} has no snapshot in repository {} itself",
            source.source, job.primary
        ));
    }
    let others: Vec<_> =
        job.config.settings.repository.iter().filter(|(name, _)| **name != job.primary).collect();
    if others.is_empty() {
        answer.against("the config has no other repository");
    }
    for (name, repository) in others {
        match repository.location(&job.environment) {
            Ok(location) => {
                of_repository(job, known, &newest, (name, repository, &location), &mut answer)
                    .await;
            }
            Err(error) => {
                answer.untold(&format!("the content of repository {name}"), &error_chain(&error));
            }
        }
    }
    answer
}

async fn of_repository(
    job: &Inspection,
    known: &Known,
    newest: &[Freshness],
    (name, repository, location): (&str, &RepositorySettings, &Location),
    answer: &mut Answer,
) {
    let words = location.in_words();
    let of_mirror = repository.mirror_of.is_some();
    let held = known.ask(|ledger| {
        if of_mirror { mirrored(ledger, &words, newest) } else { copied(ledger, &words, newest) }
    });
    let mut missing: Vec<&Freshness> = match held {
        Ok(held) => {
            let held = held.unwrap_or_default();
            newest.iter().filter(|source| !held.contains(&source.source.to_string())).collect()
        }
        Err(why) => return answer.untold(&format!("the content of repository {name}"), &why),
    };
    missing.retain(|source| source.snapshot.is_some());
    if !missing.is_empty() && !of_mirror {
        // The snapshot may have come from another host, or before there was a ledger.
        match tokio::time::timeout(LISTING_TIMEOUT, listed(job, name)).await {
            Ok(Ok(there)) => missing.retain(|source| {
                !there.iter().any(|snapshot| {
                    snapshot.source().as_ref() == Some(&source.source)
                        && snapshot.host() == job.host.name
                        && Some(snapshot.time().timestamp()) >= source.time
                })
            }),
            Ok(Err(why)) => {
                return answer.untold(&format!("the content of repository {name}"), &why);
            }
            Err(_) => {
                return answer.untold(
                    &format!("the content of repository {name}"),
                    "it did not answer in time",
                );
            }
        }
    }
    if missing.is_empty() {
        let ids: Vec<String> = newest
            .iter()
            .filter_map(|source| Some(format!("{} {}", source.source, source.snapshot?.short())))
            .collect();
        answer.for_it(format!("{name} has {}", ids.join(", ")));
    }
    for source in missing {
        let id = source.snapshot.map(|id| id.short()).unwrap_or_default();
        answer.against(format!("{name} does not have {id} of {}", source.source));
    }
}

/// The sources whose newest snapshot a mirror holds. A pass records objects before it copies them,
/// so a successful pass after the snapshot is required too.
fn mirrored(
    ledger: &Ledger,
    mirror: &str,
    newest: &[Freshness],
) -> Result<Vec<String>, LedgerError> {
    let there = ledger.mirrored(mirror)?;
    let last = ledger.last_success(EventKind::Replicate, mirror)?;
    if !ledger.begun(mirror)?.is_empty() {
        return Ok(Vec::new());
    }
    let held = newest.iter().filter(|source| {
        source.snapshot.is_some_and(|id| there.contains(&id.to_string()))
            && last.is_some()
            && last >= source.time
    });
    Ok(held.map(|source| source.source.to_string()).collect())
}

/// The sources whose newest snapshot was copied to a repository.
fn copied(
    ledger: &Ledger,
    repository: &str,
    newest: &[Freshness],
) -> Result<Vec<String>, LedgerError> {
    let parts = ledger.newest_parts(true)?;
    let kinds = [EventKind::Backup.word(), EventKind::Copy.word()];
    let held = newest.iter().filter(|source| {
        parts.iter().any(|past| {
            kinds.contains(&past.kind.as_str())
                && past.part.source == source.source
                && past.part.repository == repository
                && past.part.snapshot.is_some()
                && Some(past.part.finished) >= source.time
        })
    });
    Ok(held.map(|source| source.source.to_string()).collect())
}

fn failures(known: &Known) -> Answer {
    let mut answer = Answer::new();
    let all = match known.ask(|ledger| ledger.events_since(Timestamp::UNIX_EPOCH)) {
        Ok(events) => events.unwrap_or_default(),
        Err(why) => {
            answer.untold("the runs", &why);
            return answer;
        }
    };
    let kinds = [EventKind::Backup.word(), EventKind::Replicate.word()];
    let (good, bad): (Vec<_>, Vec<_>) = all
        .iter()
        .filter(|event| event.finished >= known.now - WEEK)
        .filter(|event| kinds.contains(&event.kind.as_str()) && !is_before_init(event, &all))
        .partition(|event| event.exit == 0);
    if good.is_empty() && bad.is_empty() {
        answer.against("nothing ran in seven days");
    }
    if !good.is_empty() {
        answer.for_it(format!("{} jobs succeeded", good.len()));
    }
    for event in bad.iter().take(MOST_LISTED) {
        let what = format!(
            "{} {} to {} ended at {} with exit {}",
            event.kind,
            event.run,
            event.repository,
            moment(event.finished),
            event.exit
        );
        answer.against(what);
    }
    if bad.len() > MOST_LISTED {
        answer.against(format!("and {} more", bad.len() - MOST_LISTED));
    }
    answer
}

/// Reports whether a job failed because its repository was not created yet, and a later job of it succeeded.
fn is_before_init(event: &PastEvent, all: &[PastEvent]) -> bool {
    let mut good =
        all.iter().filter(|other| other.repository == event.repository && other.exit == 0);
    event.exit == Exit::NoRepository.code()
        && good.clone().next().is_some()
        && good.all(|other| other.finished > event.finished)
}

/// A file below the backup root.
struct Staged {
    path: PathBuf,
    bytes: u64,
    written: Timestamp,
}

fn staged(job: &Inspection, now: Timestamp) -> Answer {
    let mut answer = Answer::new();
    let Some(staging) = &job.config.settings.staged else {
        answer.for_it("the config stages no files");
        return answer;
    };
    for source in job.config.backup_sources().iter().filter(|source| staging.wants(source)) {
        let directory = staging.directory.join(source.as_str());
        match files(&directory) {
            Ok(files) => of_files(
                source.as_str(),
                &directory,
                &files,
                staging.keep.get() as usize,
                now,
                &mut answer,
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                answer.for_it(format!("{source}: no staged file"));
            }
            Err(error) => {
                answer
                    .untold(&format!("the content of {}", directory.display()), &error.to_string());
            }
        }
    }
    answer
}

fn files(directory: &Path) -> io::Result<Vec<Staged>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        if meta.is_file() {
            let written = Timestamp::try_from(meta.modified()?).map_err(io::Error::other)?;
            files.push(Staged { path: entry.path(), bytes: meta.len(), written });
        }
    }
    files.sort_by_key(|file| file.written);
    Ok(files)
}

fn of_files(
    source: &str,
    directory: &Path,
    files: &[Staged],
    keep: usize,
    now: Timestamp,
    answer: &mut Answer,
) {
    let bytes: u64 = files.iter().map(|file| file.bytes).sum();
    let seen = format!(
        "{source}: {} files, {} in {}, {keep} are kept",
        files.len(),
        size(bytes),
        directory.display()
    );
    if files.len() > keep {
        answer.against(seen);
    } else {
        answer.for_it(seen);
    }
    let before = files
        .iter()
        .rfind(|file| now.duration_since(file.written) >= WEEK - SignedDuration::from_hours(24));
    if let (Some(before), Some(last)) = (before, files.last())
        && before.path != last.path
    {
        let grown = format!("{source}: {}, a week before {}", size(last.bytes), size(before.bytes));
        let too_much = last.bytes > before.bytes.saturating_mul(GROWTH);
        if too_much { answer.against(grown) } else { answer.for_it(grown) }
    }
}
