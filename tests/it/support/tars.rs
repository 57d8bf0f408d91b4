//! Trees, repositories and tars of any form, for tests of tars.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use flate2::{Compression, write::GzEncoder};
use kaleem_dr_core::{
    CancellationToken,
    engine::{
        repository::{Access, Location, Repository},
        source::Source as _,
    },
    ground::{
        SourceError,
        host::HostScope,
        progress::{ProgressSink, Silent},
    },
    operate::{
        config::secret::SecretString,
        job::{BackupJob, backup},
    },
    recovery::{
        point::PointReader,
        points::{PointChoice, open_point},
        restore::FilesReport,
        source::{Restorable, RestoreRequest, RestoreTarget},
        staged::{Sink, StagedWork},
        untar::{UntarError, UntarOptions, extract},
    },
};
use kaleem_dr_sources::files::{FilesConfig, FilesSource};
use tar::{EntryType, Header};

use super::tree::Tree;

/// A directory for one test, with a tree to back up, a repository, and space for the output.
pub struct Place {
    pub directory: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a temporary directory can be made") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn source(&self, more: serde_json::Value) -> Arc<FilesSource> {
        let mut config = serde_json::json!({"paths": [self.path("tree")]});
        config
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        let config: FilesConfig = serde_json::from_value(config).expect("the config is valid");
        Arc::new(
            FilesSource::new("configs".parse().expect("a name"), config)
                .expect("the config is valid"),
        )
    }

    /// Backs the tree up and opens the snapshot.
    pub async fn backed_up(&self, source: &Arc<FilesSource>) -> PointReader {
        let access = Access::new(
            Location::Directory(self.path("repository")),
            SecretString::from("password"),
        );
        let repository = Repository::init(&access, 2).await.expect("a repository can be made");
        let job = BackupJob::new(repository.clone(), vec![source.clone()]);
        let report =
            backup(&job, &silent(), &CancellationToken::new()).await.expect("the backup runs");
        assert!(report.sources[0].error.is_none(), "{report:?}");
        open_point(
            &repository,
            source.name(),
            &PointChoice::newest(HostScope::Any),
            &silent(),
            &CancellationToken::new(),
        )
        .await
        .expect("the point opens")
        .0
    }

    pub async fn export(&self, source: &FilesSource, point: &PointReader) -> PathBuf {
        let path = self.path("configs.tar.gz");
        let mut sink =
            Sink::new(Box::new(fs::File::create(&path).expect("a file can be made")), true);
        source
            .staged()
            .expect("files have a staged form")
            .write(point, &mut sink)
            .await
            .expect("the tar is written");
        sink.finish().await.expect("the tar is finished");
        path
    }

    pub async fn open(
        &self,
        source: &FilesSource,
        file: &Path,
    ) -> Result<PointReader, SourceError> {
        let work = StagedWork::new(self.path("."));
        source.staged().expect("files have a staged form").open(file, &work).await
    }

    /// The restored tree below a target.
    pub fn tree_in(&self, target: &str) -> Tree {
        Tree::of(&self.path(target).join(self.path("tree").strip_prefix("/").expect("absolute")))
    }

    pub fn beside(&self, name: &str) -> RestoreRequest {
        RestoreRequest::whole(RestoreTarget::Beside(Some(self.path(name).display().to_string())))
    }
}

pub fn silent() -> Arc<dyn ProgressSink> {
    Arc::new(Silent)
}

pub fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(plain).expect("memory can be written");
    packed.finish().expect("memory can be written")
}

/// A handmade tar.
#[derive(Default)]
pub struct Handmade(pub Vec<u8>);

impl Handmade {
    pub fn raw(mut self, header: &Header, content: &[u8]) -> Self {
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn member(self, name: &str, kind: EntryType, link: &str, content: &[u8]) -> Self {
        self.raw(&header(name, kind, link, content.len() as u64), content)
    }

    pub fn file(self, name: &str, content: &str) -> Self {
        self.member(name, EntryType::Regular, "", content.as_bytes())
    }

    pub fn directory(self, name: &str) -> Self {
        self.member(name, EntryType::Directory, "", b"")
    }

    pub fn symlink(self, name: &str, to: &str) -> Self {
        self.member(name, EntryType::Symlink, to, b"")
    }

    pub fn hard_link(self, name: &str, to: &str) -> Self {
        self.member(name, EntryType::Link, to, b"")
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

pub fn header(name: &str, kind: EntryType, link: &str, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
    header.set_uid(nix::unistd::geteuid().as_raw().into());
    header.set_gid(nix::unistd::getegid().as_raw().into());
    header.set_mtime(1_000_000_000);
    header.set_size(size);
    header.set_cksum();
    header
}

pub fn pax_records(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut all = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length = (1..=rest + 20)
            .find(|length| *length > rest && length - rest == length.to_string().len())
            .expect("some length counts itself");
        all.extend_from_slice(format!("{length} {key}=").as_bytes());
        all.extend_from_slice(value);
        all.push(b'\n');
    }
    all
}

/// A directory that a hostile tar wants to reach, and a target next to it.
pub struct Fortress {
    pub place: Place,
    pub outside: Tree,
}

impl Fortress {
    pub fn new() -> Self {
        let place = Place::new();
        fs::create_dir_all(place.path("outside/etc")).expect("a directory can be made");
        fs::write(place.path("outside/shadow"), "root's secret").expect("a file can be written");
        fs::create_dir(place.path("target")).expect("a directory can be made");
        let outside = Tree::of(&place.path("outside"));
        Self { place, outside }
    }

    pub fn options(&self) -> UntarOptions {
        UntarOptions::to(self.place.path("target"))
    }

    pub fn in_place(&self) -> UntarOptions {
        let mut options = self.options();
        options.in_place = true;
        options
    }

    pub fn extract(&self, tar: &[u8], options: &UntarOptions) -> Result<FilesReport, UntarError> {
        let archive = self.place.path("hostile.tar");
        fs::write(&archive, tar).expect("a file can be written");
        extract(&archive, options, &Silent, &CancellationToken::new())
    }

    #[track_caller]
    pub fn assert_untouched(&self) {
        Tree::of(&self.place.path("outside")).assert_equal(&self.outside);
        let names: BTreeSet<_> = fs::read_dir(self.place.path("."))
            .expect("a directory can be read")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
            .collect();
        assert_eq!(
            names,
            ["hostile.tar", "outside", "target"].map(str::to_owned).into(),
            "nothing new next to the target"
        );
    }

    pub fn content(&self, name: &str) -> String {
        fs::read_to_string(self.place.path("target").join(name))
            .unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

#[track_caller]
pub fn assert_refused(report: &FilesReport, expected: &[(&str, &str)]) {
    let found: Vec<_> = report
        .problems
        .iter()
        .map(|problem| format!("{}: {}", problem.path, problem.why))
        .collect();
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for ((name, why), found) in expected.iter().zip(&found) {
        assert!(
            found.starts_with(&format!("{name}: ")) && found.contains(why),
            "{found} is not {name}: {why}"
        );
    }
}
