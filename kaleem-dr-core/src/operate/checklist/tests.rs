//! Each item is tested both ways: it holds, and it does not hold.

use jiff::{SignedDuration, Timestamp};

use super::{Checklist, Holds, Inspection, Period, go_through};
use crate::{
    engine::ledger::{Event, EventKind, Ledger, Part, Proof},
    ground::{Exit, ProofLevel, RunId, SnapshotId},
    operate::doctor::{Space, fixture::Fixture},
};

const MIRROR: &str = "s3:https://s3.example.test/bucket/restic";

fn inspection(place: &Fixture) -> Inspection {
    Inspection {
        config: place.config(),
        environment: place.environment(),
        primary: "local".into(),
        host: place.host(),
        last_scheduled: None,
    }
}

async fn list(place: &Fixture, period: Period) -> Checklist {
    go_through(period, &inspection(place)).await
}

#[track_caller]
fn says(list: &Checklist, id: &str, holds: Holds, words: &str) {
    let line = list.lines.iter().find(|line| line.id == id).expect("there is such a line");
    assert_eq!(line.holds, holds, "{line:?}");
    assert!(
        line.evidence.iter().any(|evidence| evidence.contains(words)),
        "{words:?} is not in {line:?}"
    );
    assert!(!line.text.en.is_empty() && !line.text.ar.is_ascii());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_holds_after_a_backup_and_no_longer_two_days_later() {
    let mut place = Fixture::new();
    let repository = place.backed_up(1).await;
    let id = repository.snapshots().await.unwrap()[0].id().short();
    let run = Ledger::open(&place.state()).unwrap().history(1).unwrap()[0].run.to_string();
    let today = list(&place, Period::Daily).await;
    says(&today, "backup-job", Holds::Yes, &run);
    says(&today, "snapshots-today", Holds::Yes, &id);
    says(&today, "free-space", Holds::Yes, "50 %");
    assert_eq!(today.exit(), Exit::Done);

    // A backup that was due since then has not run.
    let due = Inspection { last_scheduled: Some(Timestamp::now()), ..inspection(&place) };
    says(&go_through(Period::Daily, &due).await, "backup-job", Holds::No, "no backup into local");
    place.machine.now = Timestamp::now() + SignedDuration::from_hours(48);
    place.machine.space =
        Some(Space { free_bytes: 19, total_bytes: 100, free_inodes: 1, total_inodes: 1 });
    let later = list(&place, Period::Daily).await;
    says(&later, "backup-job", Holds::No, "no backup into local");
    says(&later, "snapshots-today", Holds::No, &id);
    says(&later, "free-space", Holds::No, "19 %");
    assert_eq!(later.exit(), Exit::Stale);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_failed_in_the_newest_run_or_in_one_before_is_named() {
    let mut place = Fixture::new();
    place.backed_up(1).await;
    place.toml.push_str("[source.second]\ntype = 'stub'\n");
    let today = list(&place, Period::Daily).await;
    says(&today, "backup-job", Holds::No, "source second was not saved");
    says(&today, "snapshots-today", Holds::No, "second: it has no snapshot");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_told_is_unknown_and_ends_with_1() {
    let mut place = Fixture::new();
    place.backed_up(1).await;
    place.secret("pass", "another");
    let today = list(&place, Period::Daily).await;
    says(&today, "snapshots-today", Holds::Unknown, "local");
    assert_eq!(today.exit(), Exit::Failed);
    place.secret("pass", "password");
    place.machine.space = None;
    says(&list(&place, Period::Daily).await, "free-space", Holds::Unknown, "does not answer");
    place.write(
        "state/ledger.sqlite",
        "this is not a database, but it is long enough to be looked at as one",
    );
    says(&list(&place, Period::Daily).await, "backup-job", Holds::Unknown, "ledger");
    // An item that does not hold outweighs one that is unknown.
    place.machine.now = Timestamp::now() + SignedDuration::from_hours(48);
    assert_eq!(list(&place, Period::Daily).await.exit(), Exit::Stale);
}

fn event(kind: EventKind, repository: &str, exit: Exit) -> Event {
    Event {
        run: RunId::new(),
        kind,
        repository: repository.to_owned(),
        started: Timestamp::now(),
        finished: Timestamp::now(),
        exit,
        report: serde_json::json!({}),
        parts: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_has_a_snapshot_only_once_a_pass_after_it_ended_well() {
    let mut place = Fixture::new();
    place.replace("[repository.r2]", "[repository.r2]\nmirror_of = 'local'");
    let repository = place.backed_up(1).await;
    let id = repository.snapshots().await.unwrap()[0].id();
    let ledger = Ledger::open(&place.state()).unwrap();
    let week = list(&place, Period::Weekly).await;
    says(&week, "snapshots-elsewhere", Holds::No, &format!("r2 does not have {}", id.short()));
    says(&week, "no-failures", Holds::Yes, "1 jobs succeeded");
    // A pass records what it will copy, and then fails.
    ledger.saw(MIRROR, &[format!("snapshots/{id}")]).unwrap();
    ledger.record(&event(EventKind::Replicate, MIRROR, Exit::Unreachable)).unwrap();
    let week = list(&place, Period::Weekly).await;
    says(&week, "snapshots-elsewhere", Holds::No, "r2 does not have");
    says(&week, "no-failures", Holds::No, "exit 7");
    ledger.record(&event(EventKind::Replicate, MIRROR, Exit::Done)).unwrap();
    says(&list(&place, Period::Weekly).await, "snapshots-elsewhere", Holds::Yes, &id.short());
    ledger.begin(MIRROR, &[format!("snapshots/{id}")]).unwrap();
    says(&list(&place, Period::Weekly).await, "snapshots-elsewhere", Holds::No, "r2 does not have");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_known_by_the_ledger_and_failures_older_than_a_week_are_forgotten() {
    let mut place = Fixture::new();
    let repository = place.backed_up(1).await;
    let id = repository.snapshots().await.unwrap()[0].id();
    let part = Part {
        source: "stub".parse().unwrap(),
        repository: MIRROR.into(),
        snapshot: Some(id),
        exit: 0,
        finished: Timestamp::now(),
        seconds: 1.0,
        size_bytes: 1,
        added_bytes: 1,
        consistent_at: None,
    };
    let ledger = Ledger::open(&place.state()).unwrap();
    ledger
        .record(&Event { parts: vec![part], ..event(EventKind::Copy, MIRROR, Exit::Done) })
        .unwrap();
    ledger.record(&event(EventKind::Backup, "/elsewhere", Exit::Partial)).unwrap();
    let week = list(&place, Period::Weekly).await;
    says(&week, "snapshots-elsewhere", Holds::Yes, "r2 has stub");
    says(&week, "no-failures", Holds::No, "exit 3");
    place.machine.now = Timestamp::now() + SignedDuration::from_hours(8 * 24);
    says(
        &list(&place, Period::Weekly).await,
        "no-failures",
        Holds::No,
        "nothing ran in seven days",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn staged_files_that_pile_up_or_swell_are_counted() {
    let mut place = Fixture::new();
    place.backed_up(1).await;
    let staged = format!(
        "[staged]\ndirectory = '{}'\nkeep = 2\n[source.stub]",
        place.path("staged").display()
    );
    place.replace("[source.stub]", &staged);
    says(&list(&place, Period::Weekly).await, "staged-files", Holds::Yes, "no staged file");
    for name in ["a", "b"] {
        place.write(&format!("staged/stub/{name}"), "0123456789");
    }
    says(&list(&place, Period::Weekly).await, "staged-files", Holds::Yes, "2 files, 20 B");
    let week_before = std::time::SystemTime::now() - std::time::Duration::from_hours(168);
    let old = std::fs::File::options().write(true).open(place.path("staged/stub/a")).unwrap();
    old.set_modified(week_before).unwrap();
    place.write("staged/stub/b", &"x".repeat(21));
    says(
        &list(&place, Period::Weekly).await,
        "staged-files",
        Holds::No,
        "21 B, a week before 10 B",
    );
    place.write("staged/stub/b", "x");
    place.write("staged/stub/c", "x");
    says(&list(&place, Period::Weekly).await, "staged-files", Holds::No, "3 files");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_holds_with_a_drill_of_each_repository_its_report_and_nothing_left() {
    let mut place = Fixture::new();
    let month = list(&place, Period::Monthly).await;
    says(&month, "drill", Holds::No, "local was never drilled");
    says(&month, "scratch", Holds::Yes, "no directory");
    let ledger = Ledger::open(&place.state()).unwrap();
    let mut hashes = Vec::new();
    let local = place.path("repository").display().to_string();
    for repository in [local.as_str(), MIRROR] {
        let drill = event(EventKind::Drill, repository, Exit::Done);
        let proof = Proof {
            run: drill.run,
            source: "stub".parse().unwrap(),
            host: String::new(),
            repository: repository.into(),
            snapshot: SnapshotId::of_test("ab"),
            consistent_at: Timestamp::now(),
            at: Timestamp::now(),
            wanted: ProofLevel::Restored,
            proven: Some(ProofLevel::Restored),
            size_bytes: 1,
            restore_seconds: Some(1.0),
        };
        ledger.record(&drill).unwrap();
        hashes.push(
            ledger.append_report(drill.run, |previous| format!("{previous:?}")).unwrap().hash,
        );
        if repository == MIRROR {
            let month = list(&place, Period::Monthly).await;
            says(&month, "drill", Holds::No, "r2: stub was not restored in 31 days");
        }
        ledger.record_proof(&proof).unwrap();
    }
    let month = list(&place, Period::Monthly).await;
    for hash in &hashes {
        says(&month, "drill", Holds::Yes, hash);
    }
    assert_eq!(month.exit(), Exit::Done);
    place.write("root/tmp/restore-local/etc/passwd", "");
    place.write("state/scratch/kdr_drill_x/file", "");
    let month = list(&place, Period::Monthly).await;
    says(&month, "scratch", Holds::No, "restore-local");
    says(&month, "scratch", Holds::No, "kdr_drill_x");
    place.machine.now = Timestamp::now() + SignedDuration::from_hours(32 * 24);
    says(&list(&place, Period::Monthly).await, "drill", Holds::No, "was not restored in 31 days");
}
