//! `key list`, `key add`, `key remove`, `key passwd`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use console::Term;
use kaleem_dr_core::{
    Site,
    engine::repository::{KeyInfo, KeyOwner, RepositoryError},
    ground::{Exit, error_chain, host::HostScope},
    operate::{
        config::secret::{ExposeSecret as _, SecretRef, SecretString},
        site::KeyChange,
    },
};
use serde_json::{Value, json};

use super::Outcome;
use crate::{
    context::Context,
    failure::Failure,
    output::{Printed, document, entries::local, line, table},
};

/// Subcommands of `key`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// List the keys, and mark the current one
    List,
    /// Add a password
    Add {
        #[command(flatten)]
        new: NewPassword,
    },
    /// Remove a key; the current one and the last one cannot be removed
    Remove {
        /// Key to remove, by id prefix
        id: String,
    },
    /// Change the current password
    Passwd {
        #[command(flatten)]
        new: NewPassword,
    },
}

/// Source and owner of a new password; the key also records `--host`. Without a file, the password
/// comes from `KALEEM_DR_NEW_PASSWORD` or a prompt.
#[derive(Debug, Args)]
pub struct NewPassword {
    /// File with the new password, readable by its owner only [default: `$KALEEM_DR_NEW_PASSWORD`, or
    /// a prompt]
    #[arg(long, value_name = "FILE")]
    pub new_password_file: Option<PathBuf>,
    /// User to record in the key [default: the current user]
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
}

/// Variable that holds the new password if no file is given.
const VARIABLE: &str = "KALEEM_DR_NEW_PASSWORD";

pub async fn key(context: &Context, command: &KeyCommand) -> Outcome {
    let (site, json) = (context.load()?, context.global.json);
    let given = |new: &NewPassword| {
        Ok::<_, Failure>((new_password(context, &site, new)?, owner(context, new)))
    };
    let (done, change) = match command {
        KeyCommand::List => {
            print_list(&site.keys().await?, json)?;
            return Ok(Exit::Done);
        }
        KeyCommand::Add { new } => {
            let (password, owner) = given(new)?;
            ("added", site.add_key(&password, &owner).await?)
        }
        KeyCommand::Remove { id } => ("removed", site.remove_key(id).await?),
        KeyCommand::Passwd { new } => {
            let (password, owner) = given(new)?;
            ("changed", site.change_password(&password, &owner).await?)
        }
    };
    print_changed(done, &change, json)?;
    Ok(Exit::Done)
}

fn owner(context: &Context, new: &NewPassword) -> KeyOwner {
    let here = KeyOwner::here();
    let host = match &context.global.host {
        Some(HostScope::One(host)) => host.to_string(),
        _ => here.host,
    };
    KeyOwner::new(new.user.clone().unwrap_or(here.user), host)
}

/// Never read from the command line, which other users can see.
fn new_password(
    context: &Context,
    site: &Site,
    new: &NewPassword,
) -> Result<SecretString, Failure> {
    let from = match &new.new_password_file {
        Some(path) => Some(SecretRef::File(path.clone())),
        None => site
            .environment()
            .names_with(VARIABLE)
            .any(|name| name == VARIABLE)
            .then(|| SecretRef::Env(VARIABLE.to_owned())),
    };
    if let Some(from) = from {
        return site
            .environment()
            .secret(&from)
            .map_err(|error| Failure::usage(error_chain(&error)));
    }
    let terminal = Term::stderr();
    if !terminal.is_term() {
        let mut failure =
            Failure::usage("there is no new password, and no terminal to ask for one");
        failure.advice = Some(format!("name a file with --new-password-file, or set {VARIABLE}"));
        return Err(failure);
    }
    let ask = |what: &str| -> Result<SecretString, Failure> {
        terminal.write_str(what)?;
        Ok(SecretString::from(terminal.read_secure_line()?))
    };
    let (first, second) = (ask("new password: ")?, ask("repeat the password: ")?);
    if context.cancel.is_cancelled() {
        return Err(RepositoryError::Cancelled.into());
    }
    if first.expose_secret() != second.expose_secret() {
        return Err(Failure::usage("the passwords do not match; nothing was changed"));
    }
    Ok(first)
}

fn print_list(keys: &[KeyInfo], json: bool) -> Printed {
    // In local time, as restic prints it.
    let created = |key: &KeyInfo| key.created.map(local).unwrap_or_default();
    if json {
        let keys: Vec<Value> = keys
            .iter()
            .map(|key| {
                let mut line = json!({
                    "current": key.current,
                    "id": key.id.short(),
                    "userName": key.owner.user,
                    "hostName": key.owner.host,
                    "created": created(key),
                });
                if let Some(problem) = &key.problem {
                    line["problem"] = problem.as_str().into();
                }
                line
            })
            .collect();
        return document(&keys);
    }
    let mut rows = table(["", "key", "user", "host", "created"]);
    for key in keys {
        let mark = if key.current { "*" } else { "" };
        rows.add_row([mark, key.id.short(), &key.owner.user, &key.owner.host, &created(key)]);
    }
    line(&rows.to_string())
}

/// Prints the change of a key, as text or as JSON; `others` is the number of other keys that open
/// the repository.
fn print_changed(done: &str, change: &KeyChange, json: bool) -> Printed {
    let KeyChange { key, others, .. } = change;
    if json {
        return document(
            &json!({ "message_type": "key", "action": done, "id": key.short(), "other_keys": others }),
        );
    }
    let done = if done == "changed" { "the password is changed:" } else { done };
    line(&format!("{done} key {}; {others} other keys open the repository", key.short()))
}
