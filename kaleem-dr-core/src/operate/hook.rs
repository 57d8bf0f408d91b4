//! Commands of the operator that run after a restore, one after the other.
//!
//! A hook gets no input and none of our environment, which may hold passwords; it only gets a plain
//! `PATH`. It runs in a process group of its own, so that a time-out ends all of it.

use std::{ffi::OsStr, os::unix::process::CommandExt as _, process::Stdio, time::Duration};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
    task::JoinHandle,
    time::timeout,
};

use crate::{CancellationToken, recovery::source::HookReport};

/// `PATH` of the operator's commands.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Maximum output of a hook that is kept, in bytes; the end is kept.
const OUTPUT_LIMIT_BYTES: usize = 4 << 10;
/// Maximum time that the output may stay open after the hook ended, because a process that it
/// started may hold it.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(1);

/// Runs hooks in order, and stops at the first that fails; later hooks are reported as not run.
pub async fn run_hooks(
    hooks: &[Vec<String>],
    patience: Duration,
    cancel: &CancellationToken,
) -> Vec<HookReport> {
    let mut reports: Vec<HookReport> = Vec::with_capacity(hooks.len());
    for hook in hooks {
        let report = match reports.last() {
            Some(before) if before.status != Some(0) => {
                not_run(hook, "not run because an earlier hook failed")
            }
            _ => run(hook, patience, Some(cancel)).await,
        };
        reports.push(report);
    }
    reports
}

/// The report of a hook that was not run.
#[must_use]
pub fn not_run(command: &[String], why: &str) -> HookReport {
    HookReport { command: command.to_vec(), status: None, output: why.to_owned() }
}

/// Runs one hook. If this is dropped while the hook runs, the hook is killed; without a cancellation, it continues.
pub(super) async fn run(
    command: &[String],
    patience: Duration,
    cancel: Option<&CancellationToken>,
) -> HookReport {
    let Some((program, arguments)) = command.split_first() else {
        return not_run(command, "the command is empty");
    };
    let started = Command::from(plain(program, arguments))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(cancel.is_some())
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => return not_run(command, &format!("cannot start {program}: {error}")),
    };
    let group = child.id();
    let outputs = [child.stdout.take().map(tail), child.stderr.take().map(tail)];
    let (status, mut remark) = tokio::select! {
        ended = timeout(patience, child.wait()) => match ended {
            Ok(Ok(status)) => (status.code(), status.code().is_none().then(|| format!("ended by a signal ({status})"))),
            Ok(Err(error)) => (None, Some(format!("cannot wait for it: {error}"))),
            Err(_) => (None, Some(format!("killed because it still ran after {} s", patience.as_secs_f32()))),
        },
        () = cancelled(cancel) => (None, Some("killed because the operator cancelled".to_owned())),
    };
    if status.is_none() {
        end(&mut child, group).await;
    }
    let mut output = String::new();
    for mut reader in outputs.into_iter().flatten() {
        match timeout(OUTPUT_PATIENCE, &mut reader).await {
            Ok(Ok(text)) => output.push_str(&text),
            Ok(Err(panic)) => remark = Some(format!("cannot read its output: {panic}")),
            Err(_) => {
                reader.abort();
                output.push_str("[a process that it started still holds its output open]\n");
            }
        }
    }
    output.extend(remark);
    HookReport { command: command.to_vec(), status, output: output.trim_end().to_owned() }
}

/// A command with the plain environment of hooks and no input, in a process group of its own.
#[must_use]
pub fn plain(program: impl AsRef<OsStr>, arguments: &[String]) -> std::process::Command {
    let mut command = std::process::Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .process_group(0);
    command
}

async fn cancelled(cancel: Option<&CancellationToken>) {
    match cancel {
        Some(cancel) => cancel.cancelled().await,
        None => std::future::pending().await,
    }
}

async fn end(child: &mut Child, group: Option<u32>) {
    if let Some(group) = group.and_then(|id| i32::try_from(id).ok()) {
        // It may have ended just now; then there is nothing to kill.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    // Reaps the process. The report already says if it could not be waited for.
    let _ = child.wait().await;
}

/// Reads to the end and keeps the last bytes, at most 4 KiB.
pub fn tail(mut out: impl AsyncRead + Unpin + Send + 'static) -> JoinHandle<String> {
    tokio::spawn(async move {
        let mut kept = Vec::new();
        let mut buffer = vec![0; OUTPUT_LIMIT_BYTES];
        let mut cut = false;
        // A read error ends the output, as its end does.
        while let Ok(read @ 1..) = out.read(&mut buffer).await {
            kept.extend_from_slice(&buffer[..read]);
            if kept.len() > OUTPUT_LIMIT_BYTES {
                kept.drain(..kept.len() - OUTPUT_LIMIT_BYTES);
                cut = true;
            }
        }
        let text = String::from_utf8_lossy(&kept);
        if cut { format!("[…] {text}") } else { text.into_owned() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    async fn run_all(hooks: &[Vec<String>]) -> Vec<HookReport> {
        run_hooks(hooks, Duration::from_secs(20), &CancellationToken::new()).await
    }

    #[tokio::test]
    async fn hooks_run_in_order_until_one_fails() {
        let hooks = [
            shell("echo one; echo two >&2"),
            shell("echo bad config; exit 3"),
            shell("echo never"),
        ];
        let reports = run_all(&hooks).await;
        assert_eq!(reports[0].status, Some(0));
        assert_eq!(reports[0].output, "one\ntwo");
        assert_eq!((reports[1].status, reports[1].output.as_str()), (Some(3), "bad config"));
        assert_eq!(
            (reports[2].status, reports[2].output.as_str()),
            (None, "not run because an earlier hook failed")
        );
    }

    #[tokio::test]
    async fn a_hook_that_hangs_is_killed_with_what_it_started() {
        let hooks = [shell("echo begun; sleep 600 & sleep 600")];
        let reports =
            run_hooks(&hooks, Duration::from_millis(300), &CancellationToken::new()).await;
        assert_eq!(reports[0].status, None);
        assert!(reports[0].output.starts_with("begun\nkilled because it still ran"), "{reports:?}");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_and_a_flood_of_output_are_told() {
        let hooks = [
            shell("i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done"),
            vec!["/no/such/program".into()],
        ];
        let reports = run_all(&hooks).await;
        assert!(
            reports[0].output.len() < 2 * OUTPUT_LIMIT_BYTES
                && reports[0].output.ends_with("line 2999"),
            "{reports:?}"
        );
        assert!(reports[1].output.starts_with("cannot start /no/such/program"), "{reports:?}");
        let empty = run_all(&[Vec::new()]).await;
        assert_eq!(empty[0].status, None);
    }

    #[tokio::test]
    async fn a_hook_sees_nothing_of_our_environment() {
        let reports = run_all(&[shell("env | sort | cut -d= -f1 | tr '\\n' ' '")]).await;
        assert!(!reports[0].output.contains("CARGO"), "{reports:?}");
        assert!(reports[0].output.contains("PATH"), "{reports:?}");
    }
}
