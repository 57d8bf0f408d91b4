//! What goes to standard output: tables and sentences for people, JSON for scripts, in restic's shapes where restic has one.

mod backup;
pub mod checklist;
pub mod doctor;
pub mod drill;
pub mod migrate;
pub mod monitor;
pub mod repair;
pub mod schedule;
pub mod status;

use std::{
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    path::Path,
};

use comfy_table::{Table, presets};
use kaleem_dr_core::{
    CancellationToken,
    engine::{
        ledger::PastEvent,
        replicate::{Count, MirrorReport, RepairReport},
        repository::{
            BucketReport, CheckReport, CopyReport, ForgetReport, KeyId, KeyInfo, LockVerdict, PruneReport, Repository,
            RepositoryStats, Rewritten, Snapshot, StandingLock, Verdict,
        },
        source::Probe,
    },
    ground::{Exit, ProofLevel, SourceName},
    jiff::{Timestamp, tz::TimeZone},
    operate::tripwire::{Alarm, RecordedAlarm},
    recovery::{
        point::{Origin, PointReader},
        points::RecoveryPoint,
        restore::FilesReport,
        source::{Change, RestorePlan, RestoreReport},
        verify::VerifyReport,
    },
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    args::Consent,
    context::Loaded,
    failure::{self, Failure},
};

pub use kaleem_dr_core::operate::report::size;

pub use self::backup::backup;

/// Whether it could be printed.
pub type Printed = Result<(), Failure>;

pub fn line(text: &str) -> Printed {
    match writeln!(io::stdout().lock(), "{text}") {
        // Whoever read has seen enough (`| head`); the exit status still tells how it ended.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

fn document(value: &impl Serialize) -> Printed {
    line(&serde_json::to_string(value)?)
}

/// Errors go to standard error: a sentence and what to do, or restic's `exit_error`.
pub fn failure(failure: &Failure, json: bool) {
    let code = failure.exit.code();
    let text = if json {
        json!({ "message_type": "exit_error", "code": code, "message": failure.message, "advice": failure.advice }).to_string()
    } else {
        let advice = failure.advice.as_ref().map(|advice| format!("\n  {advice}")).unwrap_or_default();
        format!("error: {}{advice}", failure.message)
    };
    // Standard error may be closed; the exit status still tells.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Asks before something is lost. Without a terminal, only `--yes` is a yes.
pub async fn consent(consent: Consent, question: &str, cancel: &CancellationToken, show: impl FnOnce() -> Printed) -> Printed {
    if consent.yes {
        return Ok(());
    }
    let refused = |why: &str| {
        let mut failure = Failure::new(Exit::Refused, why);
        failure.advice = Some("--dry-run shows what would be done; --yes does it without asking".into());
        failure
    };
    if !io::stdin().is_terminal() {
        return Err(refused("nothing was done: there is nobody to ask, and --yes was not given"));
    }
    show()?;
    write!(io::stderr().lock(), "{question} [y/N] ")?;
    let reading = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).map(|_| answer)
    });
    // The thread that reads goes on until the process ends; nobody waits for it.
    let answer = cancel.run_until_cancelled(reading).await.ok_or_else(Failure::cancelled)?.map_err(io::Error::from)??;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(refused("nothing was done")) }
}

fn table<const N: usize>(head: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head);
    table
}

fn age(seconds: i64) -> String {
    match seconds {
        s if s < 120 => format!("{s} s"),
        s if s < 7200 => format!("{} min", s / 60),
        s if s < 172_800 => format!("{} h", s / 3600),
        s => format!("{} d", s / 86_400),
    }
}

/// Locks that go, or went, and those that stay.
pub fn locks(going: &[StandingLock], staying: &[StandingLock], done: bool, json: bool) -> Printed {
    if json {
        return document(&json!({ "message_type": "locks", "removed": done, "stale": going, "held": staying }));
    }
    if going.is_empty() && staying.is_empty() {
        return line("the repository has no locks");
    }
    let mut rows = table(["", "lock", "holder", "written", "known of it"]);
    let what = if done { "removed" } else { "to remove" };
    for (mark, lock) in going.iter().map(|lock| (what, lock)).chain(staying.iter().map(|lock| ("stays", lock))) {
        let id = lock.object.rsplit('/').next().unwrap_or_default();
        let written = lock.age_seconds.map(|seconds| format!("{} ago", age(seconds))).unwrap_or_default();
        rows.add_row([mark, &id[..8.min(id.len())], &lock.holder, &written, verdict(lock)]);
    }
    line(&rows.to_string())
}

fn verdict(lock: &StandingLock) -> &'static str {
    match lock.verdict {
        LockVerdict::Running => "its process runs on this machine",
        LockVerdict::Dead => "its process has ended",
        LockVerdict::Unknown if lock.is_stale => "not renewed for half an hour; of another machine, container or program",
        LockVerdict::Unknown => "of another machine, container or program",
        LockVerdict::Unreadable if lock.is_stale => "unreadable, and old",
        LockVerdict::Unreadable => "unreadable",
    }
}

pub fn init(repository: &Repository, json: bool) -> Printed {
    if json {
        return document(&json!({ "message_type": "initialized", "id": repository.id(), "repository": repository.location() }));
    }
    line(&format!(
        "created repository {} (format {}) at {}\nkeep its password somewhere else too: without it the backups are lost",
        &repository.id()[..10],
        repository.version(),
        repository.location()
    ))
}

pub fn mirror(report: &MirrorReport, json: bool) -> Printed {
    if json {
        return document(report);
    }
    let done = if report.dry_run { "would be " } else { "" };
    let count = |count: Count| format!("{} objects, {}", count.objects, size(count.bytes));
    line(&format!("{} -> {}", report.from, report.to))?;
    line(&format!("  {done}copied     {} ({} snapshots)", count(report.copied), report.copied_snapshots))?;
    line(&format!("  there already {}", count(report.unchanged)))?;
    if report.refused.is_none() {
        line(&format!("  {done}deleted    {} ({} snapshots)", count(report.deleted), report.deleted_snapshots))?;
    }
    if report.verified != Count::default() || !report.wrong.is_empty() {
        line(&format!("  read back     {}: each hashes to its name", count(report.verified)))?;
    }
    for wrong in &report.wrong {
        line(&format!("  DAMAGED       {wrong}"))?;
    }
    if report.lost > 0 {
        line(&format!("  LOST THERE    {} objects that earlier passes had brought; they are brought again", report.lost))?;
    }
    for key in &report.kept_keys {
        line(&format!("  kept          key {}…, which only the mirror has", key.get(..8).unwrap_or(key)))?;
    }
    if let Some(why) = &report.postponed {
        line(&format!("  deletions wait for a later pass: {why}"))?;
    }
    if let Some(since) = report.postponed_since.filter(|_| report.postponed_passes > 1) {
        line(&format!("  they have waited since {since}, in {} passes", report.postponed_passes))?;
    }
    if let Some(why) = &report.refused {
        line(&format!("  NOTHING WAS DELETED: {why}"))?;
    }
    Ok(())
}

pub fn repair(report: &RepairReport, json: bool) -> Printed {
    if json {
        return document(report);
    }
    line(&format!("{} objects ({}) are sound", report.sound.objects, size(report.sound.bytes)))?;
    let done = if report.dry_run { "could be put back" } else { "put back and read again" };
    for key in &report.repaired {
        line(&format!("{done}: {key}"))?;
    }
    for why in &report.unrepaired {
        line(&format!("NOT REPAIRED: {why}"))?;
    }
    Ok(())
}

pub fn rebuilt(repository: &str, runs: usize, json: bool) -> Printed {
    if json {
        return document(&json!({ "message_type": "rebuilt", "repository": repository, "runs": runs }));
    }
    line(&format!("{runs} runs added from {repository}"))
}

pub fn history(events: &[PastEvent], json: bool) -> Printed {
    if json {
        return document(&events);
    }
    let mut table = table(["Run", "What", "Repository", "Ended", "Took", "Exit"]);
    for event in events {
        table.add_row([
            event.run.clone(),
            event.kind.clone(),
            event.repository.clone(),
            event.finished.to_string(),
            format!("{:.1} s", event.finished.duration_since(event.started).as_secs_f64()),
            event.exit.to_string(),
        ]);
    }
    line(&table.to_string())
}

/// A unit variant as it stands in JSON.
fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn restic_snapshot(snapshot: &Snapshot) -> Value {
    let id = snapshot.id().to_string();
    json!({
        "time": snapshot.time().timestamp(),
        "paths": snapshot.paths(),
        "hostname": snapshot.host(),
        "tags": snapshot.tags(),
        "program_version": snapshot.program(),
        "id": id,
        "original": snapshot.original(),
        "short_id": snapshot.id().short(),
        "source": snapshot.source(),
        "run": snapshot.run(),
        "size_bytes": snapshot.size_bytes(),
        "added_bytes": snapshot.added_bytes(),
    })
}

pub fn snapshots(snapshots: &[Snapshot], json: bool) -> Printed {
    if json {
        return document(&snapshots.iter().map(restic_snapshot).collect::<Vec<_>>());
    }
    let now = Timestamp::now();
    let mut rows = table(["snapshot", "time", "host", "source", "run", "size", "added", "paths"]);
    for snapshot in snapshots {
        let paths: Vec<String> = snapshot.paths().iter().map(|path| path.display().to_string()).collect();
        let marks = [
            (snapshot.is_whole(), " (incomplete)"),
            (!snapshot.is_pinned(), " (pinned)"),
            (!snapshot.is_of_the_future(now), " (DATED IN THE FUTURE)"),
        ];
        let mark: String = marks.into_iter().filter(|(is_usual, _)| !is_usual).map(|(_, mark)| mark).collect();
        rows.add_row([
            snapshot.id().short(),
            snapshot.time().strftime("%Y-%m-%d %H:%M:%S").to_string(),
            snapshot.host().to_owned(),
            snapshot.source().map_or_else(|| "-".to_owned(), |source| format!("{source}{mark}")),
            snapshot.run().map_or_else(|| "-".to_owned(), |run| run.to_string()),
            snapshot.size_bytes().map(size).unwrap_or_default(),
            snapshot.added_bytes().map(size).unwrap_or_default(),
            paths.join(" "),
        ]);
    }
    line(&rows.to_string())?;
    line(&format!("{} snapshots", snapshots.len()))
}

pub fn points(points: &[RecoveryPoint], json: bool) -> Printed {
    if json {
        let points: Vec<Value> = points
            .iter()
            .map(|point| {
                let mut value = serde_json::to_value(point)?;
                value["complete"] = point.is_complete().into();
                Ok(value)
            })
            .collect::<Result<_, serde_json::Error>>()?;
        return document(&points);
    }
    let mut rows = table(["run", "time", "host", "sources", ""]);
    for point in points {
        let sources: Vec<&str> = point.snapshots.keys().map(SourceName::as_str).collect();
        let missing: Vec<&str> = point.missing.iter().map(SourceName::as_str).collect();
        let state = match (point.is_of_the_future, missing.is_empty()) {
            (true, _) => "DATED IN THE FUTURE".to_owned(),
            (false, true) => "complete".to_owned(),
            (false, false) => format!("lacks {}", missing.join(" ")),
        };
        rows.add_row([
            point.run.to_string(),
            point.time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            point.host.clone(),
            sources.join(" "),
            state,
        ]);
    }
    line(&rows.to_string())
}

pub fn plan(plan: &RestorePlan, point: &PointReader, json: bool) -> Printed {
    if json {
        let mut value = serde_json::to_value(plan)?;
        value["message_type"] = "plan".into();
        match point.origin() {
            Origin::Snapshot(reader) => value["snapshot_id"] = reader.snapshot().id().to_string().into(),
            Origin::File(file) => value["file"] = file.path.display().to_string().into(),
        }
        return document(&value);
    }
    let manifest = point.manifest();
    let origin = match point.origin() {
        Origin::Snapshot(reader) => format!("snapshot {}", reader.snapshot().id().short()),
        Origin::File(file) => file.path.display().to_string(),
    };
    let host = plan.origin.as_ref().map_or_else(String::new, |origin| format!(", host {},", origin.host));
    line(&format!(
        "{origin} of {}{host} as of {} → {}",
        manifest.source,
        manifest.consistency.at.strftime("%Y-%m-%d %H:%M:%S UTC"),
        plan.target
    ))?;
    for action in &plan.actions {
        let change = match action.change {
            Change::Create => "create",
            Change::Overwrite => "OVERWRITE",
            Change::Merge => "merge",
            Change::Leave => "leave",
            Change::Remove => "REMOVE",
            Change::Conflict => "CONFLICT",
        };
        let items = action.items.map(|items| format!(", {items} items")).unwrap_or_default();
        let bytes = action.size_bytes.map(|bytes| format!(", {}", size(bytes))).unwrap_or_default();
        let why = action.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        line(&format!("  {change:9} {}{items}{bytes}{why}", action.what))?;
    }
    plan.warnings.iter().try_for_each(|warning| line(&format!("  note: {warning}")))
}

pub fn restored(report: &RestoreReport, json: bool) -> Printed {
    if json {
        let mut value = serde_json::to_value(report)?;
        value["message_type"] = "summary".into();
        value["equal"] = (report.is_equal() && report.uncompared.is_empty()).into();
        return document(&value);
    }
    line(&format!("restored {} items, {} into {}", report.items, size(report.size_bytes), report.target))?;
    report.warnings.iter().try_for_each(|warning| line(&format!("  note: {warning}")))?;
    report.compared.iter().try_for_each(|what| line(&format!("  equal: {what}")))?;
    for difference in &report.differences {
        line(&format!("  DIFFERS: {}: expected {}, found {}", difference.what, difference.expected, difference.found))?;
    }
    for hook in &report.hooks {
        let status = hook.status.map_or_else(|| "did not run".to_owned(), |status| format!("ended with {status}"));
        line(&format!("  after the restore: {} {status}", hook.command.join(" ")))?;
        hook.output.lines().try_for_each(|text| line(&format!("    {text}")))?;
    }
    for uncompared in &report.uncompared {
        line(&format!("  NOT COMPARED: {}: {}", uncompared.what, uncompared.why))?;
    }
    line(match (report.is_equal(), report.uncompared.is_empty()) {
        (true, true) => "it is equal to what was captured",
        (true, false) => "what was compared is equal to what was captured; the rest was NOT compared",
        (false, _) => "it is NOT equal to what was captured",
    })
}

pub fn exported(path: &Path, size_bytes: u64, point: &PointReader, json: bool) -> Printed {
    if json {
        return document(
            &json!({ "message_type": "summary", "path": path, "size_bytes": size_bytes, "run": point.manifest().run }),
        );
    }
    line(&format!("wrote {} of {} as {}", size(size_bytes), point.manifest().source, path.display()))
}

pub fn verified(reports: &[VerifyReport], json: bool) -> Printed {
    for report in reports {
        if json {
            let mut value = serde_json::to_value(report)?;
            value["message_type"] = "verification".into();
            value["is_proven"] = report.is_proven().into();
            document(&value)?;
            continue;
        }
        if let Some(untried) = &report.error {
            line(&format!("NOT VERIFIED: {}", untried.why))?;
            continue;
        }
        let of = report.source.as_ref().map_or_else(String::new, |source| format!(" of {source}"));
        let proven = report.proven.map_or("NOTHING", ProofLevel::as_str);
        let wanted = match report.held {
            _ if report.is_proven() => String::new(),
            Some(held) => format!("; what is there is {held}, but the point is incomplete"),
            None => format!("; {} was asked for", report.wanted),
        };
        line(&format!("{}{of}: {proven} is proven{wanted}, in {:.1} s", report.point, report.seconds))?;
        report.checked.iter().try_for_each(|what| line(&format!("  {what}")))?;
        report.findings.iter().try_for_each(|finding| line(&format!("  {finding}")))?;
    }
    Ok(())
}

pub fn files(report: &FilesReport, json: bool) -> Printed {
    if json {
        return document(&json!({
            "message_type": "summary",
            "files_restored": report.files + report.links,
            "total_files": report.files + report.links,
            "total_bytes": report.size_bytes,
            "bytes_restored": report.size_bytes,
            "directories": report.directories,
            "others": report.others,
            "files_verified": report.verified,
            "problems": report.problems,
            "more_problems": report.more_problems,
            "notes": report.notes,
            "left_to_root": report.roots_only,
            "more_notes": report.more_notes,
        }));
    }
    let verified = if report.verified > 0 { format!("; {} read back and equal", report.verified) } else { String::new() };
    line(&format!(
        "{} files, {} directories, {} others, {}{verified}",
        report.files + report.links,
        report.directories,
        report.others,
        size(report.size_bytes)
    ))?;
    report.notes.iter().try_for_each(|note| line(&format!("  note: {}: {}", note.path, note.why)))?;
    report.left_to_root().try_for_each(|note| line(&format!("  note: {note}")))?;
    if report.more_notes > 0 {
        line(&format!("  note: {} more like these", report.more_notes))?;
    }
    report.problems.iter().try_for_each(|problem| line(&format!("  FAILED: {}: {}", problem.path, problem.why)))?;
    if report.more_problems > 0 {
        line(&format!("  FAILED: {} more like these", report.more_problems))?;
    }
    Ok(())
}

pub fn forget(report: &ForgetReport, json: bool) -> Printed {
    if json {
        let groups: Vec<Value> = report
            .groups
            .iter()
            .map(|group| {
                json!({
                    "tags": null,
                    "host": group.host,
                    "source": group.of,
                    "paths": group.keep.first().map(|keep| keep.snapshot.paths()),
                    "keep": group.keep.iter().map(|keep| restic_snapshot(&keep.snapshot)).collect::<Vec<_>>(),
                    "remove": group.remove.iter().map(restic_snapshot).collect::<Vec<_>>(),
                    "reasons": group.keep.iter().map(|keep| json!({ "snapshot": restic_snapshot(&keep.snapshot), "matches": keep.reasons })).collect::<Vec<_>>(),
                })
            })
            .collect();
        return document(&groups);
    }
    let would = if report.dry_run { "would forget" } else { "forgot" };
    for group in &report.groups {
        line(&format!("{} of {}: keep {}, {would} {}", group.of, group.host, group.keep.len(), group.remove.len()))?;
        for keep in &group.keep {
            let time = keep.snapshot.time().strftime("%Y-%m-%d %H:%M:%S");
            line(&format!("  keep   {}  {time}  {}", keep.snapshot.id().short(), keep.reasons.join(", ")))?;
        }
        for snapshot in &group.remove {
            line(&format!("  forget {}  {}", snapshot.id().short(), snapshot.time().strftime("%Y-%m-%d %H:%M:%S")))?;
        }
    }
    if report.of_other_hosts > 0 {
        line(&format!("{} snapshots of other hosts were left alone (--host names one, or any)", report.of_other_hosts))?;
    }
    if report.foreign > 0 {
        line(&format!("{} snapshots of other tools were left alone (--take-over takes them too)", report.foreign))?;
    }
    Ok(())
}

pub fn forget_by_id(snapshots: &[Snapshot], dry_run: bool, json: bool) -> Printed {
    if json {
        let removed: Vec<Value> = snapshots.iter().map(restic_snapshot).collect();
        return document(&json!({ "dry_run": dry_run, "remove": removed }));
    }
    let would = if dry_run { "would forget" } else { "forgot" };
    snapshots.iter().try_for_each(|snapshot| {
        let of = snapshot.source().map_or_else(|| "another tool".to_owned(), |source| format!("source {source}"));
        let time = snapshot.time().strftime("%Y-%m-%d %H:%M:%S");
        line(&format!("{would} {}  {time}  {of} of host {}", snapshot.id().short(), snapshot.host()))
    })
}

pub fn pinned(rewritten: &[Rewritten], pinned: bool, json: bool) -> Printed {
    if json {
        return document(&rewritten);
    }
    let did = if pinned { "pinned" } else { "unpinned" };
    rewritten.iter().try_for_each(|change| {
        if change.from == change.to {
            line(&format!("{} is {did} already", change.from.short()))
        } else {
            line(&format!("{did} {}; its id is {} now", change.from.short(), change.to.short()))
        }
    })
}

/// What the operator should know of a choice that was made: to standard error, whatever goes to standard output.
pub fn notes(notes: &[String]) {
    notes.iter().for_each(|note| tracing::warn!("{note}"));
}

fn pruned(report: &PruneReport) -> String {
    let (deleted, marked) = if report.dry_run { ("would delete", "would mark") } else { ("deleted", "marked") };
    format!(
        "prune: {deleted} {} packs ({}), {marked} {} packs ({}) for a prune a day from now; in use {}, unused {}",
        report.packs_deleted + report.packs_unreferenced,
        size(report.bytes_deleted + report.bytes_unreferenced),
        report.packs_marked,
        size(report.bytes_marked),
        size(report.bytes_used),
        size(report.bytes_unused)
    )
}

pub fn prune(report: &PruneReport, json: bool) -> Printed {
    if json {
        let mut value = serde_json::to_value(report)?;
        value["message_type"] = "summary".into();
        return document(&value);
    }
    line(&pruned(report))
}

pub fn keys(keys: &[KeyInfo], json: bool) -> Printed {
    // As restic has it, in the local time.
    let created = |key: &KeyInfo| {
        let local = |time: Timestamp| time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string();
        key.created.map(local).unwrap_or_default()
    };
    if json {
        let keys: Vec<Value> = keys
            .iter()
            .map(|key| {
                let mut line = json!({
                    "current": key.current,
                    "id": key.id.short(),
                    "userName": key.owner.user,
                    "hostName": key.owner.host,
                    "created": created(key),
                });
                if let Some(problem) = &key.problem {
                    line["problem"] = problem.as_str().into();
                }
                line
            })
            .collect();
        return document(&keys);
    }
    let mut rows = table(["", "key", "user", "host", "created"]);
    for key in keys {
        let mark = if key.current { "*" } else { "" };
        rows.add_row([mark, key.id.short(), &key.owner.user, &key.owner.host, &created(key)]);
    }
    line(&rows.to_string())
}

/// What was done to a key, in words or as JSON; `others` still open the repository.
pub fn key_changed(done: &str, key: &KeyId, others: usize, json: bool) -> Printed {
    if json {
        return document(&json!({ "message_type": "key", "action": done, "id": key.short(), "other_keys": others }));
    }
    let done = if done == "changed" { "the password is changed:" } else { done };
    line(&format!("{done} key {}; {others} other keys open the repository", key.short()))
}

pub fn copied(report: &CopyReport, to: &str, json: bool) -> Printed {
    if json {
        let mut value = serde_json::to_value(report)?;
        value["message_type"] = "summary".into();
        value["repository"] = to.into();
        return document(&value);
    }
    let (copied, would) = if report.dry_run { ("would be copied", "") } else { ("copied", "as ") };
    for snapshot in &report.copied {
        let source = snapshot.source.as_ref().map(|source| format!(" of {source}")).unwrap_or_default();
        let id = snapshot.snapshot.map(|id| id.short()).unwrap_or_default();
        line(format!("  {}{source} {would}{id}", snapshot.from.short()).trim_end())?;
    }
    for failure in &report.failed {
        let source = failure.source.as_ref().map(|source| format!(" of {source}")).unwrap_or_default();
        line(&format!("error: {}{source} is not copied: {}", failure.snapshot.short(), failure.error))?;
    }
    if report.chunkers_differ {
        line(CHUNKERS_DIFFER)?;
    }
    line(&format!(
        "{} snapshots {copied} to {to}, {} were there already, {} failed; added {}",
        report.copied.len(),
        report.skipped.len(),
        report.failed.len(),
        size(report.added_bytes)
    ))
}

const CHUNKERS_DIFFER: &str = "note: the two repositories cut files in different places, so what is copied shares nothing with what is saved \
there directly; `init --copy-chunker-params` makes one that agrees";

pub fn check(report: &CheckReport, json: bool) -> Printed {
    if json {
        return document(&json!({
            "message_type": "summary",
            "num_errors": report.errors(),
            "findings": report.findings,
            "remedies": report.remedies,
        }));
    }
    report.findings.iter().try_for_each(|finding| line(&finding.to_string()))?;
    report.remedies.iter().try_for_each(|remedy| line(&format!("  {}", failure::remedy(*remedy))))?;
    match report.errors() {
        0 => line("no errors were found"),
        errors => line(&format!("{errors} errors were found: the repository is damaged")),
    }
}

pub fn bucket(report: &BucketReport, json: bool) -> Printed {
    if json {
        let mut value = serde_json::to_value(report)?;
        value["message_type"] = "bucket".into();
        value["exit_code"] = report.exit().code().into();
        return document(&value);
    }
    line(&report.location)?;
    for finding in &report.findings {
        let verdict = match finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Information => "info",
            Verdict::Warning => "warning",
            Verdict::Error => "ERROR",
        };
        line(&format!("  {verdict:<8}{:<16}{}", finding.step, finding.message))?;
        if let Some(advice) = &finding.advice {
            line(&format!("{:26}{advice}", ""))?;
        }
    }
    match report.exit() {
        Exit::Done => line("a repository is safe there"),
        Exit::Unreachable => line("the bucket cannot be reached, or does not let us in"),
        _ => line("a repository is NOT safe there"),
    }
}

pub fn stats(stats: &RepositoryStats, json: bool) -> Printed {
    if json {
        return document(stats);
    }
    line(&format!(
        "{} snapshots, {} blobs of {} in {} packs; {} stored",
        stats.snapshots_count,
        stats.total_blob_count,
        size(stats.total_uncompressed_size),
        stats.packs_count,
        size(stats.total_size)
    ))
}

pub fn alarms(own: &[Alarm], recorded: &[RecordedAlarm], json: bool) -> Printed {
    // An alarm of this host is in its state directory and, as a record, in the repository.
    let others: Vec<&Alarm> = recorded.iter().filter_map(|recorded| recorded.alarm.as_ref()).collect();
    let others: Vec<&Alarm> =
        others.into_iter().filter(|other| !own.iter().any(|own| own.run == other.run && own.source == other.source)).collect();
    if json {
        return document(&own.iter().chain(others).collect::<Vec<_>>());
    }
    if own.is_empty() && recorded.is_empty() {
        return line("no alarm is active");
    }
    for unreadable in recorded.iter().filter(|recorded| recorded.alarm.is_none()) {
        line(&unreadable.to_string())?;
    }
    for alarm in own.iter().chain(others) {
        let time = alarm.time.strftime("%Y-%m-%d %H:%M:%S UTC");
        line(&format!("{time}  source {} of {}, run {}", alarm.source, alarm.host, alarm.run))?;
        alarm.suspicions.iter().try_for_each(|suspicion| line(&format!("  {suspicion}")))?;
    }
    line("nothing is forgotten or pruned before `kaleem-dr alarm acknowledge`")
}

pub fn acknowledged(gone: &[Alarm], records: &[RecordedAlarm], json: bool) -> Printed {
    let others = records.iter().filter_map(|record| record.alarm.as_ref());
    let others: Vec<&Alarm> =
        others.filter(|other| !gone.iter().any(|own| own.run == other.run && own.source == other.source)).collect();
    if json {
        return document(&gone.iter().chain(others).collect::<Vec<_>>());
    }
    gone.iter().try_for_each(|alarm| line(&format!("acknowledged: {alarm}")))?;
    others.iter().try_for_each(|alarm| line(&format!("acknowledged: host {}, {alarm}", alarm.host)))?;
    if gone.is_empty() && records.is_empty() { line("no such alarm is active") } else { Ok(()) }
}

pub fn probes(probes: &[(SourceName, Probe)], json: bool) -> Printed {
    for (source, probe) in probes {
        if json {
            let mut value = serde_json::to_value(probe)?;
            value["source"] = source.as_str().into();
            document(&value)?;
            continue;
        }
        let server = probe
            .server
            .as_ref()
            .map_or_else(|| "readable".to_owned(), |server| format!("{} {}", server.product, server.version));
        let bytes = probe.size_bytes.map(|bytes| format!(", {}", size(bytes))).unwrap_or_default();
        line(&format!("{source}: {server}{bytes}"))?;
        probe.warnings.iter().try_for_each(|warning| line(&format!("  note: {warning}")))?;
    }
    Ok(())
}

pub fn config(loaded: &Loaded, json: bool) -> Printed {
    let settings = &loaded.config.settings;
    let sources: Vec<(&SourceName, &str)> = loaded.config.sources.iter().map(|(name, source)| (name, source.kind)).collect();
    if json {
        let locations: serde_json::Map<String, Value> =
            settings.repository.iter().map(|(name, repository)| (name.clone(), repository.location.clone().into())).collect();
        let sources: serde_json::Map<String, Value> =
            sources.iter().map(|(name, kind)| (name.to_string(), (*kind).into())).collect();
        return document(&json!({ "config": loaded.path, "repositories": locations, "sources": sources }));
    }
    line(&format!("{} is valid", loaded.path.display()))?;
    for (name, repository) in &settings.repository {
        line(&format!("  repository {name}: {}", repository.location))?;
    }
    sources.iter().try_for_each(|(name, kind)| line(&format!("  source {name}: {kind}")))
}
