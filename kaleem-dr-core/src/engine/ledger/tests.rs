use super::*;
use crate::ground::{Exit, ProofLevel, SnapshotId};

fn event(exit: Exit) -> Event {
    let now = Timestamp::now();
    Event {
        run: RunId::new(),
        kind: EventKind::Replicate,
        repository: "r2".into(),
        started: now,
        finished: now,
        exit,
        report: serde_json::json!({ "copied": 3 }),
        parts: Vec::new(),
    }
}

#[test]
fn history_is_newest_first_and_survives_a_reopening() {
    let home = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(home.path()).unwrap();
    let (good, bad) = (event(Exit::Done), event(Exit::Failed));
    ledger.record(&good).unwrap();
    ledger.record(&bad).unwrap();
    drop(ledger);
    let ledger = Ledger::open(home.path()).unwrap();
    let history = ledger.history(10).unwrap();
    assert_eq!(history.iter().map(|event| event.exit).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(history[1].report["copied"], 3);
    assert_eq!(ledger.last_success(EventKind::Replicate, "r2").unwrap(), Some(good.finished));
    assert_eq!(ledger.last_success(EventKind::Backup, "r2").unwrap(), None);
    assert!(ledger.has(bad.run).unwrap() && !ledger.has(RunId::new()).unwrap());
}

#[test]
fn parts_and_proofs_are_found_by_what_they_are_of() {
    let home = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(home.path()).unwrap();
    let part = |source: &str, exit: u8, size_bytes| Part {
        source: source.parse().unwrap(),
        repository: "/r".into(),
        snapshot: None,
        exit,
        finished: Timestamp::now(),
        seconds: 1.5,
        size_bytes,
        added_bytes: 1,
        consistent_at: Some(Timestamp::UNIX_EPOCH),
    };
    for (exit, size) in [(0, 10), (7, 0)] {
        let parts = vec![part("mongo", exit, size), part("n8n", 0, size + 1)];
        ledger.record(&Event { kind: EventKind::Backup, parts, ..event(Exit::Partial) }).unwrap();
    }
    let of = |good| -> Vec<_> {
        let parts = ledger.newest_parts(good).unwrap();
        parts
            .into_iter()
            .map(|past| (past.kind, past.part.source, past.part.exit, past.part.size_bytes))
            .collect()
    };
    let line =
        |source: &str, exit, size| ("backup".to_owned(), source.parse().unwrap(), exit, size);
    assert_eq!(of(false), [line("mongo", 7, 0), line("n8n", 0, 1)]);
    assert_eq!(of(true), [line("mongo", 0, 10), line("n8n", 0, 1)]);
    ledger.connection().execute("update part set source = '' where source = 'n8n'", []).unwrap();
    assert_eq!(
        of(true),
        [line("mongo", 0, 10)],
        "an early release recorded a part without a source"
    );
    assert_eq!(ledger.newest_events(false).unwrap().len(), 1);
    assert_eq!(ledger.newest_events(true).unwrap().len(), 0);
    let proof = Proof {
        run: RunId::new(),
        source: "mongo".parse().unwrap(),
        host: "db1".into(),
        repository: "/r".into(),
        snapshot: SnapshotId::of_test("aa"),
        consistent_at: Timestamp::UNIX_EPOCH,
        at: Timestamp::now(),
        wanted: ProofLevel::Restored,
        proven: Some(ProofLevel::Parsed),
        size_bytes: 7,
        restore_seconds: Some(0.5),
    };
    ledger.record_proof(&proof).unwrap();
    assert_eq!(ledger.proofs(9).unwrap(), std::slice::from_ref(&proof));
    assert!(!proof.is_good());
}

#[test]
fn each_report_bears_the_hash_of_the_one_before() {
    let home = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(home.path()).unwrap();
    let body = |previous: Option<&str>| format!("after {}", previous.unwrap_or("nothing"));
    let first = ledger.append_report(RunId::new(), body).unwrap();
    let second = ledger.append_report(RunId::new(), body).unwrap();
    assert_eq!((first.body.as_str(), first.previous.as_ref()), ("after nothing", None));
    assert_eq!(second.body, format!("after {}", first.hash));
    assert_eq!(ledger.reports().unwrap(), [first, second]);
}

#[test]
fn a_ledger_of_version_1_is_taken_on() {
    let home = tempfile::tempdir().unwrap();
    let connection = Connection::open(home.path().join(FILE)).unwrap();
    connection.execute_batch(EVENTS).unwrap();
    connection.pragma_update(None, "user_version", 1).unwrap();
    connection
        .execute(
            "insert into event values (1, '01J9ZZZZZZZZZZZZZZZZZZZZZZ', 'backup', '/r', '2026-01-01T00:00:00Z', '2026-01-01T00:00:01Z', 0, '{}')",
            [],
        )
        .unwrap();
    drop(connection);
    let ledger = Ledger::open(home.path()).unwrap();
    assert_eq!(ledger.history(9).unwrap()[0].run.to_string(), "01J9ZZZZZZZZZZZZZZZZZZZZZZ");
    assert!(ledger.proofs(9).unwrap().is_empty());
}

#[test]
fn a_ledger_of_a_newer_program_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    drop(Ledger::open(home.path()).unwrap());
    let connection = Connection::open(home.path().join(FILE)).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    assert!(matches!(Ledger::open(home.path()), Err(LedgerError::Newer { found: 99, .. })));
}
