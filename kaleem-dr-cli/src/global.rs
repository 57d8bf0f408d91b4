//! Options that every command accepts.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use kaleem_dr_core::ground::host::HostScope;

/// Options that every command accepts.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Config file [default: /etc/kaleem-dr/kaleem-dr.toml, then $XDG_CONFIG_HOME/kaleem-dr/kaleem-dr.toml; for a user the other
    /// way round]
    #[arg(short, long, global = true, env = "KALEEM_DR_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// File of NAME=VALUE lines that override the environment; without a config file, the variables
    /// of restic and the handbook configure the run
    #[arg(long, global = true, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
    /// Repository of the config to use [default: `local`, or the only one]
    #[arg(long, global = true, value_name = "NAME")]
    pub repo: Option<String>,
    /// Host whose snapshots to use, or `any` [default: `host` in the config, or the machine's name]
    #[arg(long, global = true, env = "KALEEM_DR_HOST", value_name = "NAME")]
    pub host: Option<HostScope>,
    /// Print JSON, in restic's format where restic has one
    #[arg(long, global = true)]
    pub json: bool,
    /// Wait this long for another program's lock: 90s, 5m, 1h
    #[arg(long, global = true, value_name = "TIME", value_parser = duration, default_value = "0s")]
    pub retry_lock: Duration,
    /// Write no lock and ignore existing ones; only for commands that read, on a repository that
    /// cannot be written
    #[arg(long, global = true)]
    pub no_lock: bool,
    /// Log more; -vv for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Log errors only; jobs that end well print nothing
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Format of the logs on standard error
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// Log formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// Parses a time: `90s`, `5m` or `1h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| "write 90s, 5m or 1h".to_owned())?;
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("write 90s, 5m or 1h".to_owned()),
    };
    Ok(Duration::from_secs(number * unit))
}
