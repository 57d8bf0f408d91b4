//! Commands of the operator around a backup, or around the capture of one source: stop a service and start it again, mount a disk,
//! make a snapshot of a volume and remove it.

use std::{collections::VecDeque, num::NonZeroU64, process::Stdio, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::hook;
use crate::{CancellationToken, ground::SourceName, recovery::source::HookReport};

/// The key of a source's table.
const KEY: &str = "hooks";

/// Commands, each a program with its arguments and without a shell.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct BackupHooks {
    /// They run before it, one after the other. If one fails, nothing is captured.
    pub before: Vec<Vec<String>>,
    /// They run after it, all of them, whatever the result: also if a command of `before` failed, and after a cancellation.
    pub after: Vec<Vec<String>>,
    /// Time limit for each command, in seconds.
    pub timeout_seconds: NonZeroU64,
}

impl Default for BackupHooks {
    fn default() -> Self {
        let timeout_seconds = const { NonZeroU64::new(600).expect("it is not zero") };
        Self { before: Vec::new(), after: Vec::new(), timeout_seconds }
    }
}

/// The outcome of work between hooks.
#[derive(Debug)]
#[non_exhaustive]
pub struct Between<T> {
    /// The result of the work, or the command of `before` that failed, as a sentence; the work was then not done.
    pub done: Result<T, String>,
    /// The commands of `after` that failed, as a sentence.
    pub after: Option<String>,
}

impl BackupHooks {
    /// Does work between the commands.
    pub async fn around<T>(
        &self,
        cancel: &CancellationToken,
        work: impl Future<Output = T>,
    ) -> Between<T> {
        let patience = Duration::from_secs(self.timeout_seconds.get());
        let mut after = After { left: self.after.iter().cloned().collect(), patience };
        for command in &self.before {
            let report = hook::run(command, patience, Some(cancel)).await;
            if report.status != Some(0) {
                let why = format!("`hooks.before`: {}", in_words(&report));
                return Between { done: Err(why), after: after.run().await };
            }
        }
        let done = work.await;
        Between { done: Ok(done), after: after.run().await }
    }

    /// The first fault, as a sentence.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let mut commands = self.before.iter().chain(&self.after);
        let is_empty = |command: &&Vec<String>| command.first().is_none_or(String::is_empty);
        commands
            .find(is_empty)
            .map(|_| "a command of `hooks` is empty: it needs a program".to_owned())
    }
}

/// The commands of `after` that have not run yet. If this is dropped, all of them are started, and not waited for: the process is
/// about to end.
struct After {
    left: VecDeque<Vec<String>>,
    patience: Duration,
}

impl After {
    async fn run(&mut self) -> Option<String> {
        let mut failed = Vec::new();
        while let Some(command) = self.left.pop_front() {
            let report = hook::run(&command, self.patience, None).await;
            if report.status != Some(0) {
                failed.push(in_words(&report));
            }
        }
        (!failed.is_empty()).then(|| format!("`hooks.after`: {}", failed.join("; ")))
    }
}

impl Drop for After {
    fn drop(&mut self) {
        for command in std::mem::take(&mut self.left) {
            let Some((program, arguments)) = command.split_first() else { continue };
            let started =
                hook::plain(program, arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            if let Err(error) = started {
                tracing::error!(%program, %error, "a command of `hooks.after` could not be started");
            }
        }
    }
}

fn in_words(report: &HookReport) -> String {
    let program = report.command.first().map_or("", String::as_str);
    let end = report.status.map_or_else(String::new, |status| format!(" ended with {status}"));
    let output = report.output.lines().last().unwrap_or_default();
    if output.is_empty() { format!("{program}{end}") } else { format!("{program}{end}: {output}") }
}

/// Removes `hooks` from a source's table, before its kind reads the table.
pub(super) fn take(
    source: &SourceName,
    table: &mut DeTable<'_>,
) -> Result<BackupHooks, (String, std::ops::Range<usize>)> {
    let Some(value) = table.remove(KEY) else { return Ok(BackupHooks::default()) };
    let place = value.span();
    let fault = |why: String, place| (format!("source {source}: {why}"), place);
    if !matches!(value.get_ref(), DeValue::Table(_)) {
        return Err(fault(format!("`{KEY}` must be a table"), place));
    }
    let hooks = BackupHooks::deserialize(ValueDeserializer::from(value)).map_err(|error| {
        fault(error.message().to_owned(), error.span().unwrap_or_else(|| place.clone()))
    })?;
    match hooks.fault() {
        Some(why) => Err(fault(why, place)),
        None => Ok(hooks),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    fn hooks(before: &[&str], after: &[&str]) -> BackupHooks {
        let all = |scripts: &[&str]| scripts.iter().map(|script| shell(script)).collect();
        BackupHooks { before: all(before), after: all(after), ..BackupHooks::default() }
    }

    #[tokio::test]
    async fn what_follows_runs_whatever_came_before() {
        let home = tempfile::tempdir().unwrap();
        let log = home.path().join("log").display().to_string();
        let say = |word: &str| format!("echo {word} >> {log}");
        let cancel = CancellationToken::new();
        let good = hooks(&[&say("b1"), &say("b2")], &[&say("a1"), "echo why; exit 3", &say("a2")]);
        let between = good.around(&cancel, async { 7 }).await;
        assert_eq!(between.done, Ok(7));
        assert_eq!(between.after.as_deref(), Some("`hooks.after`: sh ended with 3: why"));
        let bad = hooks(&["exit 1", &say("b3")], &[&say("a3")]);
        let between = bad.around(&cancel, async { 7 }).await;
        assert_eq!(between.done, Err("`hooks.before`: sh ended with 1".to_owned()));
        assert_eq!(between.after, None);
        let words = std::fs::read_to_string(&log).unwrap();
        assert_eq!(words.split_whitespace().collect::<Vec<_>>(), ["b1", "b2", "a1", "a2", "a3"]);
    }

    #[tokio::test]
    async fn work_that_is_dropped_starts_what_follows() {
        let home = tempfile::tempdir().unwrap();
        let sign = home.path().join("sign");
        let hooks = hooks(&[], &[&format!("touch {}", sign.display())]);
        let cancel = CancellationToken::new();
        let work = hooks.around(&cancel, std::future::pending::<()>());
        assert!(tokio::time::timeout(Duration::from_millis(50), work).await.is_err());
        for _ in 0..500 {
            if sign.exists() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the command of `after` never ran");
    }
}
