//! Completions: a shell runs this program with the words that were typed, and it prints the candidates.
//!
//! Names of sources and repositories come from the config, points from the repository. A completion asks for nothing, writes
//! nothing and takes no lock; where something cannot be read in time, there are no candidates.

use std::{ffi::OsString, time::Duration};

use clap::{Arg, Command, CommandFactory as _};
use clap_complete::{
    CompleteEnv,
    engine::{ArgValueCandidates, CompletionCandidate},
};
use kaleem_dr_core::{
    CancellationToken, Site,
    engine::repository::Snapshot,
    operate::{config::secret::SecretRef, monitor::LogTail, site::SnapshotFilter},
};

use crate::{
    cli::Cli,
    commands::completions::VARIABLE,
    context::Context,
    global::{Global, LogFormat},
};

/// Time to read a repository in.
const PATIENCE: Duration = Duration::from_secs(3);
/// Snapshots that are offered, newest first.
const OFFERED: usize = 50;

/// Prints completions and ends the program, if a shell asks for them.
pub fn answer() {
    CompleteEnv::with_factory(|| with_values(Cli::command())).var(VARIABLE).complete();
}

/// Connects options and arguments, which are known by their ids and the names of their values, with their candidates.
fn with_values(command: Command) -> Command {
    let name = command.get_name().to_owned();
    let connected = command.mut_args(|arg| match candidates(&name, &arg) {
        Some(candidates) => arg.add(candidates),
        None => arg,
    });
    connected.mut_subcommands(with_values)
}

fn candidates(command: &str, arg: &Arg) -> Option<ArgValueCandidates> {
    let value = arg.get_value_names().and_then(<[_]>::first).map_or("", |name| name.as_str());
    // The new name of what is restored.
    if command == "restore" && arg.get_id() == "to" {
        return None;
    }
    Some(match (arg.get_id().as_str(), value) {
        ("sources" | "source" | "only", "SOURCES" | "SOURCE" | "NAME") => {
            ArgValueCandidates::new(sources)
        }
        ("repo" | "from" | "to", "NAME") | ("mirrors" | "copy_chunker_params", _) => {
            ArgValueCandidates::new(repositories)
        }
        ("host", "NAME") => ArgValueCandidates::new(hosts),
        ("point" | "snapshot", "ID") => ArgValueCandidates::new(points),
        ("of" | "old" | "new", _) => ArgValueCandidates::new(points_and_sources),
        ("snapshots", "SNAPSHOT") => ArgValueCandidates::new(snapshots),
        _ => return None,
    })
}

fn sources() -> Vec<CompletionCandidate> {
    let Some(site) = site() else { return Vec::new() };
    let sources = site.config().sources.iter();
    sources.map(|(name, source)| candidate(name.as_str(), source.kind)).collect()
}

fn repositories() -> Vec<CompletionCandidate> {
    let Some(site) = site() else { return Vec::new() };
    let repositories = site.config().settings.repository.iter();
    repositories.map(|(name, repository)| candidate(name, &repository.location)).collect()
}

fn hosts() -> Vec<CompletionCandidate> {
    let mut hosts: Vec<String> =
        listed().iter().map(|snapshot| snapshot.host().to_owned()).collect();
    hosts.sort();
    hosts.dedup();
    let any = candidate("any", "all hosts");
    hosts.iter().map(|host| candidate(host, "host")).chain([any]).collect()
}

fn snapshots() -> Vec<CompletionCandidate> {
    listed().iter().map(of_snapshot).collect()
}

fn points() -> Vec<CompletionCandidate> {
    let newest = [
        candidate("latest", "the newest point"),
        candidate("latest~1", "the point before the newest"),
    ];
    newest.into_iter().chain(snapshots()).collect()
}

fn points_and_sources() -> Vec<CompletionCandidate> {
    points().into_iter().chain(sources()).collect()
}

fn of_snapshot(snapshot: &Snapshot) -> CompletionCandidate {
    let source =
        snapshot.source().map_or_else(|| snapshot.program().to_owned(), |name| name.to_string());
    let time = snapshot.time().strftime("%F %T");
    candidate(&snapshot.id().short(), &format!("{time} {source} {}", snapshot.host()))
}

fn candidate(value: &str, help: &str) -> CompletionCandidate {
    CompletionCandidate::new(value).help(Some(help.to_owned().into()))
}

/// The snapshots of the repository, newest first.
fn listed() -> Vec<Snapshot> {
    let Some(site) = site() else { return Vec::new() };
    let asks = |secret: &SecretRef| matches!(secret, SecretRef::Command(_));
    let Ok((_, repository)) = site.chosen_repository() else { return Vec::new() };
    let secrets = [&repository.access_key_id, &repository.secret_access_key];
    // A command may ask the operator for something.
    if asks(&repository.password) || secrets.into_iter().flatten().any(asks) {
        return Vec::new();
    }
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().enable_all().build() else {
        return Vec::new();
    };
    let site = site.without_locks();
    let filter = SnapshotFilter::default();
    let reading = async { tokio::time::timeout(PATIENCE, site.snapshots(&filter)).await };
    let read = runtime.block_on(reading);
    runtime.shutdown_background();
    let mut snapshots = read.ok().and_then(Result::ok).unwrap_or_default();
    snapshots.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.time().timestamp()));
    snapshots.truncate(OFFERED);
    snapshots
}

/// The installation that the typed words mean.
fn site() -> Option<Site> {
    let words: Vec<OsString> =
        std::env::args_os().skip_while(|word| word != "--").skip(1).collect();
    let global = global(&words);
    Context::new(global, CancellationToken::new(), LogTail::default()).read_config().ok()
}

/// The global options among the words; an incomplete command line cannot be parsed as a whole.
fn global(words: &[OsString]) -> Global {
    let value = |long: &str, short: Option<&str>| {
        let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
        words.iter().enumerate().find_map(|(at, word)| {
            if *word == long || Some(*word) == short {
                return words.get(at + 1).map(|value| (*value).to_owned());
            }
            word.strip_prefix(long)?.strip_prefix('=').map(str::to_owned)
        })
    };
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    Global {
        config: value("--config", Some("-c"))
            .or_else(|| variable("KALEEM_DR_CONFIG"))
            .map(Into::into),
        env_file: value("--env-file", None).map(Into::into),
        repo: value("--repo", None),
        // Snapshots of every host are offered.
        host: None,
        json: false,
        retry_lock: Duration::ZERO,
        no_lock: true,
        verbose: 0,
        quiet: true,
        log_format: LogFormat::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_repository_and_point_of_the_command_line_has_candidates() {
        fn walk(command: &Command, found: &mut Vec<String>) {
            for arg in
                command.get_arguments().filter(|arg| candidates(command.get_name(), arg).is_some())
            {
                found.push(format!("{} {}", command.get_name(), arg.get_id()));
            }
            command.get_subcommands().for_each(|command| walk(command, found));
        }
        let mut found = Vec::new();
        walk(&with_values(Cli::command()), &mut found);
        for wanted in [
            "kaleem-dr repo",
            "kaleem-dr host",
            "backup sources",
            "verify sources",
            "verify point",
            "verify snapshot",
            "restore source",
            "restore point",
            "drill sources",
            "drill point",
            "export source",
            "export point",
            "ls of",
            "dump of",
            "diff old",
            "diff new",
            "diff source",
            "find source",
            "find point",
            "forget snapshots",
            "pin snapshots",
            "unpin snapshots",
            "copy to",
            "copy sources",
            "copy snapshots",
            "replicate mirrors",
            "replicate from",
            "replicate to",
            "recover only",
            "recover point",
            "snapshots source",
            "oplog sources",
            "acknowledge sources",
            "init copy_chunker_params",
        ] {
            assert!(found.iter().any(|found| found == wanted), "{wanted}: {found:?}");
        }
        assert!(!found.iter().any(|found| found == "bootstrap from" || found == "restore to"));
    }

    #[test]
    fn the_options_before_the_cursor_are_used() {
        let words = ["kaleem-dr", "--config", "/a.toml", "verify", "--repo=r2", ""];
        let global = global(&words.map(OsString::from));
        assert_eq!(global.config, Some("/a.toml".into()));
        assert_eq!(global.repo.as_deref(), Some("r2"));
    }
}
