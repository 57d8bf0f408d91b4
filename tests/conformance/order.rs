//! The order of the calls that a backup makes, and the calls behind the defaults of a store.

use std::{fs, path::Path, sync::Arc};

use bytes::Bytes;
use kaleem_dr_core::{
    CancellationToken,
    engine::repository::{
        Access, Location, Repository,
        store::{BasicStore as _, ObjectStore as _, OpendalStore},
    },
    ground::{
        Exit,
        progress::{ProgressSink, Silent},
    },
    operate::{
        config::secret::SecretString,
        job::{BackupJob, backup},
    },
    recovery::source::Restorable,
};
use kaleem_dr_sources::files::{FilesConfig, FilesSource};

use crate::{
    place::Place,
    recorder::{Call, Recorder},
    support::faulty_store::FaultyStore,
};

fn access(directory: &Path) -> Access {
    Access::new(Location::Directory(directory.to_path_buf()), SecretString::from("a password"))
}

/// The kind of object that a write was of: `data`, `index`, `snapshots`, …
fn kind(call: &Call) -> &str {
    call.key.split('/').next().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_writes_packs_then_the_index_then_the_snapshot() {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let (tree, directory) = (home.path().join("tree"), home.path().join("repository"));
    fs::create_dir(&tree).expect("a directory can be made");
    for number in 0..20 {
        fs::write(tree.join(format!("{number}")), format!("{number}").repeat(30_000))
            .expect("a file can be written");
    }
    Repository::init(&access(&directory), 2).await.expect("a repository can be made");
    let store = OpendalStore::directory(&directory).expect("the repository exists");
    let recorder = Recorder::new(Arc::new(store));
    let repository = Repository::open_in(Arc::new(recorder.clone()), &access(&directory))
        .await
        .expect("it opens");
    let config: FilesConfig =
        serde_json::from_value(serde_json::json!({ "paths": [tree] })).expect("a valid config");
    let source =
        FilesSource::new("configs".parse().expect("a name"), config).expect("a valid config");
    let job = BackupJob::new(repository, vec![Arc::new(source) as Arc<dyn Restorable>]);
    recorder.take();
    let progress: Arc<dyn ProgressSink> = Arc::new(Silent);
    let report = backup(&job, &progress, &CancellationToken::new()).await.expect("a run");
    assert_eq!(report.exit, Exit::Done, "{report:?}");

    let calls = recorder.take();
    let writes: Vec<&Call> = calls
        .iter()
        .filter(|call| matches!(call.name, "write" | "write_deferred"))
        .filter(|call| kind(call) != "locks")
        .collect();
    let first = |wanted: &str| writes.iter().position(|call| kind(call) == wanted);
    let last = |wanted: &str| writes.iter().rposition(|call| kind(call) == wanted);
    let (Some(first_index), Some(snapshot)) = (first("index"), first("snapshots")) else {
        panic!("no index or no snapshot was written: {writes:?}");
    };
    // The commit adds the manifest's pack and its index after those of the capture; nothing follows the snapshot.
    assert!(first("data").is_some_and(|pack| pack < first_index), "{writes:?}");
    assert!(last("data") < last("index"), "{writes:?}");
    assert_eq!(Some(snapshot), last("snapshots"), "{writes:?}");
    assert_eq!(snapshot, writes.len() - 1, "{writes:?}");
    // What an index or a snapshot names must survive a crash from then on, so only packs may be deferred.
    for call in &writes {
        assert!(call.name == "write" || kind(call) == "data", "{call:?} is deferred");
    }
    // The lock is there before the first write and gone at the end.
    let lock_written = calls.iter().position(|call| call.name == "write" && kind(call) == "locks");
    let first_pack = calls.iter().position(|call| call.key.starts_with("data/"));
    assert!(lock_written < first_pack, "{calls:?}");
    assert_eq!(
        calls.iter().rfind(|call| kind(call) == "locks").map(|call| call.name),
        Some("delete")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_seven_calls_gets_the_others_made_of_them() {
    let recorder = Recorder::new(Place::on_disk().store);
    // It overrides nothing.
    let store = FaultyStore::new(Arc::new(recorder.clone()), 0);
    assert!(!store.is_remote());
    let keys = ["index/b", "index/a"].map(str::to_owned).to_vec();
    for key in &keys {
        store.write_deferred(key, vec![Bytes::from(key.clone())]).await.expect("a write");
    }
    let read = store.read_many(keys.clone()).await.expect("a read of both");
    assert_eq!(read, keys, "in the order of the keys");
    store.delete_many(keys.clone()).await.expect("a deletion of both");
    assert!(store.list("index").await.expect("a list").is_empty());
    let mut calls: Vec<(&str, String)> =
        recorder.take().into_iter().map(|call| (call.name, call.key)).collect();
    calls.sort();
    let each = |name: &'static str| keys.iter().rev().map(move |key| (name, key.clone()));
    let expected: Vec<_> = each("delete")
        .chain([("list", "index".to_owned())])
        .chain(each("read"))
        .chain(each("write"))
        .collect();
    assert_eq!(calls, expected);
}
