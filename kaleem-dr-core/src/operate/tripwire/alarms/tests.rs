use super::*;

fn guarded(home: &Path, recorded: &[RecordedAlarm]) -> Result<(), RepositoryError> {
    Alarms::guard(home, recorded, &HostScope::One("h".parse().unwrap()), Removal::Forget)
}

#[test]
fn an_alarm_stands_until_it_is_acknowledged_and_is_normal_then() {
    let home = tempfile::tempdir().unwrap();
    let source: SourceName = "mongo".parse().unwrap();
    let alarm = |snapshot: &str, seen: &[&str]| Alarm {
        repository: "r".into(),
        source: source.clone(),
        host: "h".into(),
        run: RunId::new(),
        time: Timestamp::now(),
        snapshot: snapshot.into(),
        normal: Some("1".into()),
        is_recorded: false,
        suspicions: seen
            .iter()
            .map(|what| Suspicion { what: (*what).into(), why: "so".into() })
            .collect(),
    };
    Alarms::note(home.path(), alarm("1", &[])).unwrap();
    assert!(guarded(home.path(), &[]).is_ok());
    Alarms::note(home.path(), alarm("2", &["gone"])).unwrap();
    Alarms::note(home.path(), alarm("3", &[])).unwrap();
    let alarms = Alarms::load(home.path()).unwrap();
    assert_eq!(
        alarms.normal("r", &source),
        Some("1"),
        "nothing is normal while an alarm is active"
    );
    assert_eq!(alarms.standing().len(), 1);
    assert!(guarded(home.path(), &[]).unwrap_err().to_string().contains("gone"));
    assert!(
        Alarms::acknowledge(home.path(), &HostScope::Any, &["files-of-mine".parse().unwrap()])
            .unwrap()
            .is_empty()
    );
    let elsewhere = HostScope::One("another".parse().unwrap());
    assert!(
        Alarms::acknowledge(home.path(), &elsewhere, &[]).unwrap().is_empty(),
        "it is this host's"
    );
    assert_eq!(
        Alarms::acknowledge(home.path(), &HostScope::Any, std::slice::from_ref(&source))
            .unwrap()
            .len(),
        1
    );
    assert!(guarded(home.path(), &[]).is_ok());
    assert_eq!(Alarms::load(home.path()).unwrap().normal("r", &source), Some("3"));
    fs::write(home.path().join(FILE), "{").unwrap();
    assert!(
        matches!(guarded(home.path(), &[]), Err(RepositoryError::Guarded(_))),
        "the alarms are unreadable"
    );
}

#[test]
fn an_alarm_of_another_host_stops_prune_and_what_would_forget_that_hosts_snapshots() {
    let home = tempfile::tempdir().unwrap();
    let recorded = |host: &str| RecordedAlarm {
        record: "aa".repeat(32).parse().unwrap(),
        host: host.into(),
        alarm: None,
    };
    let others = [recorded("web1")];
    assert!(guarded(home.path(), &others).is_ok());
    for (hosts, removal) in
        [(HostScope::Any, Removal::Forget), (HostScope::One("h".parse().unwrap()), Removal::Prune)]
    {
        let refused = Alarms::guard(home.path(), &others, &hosts, removal).unwrap_err();
        assert!(refused.to_string().contains("web1"), "{refused}");
    }
    assert!(
        guarded(home.path(), &[recorded("h")]).is_err(),
        "the machine before this one raised it"
    );
}

#[test]
fn an_alarm_whose_record_was_removed_is_acknowledged() {
    let home = tempfile::tempdir().unwrap();
    let alarm = Alarm {
        repository: "r".into(),
        source: "mongo".parse().unwrap(),
        host: "h".into(),
        run: RunId::new(),
        time: Timestamp::now(),
        snapshot: "2".into(),
        normal: None,
        is_recorded: false,
        suspicions: vec![Suspicion { what: "gone".into(), why: "so".into() }],
    };
    Alarms::note(home.path(), alarm.clone()).unwrap();
    assert_eq!(Alarms::reconcile(home.path(), "r", &[]).unwrap().len(), 1, "it has no record yet");
    Alarms::note_recorded(home.path(), &alarm).unwrap();
    let record = RecordedAlarm {
        record: "aa".repeat(32).parse().unwrap(),
        host: "h".into(),
        alarm: Some(alarm.clone()),
    };
    assert!(Alarms::reconcile(home.path(), "r", &[record]).unwrap().is_empty());
    assert_eq!(Alarms::load(home.path()).unwrap().standing().len(), 1);
    assert!(
        Alarms::reconcile(home.path(), "other", &[]).unwrap().is_empty(),
        "another repository says nothing of it"
    );
    assert_eq!(Alarms::load(home.path()).unwrap().standing().len(), 1);
    Alarms::reconcile(home.path(), "r", &[]).unwrap();
    let alarms = Alarms::load(home.path()).unwrap();
    assert_eq!((alarms.standing().len(), alarms.normal("r", &alarm.source)), (0, Some("2")));
}
