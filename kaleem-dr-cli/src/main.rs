//! `kaleem-dr`: parses arguments, calls the library, prints the report.

mod cli;
mod commands;
mod complete;
mod consent;
mod context;
mod failure;
mod global;
mod listening;
mod output;
mod point;
mod progress;
mod secret_prompt;
mod signals;
mod terminal;
mod values;

use std::process::ExitCode;

use clap::Parser as _;
use kaleem_dr_core::{CancellationToken, ground::Exit, operate::monitor::LogTail};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use self::{
    cli::Cli,
    context::Context,
    failure::Failure,
    global::{Global, LogFormat},
    signals::Signals,
};

/// glibc's allocator keeps large buffers that are freed, so that memory grew with the data; this
/// one returns them to the system.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    complete::answer();
    let cli = Cli::parse();
    // The files that we write are for their owner only; a restore sets each file's own mode.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let log = LogTail::default();
    log_to_stderr(&cli.global, &log);
    let json = cli.global.json;
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return end(&Failure::from(error), json),
    };
    let cancel = CancellationToken::new();
    let result = runtime.block_on(async {
        tokio::spawn(Signals::install()?.cancel(cancel.clone()));
        let command = commands::run(cli.command, Context::new(cli.global, cancel.clone(), log));
        signals::within(signals::COMMAND, &cancel, Box::pin(command)).await
    });
    if cancel.is_cancelled() {
        // Blocking threads that still read are not waited for.
        runtime.shutdown_background();
    }
    match result {
        Ok(exit) => ExitCode::from(exit.code()),
        // A failure that the cancellation caused.
        Err(failure) if cancel.is_cancelled() => {
            end(&Failure { exit: Exit::Cancelled, ..failure }, json)
        }
        Err(failure) => end(&failure, json),
    }
}

/// The log also goes into the tail, which notifications about the end of a job include.
fn log_to_stderr(global: &Global, tail: &LogTail) {
    use std::io::IsTerminal as _;
    let terminal = std::io::stderr().is_terminal();
    // Other crates never below `info`: at `debug`, the S3 signer prints its keys.
    let (others, ours) = match (global.quiet, global.verbose, terminal) {
        (true, ..) => ("error", "error"),
        // On a terminal, progress bars show it.
        (_, 0, true) => ("warn", "warn"),
        (_, 0, false) => ("warn", "info"),
        // rustic_core writes about its own cache and index.
        (_, 1, _) => ("warn", "info"),
        _ => ("info", "debug"),
    };
    let filter = EnvFilter::new(format!(
        "{others},kaleem_dr={ours},kaleem_dr_core={ours},kaleem_dr_sources={ours}"
    ));
    let tail = tail.clone();
    // Before the other layer: spans are formatted once, and without colours here.
    let kept = fmt::layer().with_writer(move || tail.clone()).with_target(false).with_ansi(false);
    let registry = tracing_subscriber::registry().with(filter).with(kept);
    match global.log_format {
        LogFormat::Json => registry
            .with(fmt::layer().json().with_writer(std::io::stderr).with_target(false))
            .init(),
        LogFormat::Text => {
            registry
                .with(
                    fmt::layer()
                        .with_writer(std::io::stderr)
                        .with_target(false)
                        .with_ansi(terminal),
                )
                .init();
        }
    }
}

fn end(failure: &Failure, json: bool) -> ExitCode {
    output::failure(failure, json);
    ExitCode::from(failure.exit.code())
}
