//! `config`.

use clap::Subcommand;
use kaleem_dr_core::{
    Site,
    ground::{Exit, SourceName},
    operate::{config::schema, document::DOCUMENTS, serve},
};
use serde_json::{Value, json};

use super::{Outcome, config_init};
use crate::{
    context::Context,
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
        ConfigCommand::Schema { document: None } => {
            line(&serde_json::to_string_pretty(&schema(&kaleem_dr_sources::kinds()))?)?;
        }
        ConfigCommand::Schema { document: Some(name) } => print_schema(&name)?,
        ConfigCommand::Init(args) => config_init::init(context, args).await?,
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
