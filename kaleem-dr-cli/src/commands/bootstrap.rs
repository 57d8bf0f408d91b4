//! `bootstrap`.

use std::path::PathBuf;

use clap::Args;
use kaleem_dr_core::{
    Site,
    ground::{Exit, SourceName, error_chain, host::HostScope},
    operate::{
        bootstrap::{self, Bootstrapped, BucketKey, Placement},
        config::{
            new_config_path,
            secret::{Environment, SecretRef, SecretString},
        },
        doctor::DoctorReport,
    },
};

use super::{Outcome, doctor};
use crate::{
    context::Context,
    failure::Failure,
    output::{self, Printed, line, moment, table},
    secret_prompt,
};

pub const EXAMPLES: &str = "Examples:
  kaleem-dr bootstrap --from s3:https://HOST/BUCKET/PREFIX --password-file pass --key-id-file id --secret-key-file key
  kaleem-dr bootstrap --from /mnt/disk/restic --host db1 --passphrase-file passphrase
  kaleem-dr bootstrap --from /mnt/disk/restic --secret source.mongo.uri=mongo.uri
Secrets that are neither given nor sealed in the snapshot are asked for on a terminal. Then: kaleem-dr recover";

/// Arguments of `bootstrap`.
#[derive(Debug, Args)]
pub struct Bootstrap {
    /// Location of a repository: a directory, or s3:https://HOST/BUCKET/PREFIX
    #[arg(long, value_name = "LOCATION")]
    pub from: String,
    /// File with its password [default: `RESTIC_PASSWORD_FILE`, `RESTIC_PASSWORD`, then the terminal]
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// File with the id of the bucket's access key [default: `AWS_ACCESS_KEY_ID`]
    #[arg(long, value_name = "FILE", requires = "secret_key_file")]
    pub key_id_file: Option<PathBuf>,
    /// File with the secret part of that key [default: `AWS_SECRET_ACCESS_KEY`]
    #[arg(long, value_name = "FILE", requires = "key_id_file")]
    pub secret_key_file: Option<PathBuf>,
    /// Region of the bucket
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// PEM file of certificates to trust in addition to the system's, for the bucket's service
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// File with the passphrase of the sealed secrets
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// File with the secret that a key of the config refers to; repeatable
    #[arg(long = "secret", value_name = "KEY=FILE", value_parser = secret)]
    pub secrets: Vec<(String, PathBuf)>,
    /// Write all files of the installation below this directory
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Replace existing files that have other content
    #[arg(long)]
    pub replace: bool,
}

fn secret(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((key, file)) if !key.is_empty() && !file.is_empty() => {
            Ok((key.to_owned(), file.into()))
        }
        _ => Err("write KEY=FILE".to_owned()),
    }
}

pub async fn bootstrap(context: &Context, args: &Bootstrap) -> Outcome {
    let environment = context.environment()?;
    let wanted = args.options(context, &environment).await?;
    let mut asking = secret_prompt::Asking::new(&context.cancel);
    let done = Site::bootstrap(
        &wanted,
        (&kaleem_dr_sources::kinds(), &environment),
        &context.cancel,
        async |needed| {
            let question = format!("{} ({}; empty: leave it out)", needed.key, needed.place);
            asking.ask(&question).await
        },
    )
    .await;
    asking.end()?;
    let (done, found) = done?;
    let exit = if done.missing().next().is_some() { Exit::Partial } else { Exit::Done };
    print(&done, &found, context)?;
    Ok(exit)
}

impl Bootstrap {
    async fn options(
        &self,
        context: &Context,
        environment: &Environment,
    ) -> Result<bootstrap::Bootstrap, Failure> {
        let read = |path: &PathBuf| read(environment, &SecretRef::File(path.clone()));
        let password = match &self.password_file {
            Some(path) => read(path)?,
            None => password(context, environment).await?,
        };
        let config = context.global.config.clone().unwrap_or_else(|| new_config_path(environment));
        let config = std::path::absolute(config)?;
        let mut wanted = bootstrap::Bootstrap::from(self.from.clone(), password, config);
        let key = self.key_id_file.as_ref().zip(self.secret_key_file.as_ref());
        wanted.key = match key {
            Some((id, secret)) => Some(BucketKey::new(read(id)?, read(secret)?)),
            None => environment
                .get("AWS_ACCESS_KEY_ID")
                .zip(environment.get("AWS_SECRET_ACCESS_KEY"))
                .filter(|_| self.from.starts_with("s3:"))
                .map(|(id, secret)| BucketKey::new(id.to_owned().into(), secret.to_owned().into())),
        };
        wanted.region.clone_from(&self.region);
        wanted.ca_file.clone_from(&self.ca_file);
        wanted.host = match &context.global.host {
            Some(HostScope::One(host)) => Some(host.clone()),
            Some(HostScope::Any) => {
                return Err(Failure::usage(
                    "an installation is one host: replace --host any by its name",
                ));
            }
            None => None,
        };
        wanted.root = self.root.as_ref().map(std::path::absolute).transpose()?;
        wanted.replace = self.replace;
        wanted.passphrase = self.passphrase_file.as_ref().map(read).transpose()?;
        for (key, path) in &self.secrets {
            wanted.secrets.insert(key.clone(), read(path)?);
        }
        Ok(wanted)
    }
}

fn read(environment: &Environment, place: &SecretRef) -> Result<SecretString, Failure> {
    environment.secret(place).map_err(|error| Failure::usage(error_chain(&error)))
}

/// The password from restic's variables, or from the terminal.
async fn password(context: &Context, environment: &Environment) -> Result<SecretString, Failure> {
    if let Some(path) = environment.get("RESTIC_PASSWORD_FILE") {
        return read(environment, &SecretRef::File(path.into()));
    }
    if environment.get("RESTIC_PASSWORD").is_some() {
        return read(environment, &SecretRef::Env("RESTIC_PASSWORD".to_owned()));
    }
    let typed = secret_prompt::ask("password of the repository", &context.cancel).await?;
    typed.ok_or_else(|| {
        Failure::usage("name the file of the repository's password with --password-file")
    })
}

fn print(done: &Bootstrapped, found: &DoctorReport, context: &Context) -> Printed {
    if context.global.json {
        let mut value = serde_json::to_value(done)?;
        value["message_type"] = "bootstrap".into();
        value["next"] = done.next_command().into();
        value["findings"] = serde_json::to_value(&found.findings)?;
        return output::document(&value);
    }
    let mut hosts = table(["host", "points", "newest", "sources"]);
    for host in &done.hosts {
        let sources: Vec<&str> = host.sources.iter().map(SourceName::as_str).collect();
        hosts.add_row([
            host.host.clone(),
            host.points.to_string(),
            moment(host.newest),
            sources.join(", "),
        ]);
    }
    line(&hosts.to_string())?;
    line(&format!(
        "this machine continues as host {}, from its description of {}",
        done.host, done.described
    ))?;
    line(&format!(
        "wrote {}; it recovers from the repository {}",
        done.config.display(),
        done.repository
    ))?;
    for placed in &done.secrets {
        let secret = &placed.secret;
        let state = match placed.placement {
            Placement::Given | Placement::Typed => "written",
            Placement::Unsealed => "unsealed",
            Placement::Present => "present",
            Placement::Missing => "MISSING",
        };
        line(&format!("  {state:8} {} ({})", secret.key, secret.place))?;
        if placed.placement == Placement::Missing {
            line(&format!("           {}", secret.renewal))?;
        }
    }
    done.notes.iter().try_for_each(|note| line(&format!("  note: {note}")))?;
    line("")?;
    doctor::print(found, found.exit(false), context.global.verbose > 0, false)?;
    line(&format!("\nnext: {}", done.next_command()))?;
    Ok(())
}
