//! `config`.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use kaleem_dr_core::{
    Site,
    ground::{Exit, SourceName},
    operate::{
        config::{TEMPLATE, schema},
        document::DOCUMENTS,
        serve,
    },
};
use serde_json::{Value, json};

use super::Outcome;
use crate::{
    context::{Context, SYSTEM_CONFIG},
    failure::Failure,
    output::{Printed, document, line},
};

/// Subcommands of `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check the config, and print its repositories and sources
    Check,
    /// Print the JSON schema of the config, or of what a command prints with --json
    Schema {
        /// Document: `status`, `backup`, `api-points` … [default: the config; `list` lists all]
        document: Option<String>,
    },
    /// Write a commented config as a starting point
    Init {
        /// Path of the new config; `-` prints it [default: that of --config, or else
        /// /etc/kaleem-dr/kaleem-dr.toml]
        path: Option<PathBuf>,
    },
}

pub fn config(context: &Context, command: ConfigCommand) -> Outcome {
    match command {
        ConfigCommand::Check => {
            let site = context.load()?;
            let warnings = site.check_config()?;
            print(&site, &warnings, context.global.json)?;
        }
        ConfigCommand::Schema { document: None } => {
            line(&serde_json::to_string_pretty(&schema(&kaleem_dr_sources::kinds()))?)?;
        }
        ConfigCommand::Schema { document: Some(name) } => print_schema(&name)?,
        ConfigCommand::Init { path: Some(path) } if path == Path::new("-") => {
            line(TEMPLATE.trim_end())?;
        }
        ConfigCommand::Init { path } => {
            let path = path
                .or_else(|| context.global.config.clone())
                .unwrap_or_else(|| SYSTEM_CONFIG.into());
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                fs::create_dir_all(parent)?;
            }
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(
                    |error| {
                        Failure::usage(format!(
                            "{}: {error}; the existing file is not overwritten",
                            path.display()
                        ))
                    },
                )?;
            file.write_all(TEMPLATE.as_bytes())?;
            let named = if path == Path::new(SYSTEM_CONFIG) {
                String::new()
            } else {
                format!(" --config {}", path.display())
            };
            line(&format!(
                "wrote {}; edit it, then run `kaleem-dr{named} config check`",
                path.display()
            ))?;
        }
    }
    Ok(Exit::Done)
}

/// Prints the schema of a document, or the names of all.
fn print_schema(name: &str) -> Printed {
    let all = || DOCUMENTS.iter().chain(&serve::DOCUMENTS);
    if name == "list" {
        return all().try_for_each(|document| line(document.name));
    }
    let found = all().find(|document| document.name == name).ok_or_else(|| {
        Failure::usage(format!(
            "no document is named `{name}`; `kaleem-dr config schema list` lists them"
        ))
    })?;
    line(&serde_json::to_string_pretty(&found.schema())?)
}

fn print(site: &Site, warnings: &[String], json: bool) -> Printed {
    let settings = &site.config().settings;
    let sources: Vec<(&SourceName, &str)> =
        site.config().sources.iter().map(|(name, source)| (name, source.kind)).collect();
    if json {
        let locations: serde_json::Map<String, Value> = settings
            .repository
            .iter()
            .map(|(name, repository)| (name.clone(), repository.location.clone().into()))
            .collect();
        let sources: serde_json::Map<String, Value> =
            sources.iter().map(|(name, kind)| (name.to_string(), (*kind).into())).collect();
        return document(&json!({
            "config": site.path(), "repositories": locations, "sources": sources, "warnings": warnings
        }));
    }
    line(&format!("{} is valid", site.path().display()))?;
    for (name, repository) in &settings.repository {
        line(&format!("  repository {name}: {}", repository.location))?;
    }
    sources.iter().try_for_each(|(name, kind)| line(&format!("  source {name}: {kind}")))?;
    warnings.iter().try_for_each(|warning| line(&format!("  warning: {warning}")))
}
