//! The way back: into the system with `restore`, or as a file; and rehearsals.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Instant,
};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use kaleem_dr_core::{
    CancellationToken,
    engine::manifest::ArtifactRecord,
    ground::{SourceError, digest::ByteDigest, finding::Finding},
    recovery::{
        point::{ArtifactReader, PointReader},
        restore::ensure_room,
        source::{
            Change, Control, Difference, Inspection, PlannedAction, RestorePlan, RestoreReport,
            RestoreRequest, RestoreTarget, ScratchTarget, Uncompared,
        },
    },
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    CommandSource, NAME, SCRATCH, ScratchCommands,
    process::{Input, Output},
};

/// Why nothing was compared after a restore.
const NOT_REPEATABLE: &str =
    "`repeatable = false`: two runs of `dump` print different bytes, even on the same data";

impl CommandSource {
    pub(super) fn plan(
        &self,
        point: &PointReader,
        request: &RestoreRequest,
    ) -> Result<RestorePlan, SourceError> {
        request.refuse_choices("command")?;
        let record = record_of(point)?;
        let mut warnings = Vec::new();
        let (to, target, change) = match &request.to {
            RestoreTarget::InPlace => {
                if self.config.restore.is_empty() {
                    return Err(SourceError::Unsupported(format!(
                        "the source {} has no `restore` command: restore its output as a file with --to DIRECTORY",
                        self.name
                    )));
                }
                self.process(&self.config.restore).find()?;
                if !self.config.repeatable {
                    warnings.push(NOT_REPEATABLE.to_owned());
                }
                let target = format!("the command {}", self.config.restore.join(" "));
                (RestoreTarget::InPlace, target, Change::Overwrite)
            }
            RestoreTarget::Beside(directory) => {
                let directory =
                    directory.as_ref().map_or_else(|| self.new_directory(), PathBuf::from);
                if !directory.is_absolute() {
                    let shown = directory.display();
                    return Err(SourceError::Unsupported(format!(
                        "{shown} must be an absolute path"
                    )));
                }
                let file = directory.join(&self.config.file);
                if file.symlink_metadata().is_ok() {
                    return Err(SourceError::Refused(format!(
                        "{} exists; choose another directory",
                        file.display()
                    )));
                }
                let to = RestoreTarget::Beside(Some(directory.display().to_string()));
                (to, format!("file {}", file.display()), Change::Create)
            }
        };
        let action = PlannedAction::new(change, &self.config.file).with_size(record.size_bytes);
        Ok(RestorePlan::new(RestoreRequest::whole(to), target, vec![action], warnings))
    }

    pub(super) async fn put_back(
        &self,
        point: &PointReader,
        plan: RestorePlan,
    ) -> Result<RestoreReport, SourceError> {
        let record = record_of(point)?.clone();
        let mut report = RestoreReport::to(plan.target);
        (report.items, report.size_bytes) = (1, record.size_bytes);
        match plan.request.to {
            RestoreTarget::InPlace => {
                self.feed(&self.config.restore, point, &record).await?;
                if self.config.repeatable {
                    let printed = self.printed(&self.config.dump, &point.cancellation()).await?;
                    compare(&mut report, &self.config.file, &record, printed);
                } else {
                    report.uncompared.push(Uncompared::new(&self.config.file, NOT_REPEATABLE));
                }
            }
            RestoreTarget::Beside(directory) => {
                let directory = directory.map_or_else(|| self.new_directory(), PathBuf::from);
                self.write_file(point, &record, &directory, &mut report).await?;
            }
        }
        Ok(report)
    }

    pub(super) async fn look_into(&self, point: &PointReader) -> Result<Inspection, SourceError> {
        let record = record_of(point)?;
        let mut inspection = Inspection::default();
        let size = record.size_bytes;
        if self.config.check.is_empty() {
            let mut artifact = point.artifact(&record.path).await?;
            while artifact.next().await?.is_some() {}
            inspection
                .checked
                .push(format!("{}: {size} bytes as the command printed them", self.config.file));
            return Ok(inspection);
        }
        match self.feed(&self.config.check, point, record).await {
            Ok(()) => inspection.checked.push(format!(
                "{}: {size} bytes, valid by {}",
                self.config.file, self.config.check[0]
            )),
            Err(SourceError::Unsupported(why)) => inspection.findings.push(Finding::error(why)),
            Err(error) => return Err(error),
        }
        Ok(inspection)
    }

    pub(super) async fn try_out(
        &self,
        point: &PointReader,
        scratch: &ScratchTarget,
    ) -> Result<RestoreReport, SourceError> {
        let record = record_of(point)?.clone();
        let directory = scratch.directory.join(&scratch.name);
        let mut report = RestoreReport::to(format!("directory {}", directory.display()));
        (report.items, report.size_bytes) = (1, record.size_bytes);
        let tried = async {
            match &self.config.scratch {
                Some(commands) => {
                    self.rehearse_commands(
                        point,
                        &record,
                        (commands, &directory),
                        scratch,
                        &mut report,
                    )
                    .await
                }
                None => self.rehearse_file(point, &record, &directory, scratch, &mut report).await,
            }
        }
        .await;
        let removed = match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        tried?;
        removed.map_err(path_error(&directory, "remove after the rehearsal"))?;
        Ok(report)
    }

    /// Loads the data with the commands of `scratch`, and compares what they print. As a control, it does the same with one byte
    /// changed, which must be refused or found.
    async fn rehearse_commands(
        &self,
        point: &PointReader,
        record: &ArtifactRecord,
        (commands, directory): (&ScratchCommands, &Path),
        scratch: &ScratchTarget,
        report: &mut RestoreReport,
    ) -> Result<(), SourceError> {
        let cancel = point.cancellation();
        let words = |words: &[String]| -> Vec<String> {
            let place = directory.display().to_string();
            let filled = |word: &String| word.replace(SCRATCH, &place).replace(NAME, &scratch.name);
            words.iter().map(filled).collect()
        };
        let (restore, dump) = (words(&commands.restore), words(&commands.dump));
        let remove = words(&commands.remove);
        let empty = || {
            let made = fs::create_dir_all(directory);
            made.map_err(path_error(directory, "create the directory"))
        };
        let clean = async || {
            if !remove.is_empty() {
                // After a cancellation too, for as long as the program has.
                let never = CancellationToken::new();
                self.process(&remove).read(&never, &mut Summary::default()).await?;
            }
            fs::remove_dir_all(directory).map_err(path_error(directory, "empty"))
        };
        empty()?;
        let loaded = async {
            self.feed(&restore, point, record).await?;
            scratch.filled();
            let printed = self.printed(&dump, &cancel).await?;
            compare(report, &self.config.file, record, printed);
            Ok(())
        }
        .await;
        let cleaned = clean().await;
        loaded?;
        cleaned?;
        if !scratch.control || !report.is_equal() {
            return Ok(());
        }
        let began = Instant::now();
        empty()?;
        let mut damaged = Damaged {
            artifact: point.artifact(&record.path).await?,
            at: record.size_bytes / 2,
            read: 0,
        };
        let fed = self.process(&restore).write(&cancel, &mut damaged).await;
        let mut found = RestoreReport::default();
        let outcome = match fed {
            Err(SourceError::Unsupported(why)) => {
                found.differences.push(Difference::new(
                    &self.config.file,
                    "data that can be loaded",
                    why,
                ));
                Ok(())
            }
            Err(error) => Err(error),
            Ok(()) => match self.printed(&dump, &cancel).await {
                Ok(printed) => {
                    compare(&mut found, &self.config.file, record, printed);
                    Ok(())
                }
                Err(error) => Err(error),
            },
        };
        let cleaned = clean().await;
        outcome?;
        cleaned?;
        let damage = format!("changed the byte in the middle of {}", self.config.file);
        report.control =
            Some(Control::new(damage, found.differences, began.elapsed().as_secs_f64()));
        Ok(())
    }

    /// Removes what a killed rehearsal left outside of its directory, which its creator removes.
    pub(super) async fn remove_rehearsal(&self, name: &str) -> Result<Vec<String>, SourceError> {
        let remove = self.config.scratch.iter().flat_map(|scratch| &scratch.remove);
        let words: Vec<String> = remove.map(|word| word.replace(NAME, name)).collect();
        // Without its name, nothing can be found; and its directory is not known here.
        let is_named = words.iter().any(|word| word.contains(name));
        if !is_named || words.iter().any(|word| word.contains(SCRATCH)) {
            return Ok(Vec::new());
        }
        let cancel = CancellationToken::new();
        self.process(&words).read(&cancel, &mut Summary::default()).await?;
        Ok(vec![format!("what `{}` removes of {name}", words.join(" "))])
    }

    /// Writes the output to a file, and compares it; as a control, with one byte changed.
    async fn rehearse_file(
        &self,
        point: &PointReader,
        record: &ArtifactRecord,
        directory: &Path,
        scratch: &ScratchTarget,
        report: &mut RestoreReport,
    ) -> Result<(), SourceError> {
        self.write_file(point, record, directory, report).await?;
        scratch.filled();
        if !self.config.restore.is_empty() {
            report.warnings.push(
                "only the file was restored: with `scratch` commands, drills also load it"
                    .to_owned(),
            );
        }
        if scratch.control && report.is_equal() {
            let began = Instant::now();
            let path = directory.join(&self.config.file);
            kaleem_dr_core::recovery::restore::turn_a_byte(&path)
                .map_err(path_error(&path, "damage on purpose"))?;
            let mut found = RestoreReport::default();
            let there = digest_of(&path).await?;
            compare(&mut found, &self.config.file, record, there);
            let damage = format!("changed the byte in the middle of {}", self.config.file);
            report.control =
                Some(Control::new(damage, found.differences, began.elapsed().as_secs_f64()));
        }
        Ok(())
    }

    async fn write_file(
        &self,
        point: &PointReader,
        record: &ArtifactRecord,
        directory: &Path,
        report: &mut RestoreReport,
    ) -> Result<(), SourceError> {
        fs::create_dir_all(directory).map_err(path_error(directory, "create the directory"))?;
        ensure_room(directory, record.size_bytes)
            .map_err(path_error(directory, "restore below"))?;
        let path = directory.join(&self.config.file);
        let failed = |action| path_error(&path, action);
        let mut options = tokio::fs::OpenOptions::new();
        // Never over what is there, and never through a link.
        let file = options.write(true).create_new(true).mode(0o600).open(&path).await;
        let mut file = file.map_err(failed("create"))?;
        let mut artifact = point.artifact(&record.path).await?;
        while let Some(bytes) = artifact.next().await? {
            file.write_all(&bytes).await.map_err(failed("write"))?;
        }
        file.sync_all().await.map_err(failed("write"))?;
        let there = digest_of(&path).await?;
        compare(report, &self.config.file, record, there);
        Ok(())
    }

    /// Gives the captured bytes to a command.
    async fn feed(
        &self,
        words: &[String],
        point: &PointReader,
        record: &ArtifactRecord,
    ) -> Result<(), SourceError> {
        let mut artifact = point.artifact(&record.path).await?;
        self.process(words).write(&point.cancellation(), &mut artifact).await
    }

    /// Runs a command, and returns length and digest of its output.
    async fn printed(
        &self,
        words: &[String],
        cancel: &CancellationToken,
    ) -> Result<Summary, SourceError> {
        let mut summary = Summary::default();
        self.process(words).read(cancel, &mut summary).await?;
        Ok(summary)
    }

    fn new_directory(&self) -> PathBuf {
        let time = Timestamp::now().strftime("%Y%m%d_%H%M%S");
        format!("/var/tmp/{}_restored_{time}", self.name).into()
    }
}

/// The one artifact of a point.
fn record_of(point: &PointReader) -> Result<&ArtifactRecord, SourceError> {
    match &point.manifest().artifacts[..] {
        [record] => Ok(record),
        artifacts => Err(SourceError::Point(
            format!("a point of a command has one artifact, and this one has {}", artifacts.len())
                .into(),
        )),
    }
}

/// Length and digest of a byte stream.
#[derive(Default)]
struct Summary {
    size_bytes: u64,
    digest: ByteDigest,
}

#[async_trait]
impl Output for Summary {
    async fn take(&mut self, bytes: Bytes) -> Result<(), SourceError> {
        self.add(&bytes);
        Ok(())
    }
}

impl Summary {
    fn add(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.size_bytes += bytes.len() as u64;
    }
}

#[async_trait]
impl Input for ArtifactReader {
    async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        ArtifactReader::next(self).await
    }
}

/// An artifact with one byte changed.
struct Damaged {
    artifact: ArtifactReader,
    /// Offset of the byte.
    at: u64,
    read: u64,
}

#[async_trait]
impl Input for Damaged {
    async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        let Some(bytes) = self.artifact.next().await? else { return Ok(None) };
        let within = self.at.checked_sub(self.read).and_then(|at| usize::try_from(at).ok());
        self.read += bytes.len() as u64;
        let Some(at) = within.filter(|at| *at < bytes.len()) else { return Ok(Some(bytes)) };
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 1;
        Ok(Some(damaged.into()))
    }
}

fn compare(report: &mut RestoreReport, what: &str, expected: &ArtifactRecord, found: Summary) {
    let (size_bytes, sha256) = (found.size_bytes, found.digest.finish());
    if sha256 == expected.sha256 && size_bytes == expected.size_bytes {
        report.compared.push(format!("{what}: {size_bytes} bytes, by SHA-256"));
    } else {
        let in_words = |size: u64, sha256: &str| format!("{size} bytes, SHA-256 {sha256}");
        report.differences.push(Difference::new(
            what,
            in_words(expected.size_bytes, &expected.sha256),
            in_words(size_bytes, &sha256),
        ));
    }
}

async fn digest_of(path: &Path) -> Result<Summary, SourceError> {
    let failed = || path_error(path, "read");
    let mut file = tokio::fs::File::open(path).await.map_err(failed())?;
    let mut summary = Summary::default();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer).await.map_err(failed())? {
            0 => return Ok(summary),
            read => summary.add(&buffer[..read]),
        }
    }
}

fn path_error(path: &Path, action: &str) -> impl FnOnce(io::Error) -> SourceError {
    let (path, action) = (path.to_path_buf(), action.to_owned());
    move |cause| SourceError::Path { path, action, cause }
}
