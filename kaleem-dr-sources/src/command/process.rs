//! A command of the config: what it prints, and what it reads.
//!
//! It gets none of our environment, which may hold passwords, and runs in a process group of its own, so that a failure or a
//! cancellation ends all of it.

use std::{
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use kaleem_dr_core::{
    CancellationToken,
    ground::SourceError,
    operate::{
        config::secret::{ExposeSecret as _, SecretString},
        hook::{PATH, plain, tail},
    },
};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
    task::JoinHandle,
    time::timeout,
};

/// Size of a read from the output, in bytes.
const READ: usize = 256 << 10;
/// Time that the error output may stay open after the command ended: a process that it started may hold it.
const PATIENCE_FOR_ERRORS: Duration = Duration::from_secs(1);

/// Receives what a command prints.
#[async_trait]
pub(super) trait Output: Send {
    async fn take(&mut self, bytes: Bytes) -> Result<(), SourceError>;
}

/// Gives a command what it reads; `None` at the end.
#[async_trait]
pub(super) trait Input: Send {
    async fn next(&mut self) -> Result<Option<Bytes>, SourceError>;
}

/// A command with everything that it runs with.
pub(super) struct Process<'a> {
    pub(super) words: Vec<String>,
    pub(super) directory: &'a Path,
    pub(super) variables: &'a [(String, SecretString)],
    pub(super) patience: Duration,
}

/// A process that has started. Its whole group is killed when this value is dropped before its end.
struct Started {
    child: Child,
    errors: Option<JoinHandle<String>>,
    has_ended: bool,
}

impl Drop for Started {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        if let Some(group) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            // It may have ended just now; then there is nothing to kill.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }
}

impl Process<'_> {
    fn program(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// The path of the program.
    ///
    /// # Errors
    /// If there is none that can be run.
    pub(super) fn find(&self) -> Result<PathBuf, SourceError> {
        let program = self.program();
        let places: Vec<PathBuf> = if program.contains('/') {
            vec![self.directory.join(program)]
        } else {
            PATH.split(':').map(|directory| Path::new(directory).join(program)).collect()
        };
        let can_run = |path: &PathBuf| {
            nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok() && path.is_file()
        };
        places.into_iter().find(can_run).ok_or_else(|| {
            let where_to =
                if program.contains('/') { String::new() } else { format!(" in {PATH}") };
            SourceError::Unsupported(format!("the program {program} does not exist{where_to}"))
        })
    }

    fn start(&self, input: Stdio) -> Result<Started, SourceError> {
        let program = self.find()?;
        let mut command = Command::from(plain(&program, &self.words[1..]));
        command
            .current_dir(self.directory)
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        for (name, value) in self.variables {
            command.env(name, value.expose_secret());
        }
        let mut child = command.spawn().map_err(|cause| SourceError::Path {
            path: program,
            action: "start the program".into(),
            cause,
        })?;
        let errors = child.stderr.take().map(tail);
        Ok(Started { child, errors, has_ended: false })
    }

    /// Runs it, and gives its output to `into`. Returns the number of bytes.
    ///
    /// # Errors
    /// If it cannot be started, does not end with 0, or not in time; and the errors of `into`.
    pub(super) async fn read(
        &self,
        cancel: &CancellationToken,
        into: &mut dyn Output,
    ) -> Result<u64, SourceError> {
        let mut started = self.start(Stdio::null())?;
        let output = started.child.stdout.take();
        let reading = async {
            let mut read_bytes = 0;
            if let Some(mut output) = output {
                loop {
                    let mut buffer = BytesMut::with_capacity(READ);
                    let read = output.read_buf(&mut buffer).await;
                    match read.map_err(|error| self.failed(&error.to_string()))? {
                        0 => break,
                        read => read_bytes += read as u64,
                    }
                    into.take(buffer.freeze()).await?;
                }
            }
            self.ended(&mut started).await?;
            Ok(read_bytes)
        };
        self.within(cancel, reading).await
    }

    /// Runs it with an input, which `from` gives piece by piece. What it prints is dropped.
    ///
    /// # Errors
    /// As [`Process::read`]; and the errors of `from`, after which the command is killed before it sees the end of its input.
    pub(super) async fn write(
        &self,
        cancel: &CancellationToken,
        from: &mut dyn Input,
    ) -> Result<(), SourceError> {
        let mut started = self.start(Stdio::piped())?;
        let printed = started.child.stdout.take().map(tail);
        let mut input = started.child.stdin.take();
        let writing = async {
            while let Some(bytes) = from.next().await? {
                let Some(pipe) = &mut input else { continue };
                if pipe.write_all(&bytes).await.is_err() {
                    // It has read enough, or failed: its status decides.
                    input = None;
                }
            }
            if let Some(mut pipe) = input.take() {
                // As above.
                let _ = pipe.shutdown().await;
            }
            self.ended(&mut started).await
        };
        let written = self.within(cancel, writing).await;
        printed.inspect(JoinHandle::abort);
        if written.is_err() {
            // Killed before its input is closed, which it could take for the end of the data.
            drop(started);
        }
        written
    }

    async fn within<T>(
        &self,
        cancel: &CancellationToken,
        work: impl Future<Output = Result<T, SourceError>> + Send,
    ) -> Result<T, SourceError> {
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(SourceError::Cancelled),
            done = timeout(self.patience, work) => done.unwrap_or_else(|_| {
                let minutes = self.patience.as_secs() / 60;
                Err(self.failed(&format!("it still ran after {minutes} minutes (`timeout_minutes`)")))
            }),
        }
    }

    /// Waits for its end, which must be status 0.
    async fn ended(&self, started: &mut Started) -> Result<(), SourceError> {
        let status = started.child.wait().await.map_err(|error| self.failed(&error.to_string()))?;
        started.has_ended = true;
        let errors = match &mut started.errors {
            Some(errors) => match timeout(PATIENCE_FOR_ERRORS, errors).await {
                Ok(Ok(errors)) => errors,
                _ => String::new(),
            },
            None => String::new(),
        };
        if status.success() {
            return Ok(());
        }
        Err(self.failed(&in_words(status, &errors)))
    }

    fn failed(&self, why: &str) -> SourceError {
        // A command may print its own password.
        let why = self.variables.iter().fold(why.to_owned(), |why, (name, value)| {
            why.replace(value.expose_secret(), &format!("${name}"))
        });
        SourceError::Unsupported(format!("the command {} failed: {why}", self.program()))
    }
}

fn in_words(status: ExitStatus, errors: &str) -> String {
    let errors = errors.trim();
    if errors.is_empty() { status.to_string() } else { format!("{status}: {errors}") }
}
