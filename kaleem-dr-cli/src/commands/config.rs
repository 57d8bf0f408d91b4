//! `config`, `completions`, `man`.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use clap::CommandFactory as _;
use clap_complete::Shell;
use kaleem_dr_core::{
    ground::{Exit, error_chain},
    operate::config::{TEMPLATE, schema},
};

use super::Outcome;
use crate::{
    args::{Cli, ConfigCommand},
    context::Context,
    failure::Failure,
    output,
};

pub fn config(context: &Context, command: ConfigCommand) -> Outcome {
    match command {
        ConfigCommand::Check => {
            let loaded = context.load()?;
            if let Some(contradiction) = loaded.config.settings.contradictions().into_iter().next() {
                return Err(Failure::usage(format!("{}: {contradiction}", loaded.path.display())));
            }
            // Secrets are read too: a config whose password file is missing is not right.
            for name in loaded.config.settings.repository.keys() {
                let settings = &loaded.config.settings;
                settings.repository[name]
                    .access(&settings.cache_directory, &loaded.environment)
                    .map_err(|error| Failure::usage(format!("repository {name}: {}", error_chain(&error))))?;
            }
            for (key, secret) in loaded.config.settings.monitoring.secrets() {
                loaded.environment.secret(secret).map_err(|error| Failure::usage(format!("`{key}`: {}", error_chain(&error))))?;
            }
            output::config(&loaded, context.global.json)?;
        }
        ConfigCommand::Schema => output::line(&serde_json::to_string_pretty(&schema(&kaleem_dr_sources::kinds()))?)?,
        ConfigCommand::Init { path } if path == Path::new("-") => output::line(TEMPLATE.trim_end())?,
        ConfigCommand::Init { path } => {
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                fs::create_dir_all(parent)?;
            }
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
                .map_err(|error| Failure::usage(format!("{}: {error}; it is not written over", path.display())))?;
            file.write_all(TEMPLATE.as_bytes())?;
            output::line(&format!("wrote {}; edit it, then run `kaleem-dr config check`", path.display()))?;
        }
    }
    Ok(Exit::Done)
}

pub fn completions(shell: Shell) -> Exit {
    clap_complete::generate(shell, &mut Cli::command(), "kaleem-dr", &mut std::io::stdout());
    Exit::Done
}

pub fn man() -> Outcome {
    clap_mangen::Man::new(Cli::command()).render(&mut std::io::stdout())?;
    Ok(Exit::Done)
}
