//! Writes a config that does what the old jobs did. It refers to secrets in their old files, and
//! defines a new file for each secret that exists only as a variable.

// Writing to a String cannot fail: hence each `let _ = writeln!`.
use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use secrecy::SecretString;

use super::{
    Finding, Relation, below,
    legacy::{ENV_FILE, Legacy, LegacyJob},
    places::{Password, Places, quoted, quoted_path, reference},
};
use crate::operate::schedule::ScheduleSettings;

/// Directory of the new secret files.
const SECRETS: &str = "/etc/kaleem-dr";
/// Paths to back up if no variable names any.
const CONFIG_PATHS: [&str; 2] = ["/etc", "/opt/kaleem"];

/// A config, and the secrets that it needs in files.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Draft {
    /// TOML with comments. Contains no secrets.
    pub config: String,
    /// Files to write before the config works.
    pub secrets: Vec<DraftSecret>,
}

/// A secret that exists only as a variable, and its new file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DraftSecret {
    /// The new file, readable by its owner only.
    pub path: PathBuf,
    /// Content of the file; never printed.
    pub value: SecretString,
    /// The variable that has the secret.
    pub variable: String,
    /// The file of that variable.
    pub from: PathBuf,
}

/// Writes the config, section by section.
struct Writer<'a> {
    old: &'a Legacy,
    config: String,
    secrets: Vec<DraftSecret>,
    findings: Vec<Finding>,
}

impl Draft {
    /// The config for an old installation, and findings about what could not be migrated.
    pub(super) fn of(old: &Legacy, places: &Places, relation: &Relation) -> (Self, Vec<Finding>) {
        let mut writer =
            Writer { old, config: String::new(), secrets: Vec::new(), findings: Vec::new() };
        writer.head();
        writer.repositories(places, relation);
        writer.keeping(relation);
        writer.sources();
        writer.schedule(relation);
        writer.monitoring();
        (Self { config: writer.config, secrets: writer.secrets }, writer.findings)
    }
}

impl Writer<'_> {
    fn head(&mut self) {
        self.config.push_str(
            "# Made by `kaleem-dr migrate` from the old backup scripts. `kaleem-dr config check` checks it.\n\
             # It contains no secrets, only their locations.\n\n",
        );
        if self.old.root != Path::new("/") {
            for (key, path) in [
                ("state_directory", "/var/lib/kaleem-dr"),
                ("cache_directory", "/var/cache/kaleem-dr"),
            ] {
                let _ =
                    writeln!(self.config, "{key} = {}", quoted_path(&below(&self.old.root, path)));
            }
            self.config.push('\n');
        }
    }

    fn repositories(&mut self, places: &Places, relation: &Relation) {
        let password = match &places.password {
            Password::File(path) => reference(path),
            _ => self
                .secret("RESTIC_PASSWORD", "restic.pass")
                .unwrap_or_else(|| reference(&self.secret_path("restic.pass"))),
        };
        let _ = writeln!(
            self.config,
            "# The repository of the old jobs, with its history.\n[repository.local]\n{}",
            places.local_table(&password)
        );
        let is_mirror = matches!(relation, Relation::Mirror { .. });
        if let Some(table) = places.off_site_table(&password, is_mirror) {
            let why = match relation {
                Relation::Mirror { .. } => {
                    "Off site: a mirror, which `kaleem-dr replicate` updates object by object."
                }
                Relation::Own => {
                    "Off site: a repository with its own id, so each run copies to it."
                }
                _ => {
                    "Off site. It is unknown whether this is a mirror of `local`, so each run copies to it, and nothing is deleted."
                }
            };
            let _ = writeln!(self.config, "# {why}\n[repository.r2]\n{table}");
        }
    }

    fn keeping(&mut self, relation: &Relation) {
        self.config.push_str("[backup]\nforget = true\nprune = true\n");
        if matches!(relation, Relation::Own | Relation::Unknown { .. }) {
            self.config.push_str("also = [\"r2\"]\n");
        }
        self.config
            .push_str("\n[retention]   # per host and source; snapshots of the old jobs are kept, unless take_over = true\n");
        for (variable, option, key, usual) in [
            ("KEEP_DAILY", "--keep-daily", "keep_daily", 7),
            ("KEEP_WEEKLY", "--keep-weekly", "keep_weekly", 4),
            ("KEEP_MONTHLY", "--keep-monthly", "keep_monthly", 6),
        ] {
            let set =
                self.old.variables.get(variable).map(str::to_owned).or_else(|| self.option(option));
            let number = set.as_deref().and_then(|value| value.parse::<u32>().ok());
            if let (Some(_), None) = (&set, number) {
                self.findings.push(
                    Finding::error(
                        "retention",
                        format!("{variable} is not a number"),
                        "without it, the retention of backups is unknown",
                        "set it to a number",
                    )
                    .blocking(),
                );
            }
            let _ = writeln!(self.config, "{key} = {}", number.unwrap_or(usual));
        }
        if let Some(root) = self.old.variables.get("BACKUP_ROOT") {
            let directory = below(&self.old.root, root);
            let _ = writeln!(
                self.config,
                "\n[staged]   # each point as a plain file too, where the old jobs put theirs\ndirectory = {}",
                quoted_path(&directory)
            );
        }
    }

    /// The number after an option in a script.
    fn option(&self, option: &str) -> Option<String> {
        let commands = self.old.commands();
        let words: Vec<&str> =
            commands.iter().flat_map(|(_, line)| line.split_whitespace()).collect();
        let value = words
            .windows(2)
            .find(|pair| pair[0] == option)
            .map(|pair| pair[1].trim_matches(['"', '\'']).to_owned());
        value.filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()))
    }

    fn sources(&mut self) {
        self.mongo();
        self.qdrant();
        self.rabbitmq();
        self.n8n();
        self.files();
    }

    fn mongo(&mut self) {
        let Some(uri) = self.secret("MONGO_URI", "mongo.uri") else {
            if self.is_used(&["mongodump"]) {
                self.missing("MongoDB", "MONGO_URI");
            }
            return;
        };
        let _ = writeln!(self.config, "\n[source.mongo]\ntype = \"mongodb\"\nuri = {uri}");
        if let Some(uri) = self.secret("MONGO_RESTORE_URI", "mongo-restore.uri") {
            let _ = writeln!(self.config, "restore_uri = {uri}");
        } else {
            self.config.push_str("# restore_uri = { file = \"/etc/kaleem-dr/mongo-restore.uri\" }   # a login with the role `restore`, for restores only\n");
        }
        match self.old.variables.get("MONGO_MODE").unwrap_or("host") {
            "host" => {}
            "docker" => {
                let container = self.old.variables.get("MONGO_CONTAINER").unwrap_or("kaleem-mongo");
                let container = container.to_owned();
                self.in_container(&container);
            }
            _ => self.findings.push(
                Finding::error(
                    "mongo-mode",
                    "MONGO_MODE is neither `host` nor `docker`",
                    "without it, the connection to MongoDB is unknown",
                    "set it to one of them",
                )
                .blocking(),
            ),
        }
    }

    fn qdrant(&mut self) {
        let variables = &self.old.variables;
        if variables.first(&["QDRANT_URL", "QDRANT_CONTAINER"]).is_none()
            && !self.is_used(&[":6333", "/qdrant"])
        {
            return;
        }
        let url = variables.get("QDRANT_URL").unwrap_or("http://127.0.0.1:6333").to_owned();
        let _ = writeln!(
            self.config,
            "\n[source.qdrant]\ntype = \"qdrant\"\nurl = {}",
            quoted(url.trim_end_matches('/'))
        );
        self.container_unless("QDRANT_CONTAINER", &["QDRANT_URL"]);
        if let Some(key) = self.secret("QDRANT_API_KEY", "qdrant.key") {
            let _ = writeln!(self.config, "api_key = {key}");
        }
    }

    fn rabbitmq(&mut self) {
        let variables = &self.old.variables;
        let named = variables
            .first(&[
                "RABBIT_URL",
                "RABBIT_API",
                "RABBIT_CONTAINER",
                "RABBIT_PASS",
                "RABBIT_PASSWORD",
            ])
            .is_some();
        if !named && !self.is_used(&["/api/definitions"]) {
            return;
        }
        let url = variables
            .first(&["RABBIT_URL", "RABBIT_API"])
            .and_then(|name| variables.get(name))
            .unwrap_or("http://127.0.0.1:15672");
        let url = url
            .trim_end_matches('/')
            .trim_end_matches("/api/definitions")
            .trim_end_matches("/api")
            .to_owned();
        let user = variables.get("RABBIT_USER").unwrap_or("kaleem").to_owned();
        let Some(variable) = variables.first(&["RABBIT_PASS", "RABBIT_PASSWORD"]) else {
            return self.missing("RabbitMQ", "RABBIT_PASS");
        };
        let Some(password) = self.secret(variable, "rabbitmq.pass") else { return };
        let _ = writeln!(
            self.config,
            "\n[source.rabbitmq]\ntype = \"rabbitmq\"\nurl = {}\nusername = {}\npassword = {password}",
            quoted(&url),
            quoted(&user)
        );
        self.container_unless("RABBIT_CONTAINER", &["RABBIT_URL", "RABBIT_API"]);
    }

    /// The container that a variable names, unless another variable has the server's URL.
    fn container_unless(&mut self, container: &str, urls: &[&str]) {
        if self.old.variables.first(urls).is_none()
            && let Some(container) = self.old.variables.get(container).map(str::to_owned)
        {
            self.in_container(&container);
        }
    }

    fn in_container(&mut self, container: &str) {
        let _ = writeln!(self.config, "docker = {{ container = {} }}", quoted(container));
    }

    fn n8n(&mut self) {
        if self.old.variables.get("N8N_ENABLED").is_none_or(|enabled| enabled == "0") {
            self.config.push_str("\n# [source.n8n]   # disabled, as before\n# type = \"n8n\"\n# directory = \"/home/node/.n8n\"\n");
            return;
        }
        let Some(folder) = self.old.variables.get("N8N_USER_FOLDER") else {
            return self.missing("n8n", "N8N_USER_FOLDER");
        };
        let directory = below(&self.old.root, format!("{}/.n8n", folder.trim_end_matches('/')));
        let _ = writeln!(
            self.config,
            "\n[source.n8n]\ntype = \"n8n\"\ndirectory = {}",
            quoted_path(&directory)
        );
        if let Some(key) = self.secret("N8N_ENCRYPTION_KEY", "n8n.key") {
            let _ = writeln!(self.config, "encryption_key = {key}");
        }
    }

    fn files(&mut self) {
        let paths: Vec<PathBuf> = match self.old.variables.get("BACKUP_PATHS") {
            Some(paths) => paths
                .split([' ', ':'])
                .filter(|path| !path.is_empty())
                .map(|path| below(&self.old.root, path))
                .collect(),
            None => CONFIG_PATHS
                .iter()
                .map(|path| below(&self.old.root, path))
                .filter(|path| path.exists())
                .collect(),
        };
        let paths: Vec<String> = paths.iter().map(|path| quoted_path(path)).collect();
        let _ = writeln!(
            self.config,
            "\n[source.configs]\ntype = \"files\"\npaths = [{}]",
            paths.join(", ")
        );
    }

    fn schedule(&mut self, relation: &Relation) {
        self.config.push_str("\n[schedule]   # UTC; `kaleem-dr schedule print` shows the result\n");
        let usual = ScheduleSettings::default();
        for (job, key, usual) in [
            (LegacyJob::Backup, "backup", usual.backup),
            (LegacyJob::RestoreTest, "drill", usual.drill),
        ] {
            let when = self.old.when(job);
            if when.is_none() {
                self.unscheduled(job, key);
            }
            let _ = writeln!(self.config, "{key} = {}", quoted(&when.unwrap_or(usual).to_string()));
        }
        if matches!(relation, Relation::Mirror { .. }) {
            match self.old.when(LegacyJob::OffSite) {
                Some(when) => {
                    let _ = writeln!(self.config, "replicate = {}", quoted(&when.to_string()));
                }
                None => self.unscheduled(LegacyJob::OffSite, "replicate"),
            }
        }
    }

    /// Reports a time that exists but is unsupported.
    fn unscheduled(&mut self, job: LegacyJob, key: &str) {
        let line = self
            .old
            .cron
            .iter()
            .find(|line| LegacyJob::of(&line.command) == Some(job))
            .map(|line| line.fields.clone());
        let written =
            if job == LegacyJob::OffSite { self.old.calendar.clone().or(line) } else { line };
        if let Some(written) = written {
            self.findings.push(Finding::warning(
                "other-time",
                format!(
                    "the old time `{written}` of the job that is now `{key}` cannot be written in [schedule]"
                ),
                "the config uses the default time instead",
                "check whether the default time is suitable",
            ));
        }
    }

    fn monitoring(&mut self) {
        let Some(variable) = self.old.variables.first(&["RESTORE_HC_URL", "HC_URL"]) else {
            return;
        };
        if let Some(url) = self.secret(variable, "healthchecks.url") {
            let _ = writeln!(
                self.config,
                "\n# [monitoring.healthchecks]   # the check that the old restore test pinged\n# url = {url}"
            );
        }
    }

    /// A reference to a secret that exists as a variable: to its new file.
    fn secret(&mut self, variable: &str, file: &str) -> Option<String> {
        let (value, from) = self.old.variables.secret(variable)?;
        let path = self.secret_path(file);
        let reference = reference(&path);
        self.secrets.push(DraftSecret {
            path,
            value,
            variable: variable.to_owned(),
            from: from.to_path_buf(),
        });
        Some(reference)
    }

    fn secret_path(&self, file: &str) -> PathBuf {
        below(&self.old.root, Path::new(SECRETS).join(file))
    }

    fn is_used(&self, words: &[&str]) -> bool {
        self.old.commands().iter().any(|(_, line)| words.iter().any(|word| line.contains(word)))
    }

    fn missing(&mut self, service: &str, variable: &str) {
        self.findings.push(
            Finding::error(
                "missing-value",
                format!(
                    "the old scripts back {service} up, but no file that was read sets {variable}"
                ),
                "without it, the config would leave the service out, unnoticed until a restore",
                &format!("set {variable} in {ENV_FILE}, and run this command again"),
            )
            .blocking(),
        );
    }
}
