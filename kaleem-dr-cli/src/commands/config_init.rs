//! `config init`.

use std::{
    borrow::Cow,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf, absolute},
};

use clap::Args;
use kaleem_dr_core::{
    Site,
    operate::{
        config::{SourceKind, TEMPLATE, default_config, new_config_path, secret::Environment},
        first_config::{FirstConfig, SecretOrigin, Written},
    },
};
use serde_json::json;

use crate::{
    context::Context,
    failure::Failure,
    output::{Printed, document, line},
    secret_prompt,
    terminal::read_line,
};

pub const EXAMPLES: &str = "Examples:
  kaleem-dr config init --source files:/home --repository /srv/backup
  kaleem-dr config init --source files:/etc --source mongodb://backup@127.0.0.1/shop --source rabbitmq:http://admin@127.0.0.1:15672 \\
      --repository s3:https://HOST/BUCKET/PREFIX
  kaleem-dr config init             # asks for what is missing
Other kinds: qdrant:http://HOST:6333, n8n:DIRECTORY. Passwords are asked for without showing them, or are in files already.";

/// The repository that is proposed on a terminal.
const USUAL_REPOSITORY: &str = "/srv/backup";

/// Arguments of `config init`.
#[derive(Debug, Args)]
pub struct ConfigInit {
    /// Path of the new config; `-` prints an example [default: that of --config, or else
    /// /etc/kaleem-dr/kaleem-dr.toml; for a user $XDG_CONFIG_HOME/kaleem-dr/kaleem-dr.toml]
    path: Option<PathBuf>,
    /// Back this up; repeat it for several sources
    #[arg(long = "source", value_name = "KIND:PLACE")]
    sources: Vec<String>,
    /// Directory or bucket of the repository
    #[arg(long, value_name = "LOCATION")]
    repository: Option<String>,
    /// Write an example with every section, to be edited [default without a terminal, --source and --repository]
    #[arg(long, conflicts_with_all = ["sources", "repository"])]
    template: bool,
}

pub async fn init(context: &Context, args: ConfigInit) -> Printed {
    let environment = context.environment()?;
    let is_to_stdout = args.path.as_deref() == Some(Path::new("-"));
    if is_to_stdout && (!args.sources.is_empty() || args.repository.is_some()) {
        return Err(Failure::usage("`-` prints an example; --source and --repository need a file"));
    }
    if is_to_stdout {
        return line(TEMPLATE.trim_end());
    }
    let path = args.path.or_else(|| context.global.config.clone());
    let path = absolute(path.unwrap_or_else(|| new_config_path(&environment)))?;
    let is_bare = args.sources.is_empty() && args.repository.is_none();
    if args.template || is_bare && !io::stdin().is_terminal() {
        Site::example_config(&path)?;
        let command = command(&path, &environment);
        return line(&format!(
            "wrote {}; edit it, then run `{command} config check`",
            path.display()
        ));
    }
    let kinds = kaleem_dr_sources::kinds();
    let questions = Questions { context, environment: &environment, kinds: &kinds };
    let sources = if args.sources.is_empty() { questions.sources().await? } else { args.sources };
    let repository = match args.repository {
        Some(repository) => repository,
        None => questions.repository().await?,
    };
    let mut wanted = FirstConfig::new(path, repository);
    wanted.sources = sources;
    wanted.schema = installed_schema();
    let mut asking = secret_prompt::Asking::new(&context.cancel);
    let written = Site::first_config(&wanted, (&kinds, &environment), async |question| {
        asking.ask(question).await
    })
    .await;
    asking.end()?;
    print(&written?, &environment, context.global.json)
}

/// The schema that a package installs next to the program.
fn installed_schema() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let prefix = program.parent()?.parent()?;
    Some(prefix.join("share/kaleem-dr/kaleem-dr.schema.json")).filter(|path| path.is_file())
}

/// The program, with the config unless it is the default one.
fn command(config: &Path, environment: &Environment) -> String {
    if default_config(environment).is_some_and(|default| default == config) {
        return "kaleem-dr".to_owned();
    }
    format!("kaleem-dr --config {}", quoted(&config.display().to_string()))
}

/// A word for a shell. No path has a NUL, the only character that cannot be quoted.
fn quoted(text: &str) -> Cow<'_, str> {
    shlex::try_quote(text).unwrap_or(Cow::Borrowed(text))
}

/// Questions on a terminal.
struct Questions<'a> {
    context: &'a Context,
    environment: &'a Environment,
    kinds: &'a [SourceKind],
}

impl Questions<'_> {
    async fn ask(&self, question: &str) -> Result<String, Failure> {
        write!(io::stderr().lock(), "{question}: ")?;
        read_line(&self.context.cancel).await
    }

    /// Sources until an empty answer.
    async fn sources(&self) -> Result<Vec<String>, Failure> {
        if !io::stdin().is_terminal() {
            return Err(Failure::usage(
                "name the sources with --source, or run this on a terminal",
            ));
        }
        let drafted: Vec<_> =
            self.kinds.iter().filter_map(|kind| Some((kind.name(), kind.draft()?))).collect();
        let names = drafted.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        let mut sources = Vec::new();
        loop {
            let question = if sources.is_empty() {
                format!("Back up what? {names} [files]")
            } else {
                format!("And what else? {names} (empty: nothing)")
            };
            let kind = match self.ask(&question).await? {
                empty if empty.is_empty() && !sources.is_empty() => return Ok(sources),
                empty if empty.is_empty() => "files".to_owned(),
                kind => kind,
            };
            let Some((name, (form, drafting))) = drafted.iter().find(|(name, _)| *name == kind)
            else {
                writeln!(io::stderr().lock(), "unknown kind `{kind}`; the kinds are {names}")?;
                continue;
            };
            loop {
                let place = self.ask(&format!("Where? {form}")).await?;
                if place.is_empty() {
                    return Err(Failure::usage("without an answer, nothing is written"));
                }
                match drafting(&place, self.environment) {
                    Ok(_) => break sources.push(format!("{name}:{place}")),
                    Err(why) => writeln!(io::stderr().lock(), "{why}")?,
                }
            }
        }
    }

    async fn repository(&self) -> Result<String, Failure> {
        if !io::stdin().is_terminal() {
            return Err(Failure::usage(
                "name the repository with --repository, or run this on a terminal",
            ));
        }
        let question = format!(
            "Repository: a directory, or s3:https://HOST/BUCKET/PREFIX [{USUAL_REPOSITORY}]"
        );
        let answer = self.ask(&question).await?;
        Ok(if answer.is_empty() { USUAL_REPOSITORY.to_owned() } else { answer })
    }
}

fn print(written: &Written, environment: &Environment, json: bool) -> Printed {
    let program = command(&written.config, environment);
    let mut next = Vec::new();
    if !written.repository_exists {
        next.push(format!("{program} init"));
    }
    next.push(format!("{program} backup"));
    if json {
        return document(
            &json!({ "message_type": "config_written", "report": written, "next": next }),
        );
    }
    line(&format!("wrote {}", written.config.display()))?;
    for secret in &written.secrets {
        let (verb, what) = match secret.origin {
            SecretOrigin::Present => ("uses ", "it existed"),
            SecretOrigin::Random => ("wrote", "a random password"),
            SecretOrigin::Typed | SecretOrigin::Given => ("wrote", "mode 600"),
        };
        line(&format!("{verb} {} ({what})", secret.path.display()))?;
    }
    for warning in &written.warnings {
        line(&format!("warning: {warning}"))?;
    }
    if let Some(password) =
        written.secrets.iter().find(|secret| secret.origin == SecretOrigin::Random)
    {
        line(&format!(
            "keep a copy of {} elsewhere: without this password, the backups are lost",
            password.path.display()
        ))?;
    }
    line("next:")?;
    next.iter().try_for_each(|command| line(&format!("  {command}")))
}
