//! Options of every command.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use kaleem_dr_core::ground::host::HostScope;

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Config file [default: /etc/kaleem-dr/kaleem-dr.toml, then $XDG_CONFIG_HOME/kaleem-dr/kaleem-dr.toml]
    #[arg(short, long, global = true, env = "KALEEM_DR_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// File of NAME=VALUE lines to lay over the environment; without a config, the variables of restic and the handbook make one
    #[arg(long, global = true, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
    /// Repository of the config to use
    #[arg(long, global = true, value_name = "NAME")]
    pub repo: Option<String>,
    /// The host that is meant, or `any` [default: `host` of the config, else the machine's name]
    #[arg(long, global = true, env = "KALEEM_DR_HOST", value_name = "NAME")]
    pub host: Option<HostScope>,
    /// Print JSON, in restic's shapes where restic has one
    #[arg(long, global = true)]
    pub json: bool,
    /// Wait this long for another tool's lock: 90s, 5m, 1h
    #[arg(long, global = true, value_name = "TIME", value_parser = duration, default_value = "0s")]
    pub retry_lock: Duration,
    /// Write no lock and mind none: for commands that only read, from a place that takes no writes
    #[arg(long, global = true)]
    pub no_lock: bool,
    /// Tell more; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Tell errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// How logs are written to standard error
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// Formats of logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

fn duration(text: &str) -> Result<Duration, String> {
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
