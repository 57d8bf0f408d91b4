//! `config`.

use clap::Subcommand;
use kaleem_dr_core::{
    Site,
    ground::{Exit, SourceName},
    operate::config::schema,
};
use serde_json::{Value, json};

use super::{Outcome, config_init};
use crate::{
    context::Context,
    output::{Printed, document, line},
};

/// Subcommands of `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check the config, and print its repositories and sources
    Check,
    /// Print the JSON schema of the config
    Schema,
    /// Write the first config, with its secrets: a password of the repository, and those that the sources need
    #[command(after_help = config_init::EXAMPLES)]
    Init(config_init::ConfigInit),
}

pub async fn config(context: &Context, command: ConfigCommand) -> Outcome {
    match command {
        ConfigCommand::Check => {
            let site = context.load()?;
            let warnings = site.check_config()?;
            print(&site, &warnings, context.global.json)?;
        }
        ConfigCommand::Schema => {
            line(&serde_json::to_string_pretty(&schema(&kaleem_dr_sources::kinds()))?)?;
        }
        ConfigCommand::Init(args) => config_init::init(context, args).await?,
    }
    Ok(Exit::Done)
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
