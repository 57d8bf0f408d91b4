//! The work of a job on a fixed repository, counted in calls and bytes of its store, so that none does more without notice.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use kaleem_dr_core::{
    CancellationToken,
    engine::repository::{Access, Location, ReadData, Repository, store::OpendalStore},
    ground::{
        Exit, ProofLevel,
        host::HostScope,
        progress::{ProgressSink, Silent},
    },
    operate::{
        config::secret::SecretString,
        job::{BackupJob, backup},
    },
    recovery::{
        points::PointChoice, source::Restorable, staged::StagedWork, verify::verify_source,
        view::RepositoryView,
    },
};
use kaleem_dr_sources::files::{FilesConfig, FilesSource};

use crate::recorder::{Call, Recorder};

/// Directories of the tree; each has this many small files too.
const DIRECTORIES: usize = 20;

/// Two sources in a repository of which every call is recorded.
struct Workload {
    home: tempfile::TempDir,
    recorder: Recorder,
    repository: Repository,
    sources: Vec<Arc<dyn Restorable>>,
}

impl Workload {
    async fn new() -> Self {
        let home = tempfile::tempdir().expect("a temporary directory can be made");
        let directory = home.path().join("repository");
        let access =
            Access::new(Location::Directory(directory.clone()), SecretString::from("a password"));
        Repository::init(&access, 2).await.expect("a repository can be made");
        let store = OpendalStore::directory(&directory).expect("the repository exists");
        let recorder = Recorder::new(Arc::new(store));
        let repository =
            Repository::open_in(Arc::new(recorder.clone()), &access).await.expect("it opens");
        let sources =
            ["first", "second"].map(|name| source(name, &home.path().join(name))).to_vec();
        let workload = Self { home, recorder, repository, sources };
        workload.back_up().await;
        workload
    }

    /// The calls of a backup of both sources.
    async fn back_up(&self) -> Vec<Call> {
        self.recorder.take();
        let job = BackupJob::new(self.repository.clone(), self.sources.clone());
        let progress: Arc<dyn ProgressSink> = Arc::new(Silent);
        let report = backup(&job, &progress, &CancellationToken::new()).await.expect("a run");
        assert_eq!(report.exit, Exit::Done, "{report:?}");
        self.recorder.take()
    }

    /// The calls of a verification of both sources.
    async fn verify(&self, level: ProofLevel) -> Vec<Call> {
        let work = StagedWork::new(self.home.path());
        self.recorder.take();
        let view = RepositoryView::of(&self.repository);
        for source in &self.sources {
            let choice = PointChoice::newest(HostScope::Any);
            let report =
                verify_source(&view, &**source, &choice, level, &work).await.expect("a report");
            assert!(report.is_proven(), "{report:?}");
        }
        self.recorder.take()
    }

    /// The objects of a kind, with their sizes in bytes.
    fn objects(&self, kind: &str) -> BTreeMap<String, u64> {
        let root = self.home.path().join("repository");
        let mut pending = vec![root.join(kind)];
        let mut found = BTreeMap::new();
        while let Some(directory) = pending.pop() {
            for entry in fs::read_dir(directory).expect("a directory can be read") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    pending.push(path);
                    continue;
                }
                let size = fs::metadata(&path).expect("it exists").len();
                let key = path.strip_prefix(&root).expect("it is below").display().to_string();
                found.insert(key, size);
            }
        }
        found
    }
}

/// A source of small files, and of a large one that compresses badly.
fn source(name: &str, tree: &Path) -> Arc<dyn Restorable> {
    for directory in 0..DIRECTORIES {
        let directory = tree.join(directory.to_string());
        fs::create_dir_all(&directory).expect("a directory can be made");
        for file in 0..DIRECTORIES {
            let content = format!("{name} {file} in {}", directory.display());
            fs::write(directory.join(file.to_string()), content).expect("a file can be written");
        }
    }
    let mut state = name.len() as u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56).to_le_bytes()[0]
    })
    .take(6 << 20)
    .collect();
    fs::write(tree.join("large"), noise).expect("a file can be written");
    let paths: Vec<PathBuf> = vec![tree.to_path_buf()];
    let source = FilesSource::new(name.parse().expect("a name"), FilesConfig::new(paths));
    Arc::new(source.expect("a valid config"))
}

fn of_kind<'a>(calls: &'a [Call], name: &str, kind: &str) -> Vec<&'a Call> {
    calls
        .iter()
        .filter(|call| call.name.starts_with(name) && call.key.split('/').next() == Some(kind))
        .collect()
}

fn bytes(calls: &[&Call]) -> u64 {
    calls.iter().map(|call| call.bytes).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_backup_writes_a_manifest_and_no_data() {
    let workload = Workload::new().await;
    let (before, indexes) = (workload.objects("data"), workload.objects("index").len());
    let calls = workload.back_up().await;
    let added: u64 = workload
        .objects("data")
        .iter()
        .filter(|(key, _)| !before.contains_key(*key))
        .map(|(_, size)| size)
        .sum();
    assert!(added < 40_000, "{added} bytes of manifests and the trees above them");
    // For each source: a pack with the directories above the tree, which change with everything in them, one with the manifest, one
    // with the root; two index files that name them; and a snapshot.
    assert!(of_kind(&calls, "write", "data").len() <= 6, "{calls:?}");
    assert!(of_kind(&calls, "write", "index").len() <= 4, "{calls:?}");
    assert_eq!(of_kind(&calls, "write", "snapshots").len(), 2, "{calls:?}");
    // The index is read when the run begins, and by each source to capture, to commit and to watch what it saved.
    let read = of_kind(&calls, "read", "index").len();
    assert!(read <= 7 * indexes, "{read} reads of {indexes} index files");
    // Trees, and nothing of the large files.
    let read = bytes(&of_kind(&calls, "read", "data"));
    assert!(read < 1 << 20, "{read} bytes of packs were read");
    let listed = of_kind(&calls, "list", "data").len();
    assert!(listed <= 2, "the packs are listed {listed} times");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_reads_each_pack_once_and_the_index_once_for_all_sources() {
    let workload = Workload::new().await;
    let (packs, indexes) = (workload.objects("data"), workload.objects("index"));
    for level in [ProofLevel::Stored, ProofLevel::Readable, ProofLevel::Parsed] {
        let calls = workload.verify(level).await;
        // For the engine, and as an object of each source.
        let read = of_kind(&calls, "read", "index").len();
        assert_eq!(read, 3 * indexes.len(), "{level}: {calls:?}");
        assert_eq!(of_kind(&calls, "list", "data").len(), 2, "{level}: once a source");
        let mut by_pack = BTreeMap::<&str, u64>::new();
        for call in of_kind(&calls, "read", "data") {
            *by_pack.entry(&call.key).or_default() += call.bytes;
        }
        let large: Vec<_> = packs.iter().filter(|(_, size)| **size > 2 << 20).collect();
        assert!(!large.is_empty(), "{packs:?}");
        for (key, size) in large {
            assert_eq!(by_pack.get(key.as_str()), Some(size), "{level}: {key} is read once");
        }
        let (all, read) = (packs.values().sum::<u64>(), by_pack.values().sum::<u64>());
        assert!(
            read < all + all / 10,
            "{level}: {read} bytes of {all}: trees are read to find the rest"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_reads_each_pack_once() {
    let workload = Workload::new().await;
    let (packs, indexes) = (workload.objects("data"), workload.objects("index"));
    let lock = workload
        .repository
        .lock_to_read(std::time::Duration::ZERO)
        .await
        .expect("a lock can be taken");
    workload.recorder.take();
    let progress: Arc<dyn ProgressSink> = Arc::new(Silent);
    let report = workload
        .repository
        .check(ReadData::All, &lock, &progress, &CancellationToken::new())
        .await
        .expect("a report");
    assert_eq!(report.errors(), 0, "{report:?}");
    let calls = workload.recorder.take();
    lock.release().await.expect("it can be released");
    let (all, read) = (packs.values().sum::<u64>(), bytes(&of_kind(&calls, "read", "data")));
    assert!(read >= all && read < all + all / 10, "{read} bytes of {all}");
    let packs_read: HashSet<&str> =
        of_kind(&calls, "read", "data").iter().map(|call| call.key.as_str()).collect();
    assert_eq!(packs_read.len(), packs.len());
    // For the survey, the engine, and to find the blobs of packs.
    let read = of_kind(&calls, "read", "index").len();
    assert!(read <= 3 * indexes.len(), "{read} reads of {} index files", indexes.len());
}
