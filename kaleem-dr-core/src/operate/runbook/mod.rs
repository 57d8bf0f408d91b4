//! The runbook: recovery instructions for everything in a config, as commands that work on this
//! host now.
//!
//! It is made from the live config, so names, locations and addresses are real; it contains no
//! secrets, only their locations. The same text is in every snapshot as `/RESTORE.md`, in both
//! languages, for people who have nothing else. So each section explains how to restore with
//! kaleem-dr, and how with restic and the service's own tools.

mod words;

use std::{fmt::Write as _, path::Path};

use self::words::Words;
use crate::{
    engine::repository::Location,
    ground::{SourceName, language::Language},
    operate::config::{
        Config, SYSTEM_CONFIG,
        secret::{Environment, SecretRef},
    },
    recovery::source::Restorable,
};

/// Directory that the commands of a runbook restore snapshots to.
const RESTORED: &str = "/tmp/restored";

/// The runbook of a config.
#[derive(Clone, Debug)]
pub struct Runbook {
    english: String,
    arabic: String,
}

/// A repository in the runbook.
struct Place {
    name: String,
    location: String,
    password: SecretRef,
    mirror_of: Option<String>,
    is_bucket: bool,
}

impl Runbook {
    /// Builds the runbook of a config. `path` is the path of the config. For sources whose secrets
    /// cannot be read now, it contains the instructions that need no secrets.
    #[must_use]
    pub fn of(config: &Config, environment: &Environment, path: &Path) -> Self {
        let places: Vec<Place> = config
            .settings
            .repository
            .iter()
            .map(|(name, settings)| {
                let location = settings.location(environment);
                Place {
                    name: name.clone(),
                    is_bucket: !matches!(location, Ok(Location::Directory(_))),
                    location: location
                        .map_or_else(|_| settings.location.clone(), |location| location.in_words()),
                    password: settings.password.clone(),
                    mirror_of: settings.mirror_of.clone(),
                }
            })
            .collect();
        let guides = |language| -> Vec<(SourceName, &str, Option<String>)> {
            let guide = |name: &SourceName| {
                let declared = config.sources.get(name)?;
                let guide = declared
                    .make(environment)
                    .ok()
                    .and_then(|source| Restorable::guide(&*source, language, RESTORED));
                Some((name.clone(), declared.kind, guide))
            };
            config.backup_sources().iter().filter_map(guide).collect()
        };
        let text = |language| written(Words::of(language), path, &places, &guides(language));
        Self { english: text(Language::En), arabic: text(Language::Ar) }
    }

    /// The runbook in one language, as Markdown.
    #[must_use]
    pub fn text(&self, language: Language) -> &str {
        match language {
            Language::En => &self.english,
            Language::Ar => &self.arabic,
        }
    }

    /// The runbook in both languages, as stored in snapshots.
    #[must_use]
    pub fn restore_md(&self) -> String {
        format!("{}\n---\n\n<div dir=\"rtl\">\n\n{}\n</div>\n", self.english, self.arabic)
    }
}

fn written(
    words: &Words,
    path: &Path,
    places: &[Place],
    sources: &[(SourceName, &str, Option<String>)],
) -> String {
    let mut text = String::new();
    let main = places.iter().find(|place| place.name == "local").or(places.first());
    let stock = main.map_or_else(|| "REPOSITORY".to_owned(), |place| place.location.clone());
    // Writing to a string cannot fail, here and below.
    let _ = write!(text, "# {}\n\n{}\n\n{}\n\n", words.title, words.opening, words.config(path));
    // Every command of the runbook then uses this config, also `bootstrap`, which writes it.
    if path.is_absolute() && path != Path::new(SYSTEM_CONFIG) {
        code(&mut text, &[format!("export KALEEM_DR_CONFIG={}", path.display())]);
    }
    the_day_itself(&mut text, words, places);
    let _ = write!(
        text,
        "## {}\n\n| {} | {} | {} | |\n|---|---|---|---|\n",
        words.repositories, words.name, words.place, words.password
    );
    for place in places {
        let mirror = place.mirror_of.as_ref().map(|of| words.mirror_of(of)).unwrap_or_default();
        let _ = writeln!(
            text,
            "| {} | `{}` | {} | {mirror} |",
            place.name,
            place.location,
            words.secret(&place.password)
        );
    }
    let _ = write!(text, "\n{}\n\n", words.look);
    code(&mut text, &["kaleem-dr points", "kaleem-dr status", "kaleem-dr snapshots"]);
    let _ = write!(text, "{}\n\n", words.stock);
    code(&mut text, &stock_commands(main, &stock));
    for (name, kind, guide) in sources {
        let _ = write!(text, "## {name} ({kind})\n\n{}\n\n", words.restore);
        let (beside, in_place) =
            (format!("kaleem-dr restore {name}"), format!("kaleem-dr restore {name} --in-place"));
        let (plan, older) = (
            format!("kaleem-dr restore {name} --dry-run"),
            format!("kaleem-dr restore {name} --point RUN"),
        );
        let with = |command: &str, why: &str| format!("{command:<44} # {why}");
        code(
            &mut text,
            &[
                &with(&plan, words.plan),
                &with(&beside, words.beside),
                &with(&older, words.older),
                &with(&in_place, words.in_place),
            ],
        );
        match guide {
            Some(guide) => {
                let _ = write!(text, "{}\n\n{}\n\n", words.by_hand, guide.trim());
            }
            None => {
                let _ = write!(text, "{}\n\n", words.no_guide);
            }
        }
    }
    everything(&mut text, words, places, sources);
    let _ = write!(text, "## {}\n\n{}\n\n", words.afterwards, words.afterwards_text);
    code(&mut text, &["kaleem-dr check", "kaleem-dr backup", "kaleem-dr drill"]);
    text
}

/// The recovery of a lost machine: from each repository, replicas first.
fn the_day_itself(text: &mut String, words: &Words, places: &[Place]) {
    let _ = write!(text, "## {}\n\n{}\n\n", words.lost_machine, words.lost_machine_text);
    let mut from: Vec<&Place> = places.iter().collect();
    from.sort_by_key(|place| (!place.is_bucket, place.mirror_of.is_none()));
    for place in from {
        let _ = write!(text, "{}\n\n", words.new_machine_from(&place.name));
        code(text, &[bootstrap_command(place)]);
    }
    let _ = write!(text, "{}\n\n", words.then_recover);
    code(text, &["kaleem-dr recover --dry-run", "kaleem-dr recover", "kaleem-dr status"]);
}

/// The command that reads the installation from a repository.
fn bootstrap_command(place: &Place) -> String {
    let password = match &place.password {
        SecretRef::File(path) => path.display().to_string(),
        _ => "PASSWORD".to_owned(),
    };
    let mut command =
        format!("kaleem-dr bootstrap --from {} --password-file {password}", place.location);
    if place.is_bucket {
        command.push_str(" --key-id-file ID --secret-key-file KEY");
    }
    command
}

fn stock_commands(main: Option<&Place>, location: &str) -> Vec<String> {
    let mut commands = Vec::new();
    if let Some(place) = main {
        if place.is_bucket {
            commands.push("export AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=…".to_owned());
        }
        match &place.password {
            SecretRef::File(path) => {
                commands.push(format!("export RESTIC_PASSWORD_FILE={}", path.display()));
            }
            _ => commands.push("export RESTIC_PASSWORD_FILE=…".to_owned()),
        }
    }
    commands.push(format!("restic -r {location} snapshots"));
    commands.push(format!("restic -r {location} restore SNAPSHOT --target {RESTORED}"));
    commands
}

/// Instructions to restore everything from each repository, and a lost repository from its mirror.
fn everything(
    text: &mut String,
    words: &Words,
    places: &[Place],
    sources: &[(SourceName, &str, Option<String>)],
) {
    let _ = write!(text, "## {}\n\n", words.everything);
    for place in places {
        let _ = write!(text, "{}\n\n", words.from(&place.name));
        let commands: Vec<String> = sources
            .iter()
            .map(|(name, ..)| format!("kaleem-dr --repo {} restore {name}", place.name))
            .collect();
        code(text, &commands);
    }
    for place in places {
        if let Some(of) = &place.mirror_of {
            let _ = write!(text, "{}\n\n", words.lost(of, &place.name));
            code(
                text,
                &[
                    format!("kaleem-dr replicate --from {} --to {of}", place.name),
                    format!("kaleem-dr --repo {of} check"),
                ],
            );
        }
    }
}

fn code(text: &mut String, commands: &[impl AsRef<str>]) {
    for command in commands {
        let _ = writeln!(text, "    {}", command.as_ref());
    }
    text.push('\n');
}
