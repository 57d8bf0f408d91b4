//! The jobs of a config as `CronJobs` of Kubernetes, with a service of metrics.
//!
//! The config becomes a `ConfigMap` in which every secret is a credential, a file of one Secret that
//! is mounted into the jobs. The Secret itself is not written: its values are not in the config. The
//! jobs run as an ordinary user without capabilities, on a read-only root.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::{Job, JobKind, Plan, ScheduleError, yaml};
use crate::operate::config::{Config, secret::SecretRef};

/// The name of everything that is written, or its beginning.
const NAME: &str = "kaleem-dr";
/// The user of the image.
const USER: u32 = 65_532;
const CONFIG_DIRECTORY: &str = "/etc/kaleem-dr";
const CREDENTIALS: &str = "/run/credentials/kaleem-dr";
const PORT: u16 = 9469;
/// Limit for the name of a `CronJob`: Kubernetes adds 11 characters to it.
const LONGEST_NAME: usize = 52;

/// Options of the manifests.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Kubernetes {
    /// The image of the program.
    pub image: String,
    /// Namespace of all objects; `None` leaves it to `kubectl`.
    pub namespace: Option<String>,
    /// The state directory is on a persistent claim. Without it, each job begins without a history:
    /// proofs and alarms are then only in the repository.
    pub keeps_state: bool,
}

impl Kubernetes {
    /// Manifests for this image, with state on a claim.
    pub fn of(image: impl Into<String>) -> Self {
        Self { image: image.into(), namespace: None, keeps_state: true }
    }
}

/// Manifests, with what the operator has to do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Manifests {
    /// YAML documents.
    pub text: String,
    /// Warnings for the operator, one sentence each.
    pub warnings: Vec<String>,
}

/// Writes the manifests of a plan.
///
/// # Errors
/// [`ScheduleError::Settings`] if the config cannot be written, or a name is too long.
pub fn manifests(
    plan: &Plan,
    config: &Config,
    wanted: &Kubernetes,
) -> Result<Manifests, ScheduleError> {
    let secrets = Secrets::of(&config.effective);
    let mut table = secrets.table.clone();
    let host = config.settings.host_name().to_string();
    table.insert("host".into(), toml::Value::String(host.clone()));
    let text = toml::to_string(&table).map_err(|error| {
        ScheduleError::Settings(format!("the config cannot be written: {error}"))
    })?;
    let pods = Pods { plan, config, wanted, host: &host };
    let mut objects =
        vec![pods.object("v1", "ConfigMap", NAME, json!({ "data": { "kaleem-dr.toml": text } }))];
    if wanted.keeps_state {
        objects.push(pods.claim("state", "5Gi"));
    }
    for (name, _, size) in pods.directories() {
        objects.push(pods.claim(&name, size));
    }
    for job in &plan.jobs {
        objects.push(pods.cron_job(job)?);
    }
    objects.extend(pods.metrics());
    let head = format!(
        "# Made by `kaleem-dr schedule print --kubernetes` for host {host}.\n{}",
        secrets.instructions(wanted.namespace.as_deref())
    );
    Ok(Manifests {
        text: format!("{head}{}", yaml::documents(&objects)),
        warnings: pods.warnings(),
    })
}

/// The config with credentials only, and the files that become them.
struct Secrets {
    table: toml::Table,
    /// The origin of each credential, by its name.
    origins: BTreeMap<String, SecretRef>,
}

impl Secrets {
    fn of(effective: &toml::Table) -> Self {
        let mut secrets = Self { table: effective.clone(), origins: BTreeMap::new() };
        let mut value = toml::Value::Table(std::mem::take(&mut secrets.table));
        secrets.replace("", &mut value);
        if let toml::Value::Table(table) = value {
            secrets.table = table;
        }
        secrets
    }

    fn replace(&mut self, key: &str, value: &mut toml::Value) {
        match value {
            toml::Value::Table(table) => {
                if let Some(secret) = reference(table) {
                    let name = self.name_of(key, secret);
                    *table = [("credential".to_owned(), toml::Value::String(name))]
                        .into_iter()
                        .collect();
                    return;
                }
                for (inner, value) in table.iter_mut() {
                    let dot = if key.is_empty() { "" } else { "." };
                    self.replace(&format!("{key}{dot}{inner}"), value);
                }
            }
            toml::Value::Array(values) => {
                values.iter_mut().for_each(|value| self.replace(key, value));
            }
            _ => {}
        }
    }

    /// The name of a secret's credential, which is also its key in the Secret.
    fn name_of(&mut self, key: &str, secret: SecretRef) -> String {
        if let Some((name, _)) = self.origins.iter().find(|(_, origin)| **origin == secret) {
            return name.clone();
        }
        let wanted = if let SecretRef::Credential(name) = &secret { name } else { key };
        let plain: String = wanted
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '-' })
            .collect();
        let mut name = plain.clone();
        for number in 2.. {
            if !self.origins.contains_key(&name) {
                break;
            }
            name = format!("{plain}-{number}");
        }
        self.origins.insert(name.clone(), secret);
        name
    }

    /// The command that creates the Secret, as comments.
    fn instructions(&self, namespace: Option<&str>) -> String {
        let of = namespace.map_or_else(String::new, |namespace| format!(" -n {namespace}"));
        let mut text = format!(
            "# The secrets of the config are files of one Secret. Create it before the jobs run:\n\
             #   kubectl create secret generic {NAME}{of}"
        );
        for (name, origin) in &self.origins {
            let from = match origin {
                SecretRef::File(path) => path.display().to_string(),
                SecretRef::Env(variable) => format!("FILE_WITH_{variable}"),
                SecretRef::Credential(credential) => format!("FILE_WITH_{credential}"),
                // The image has no such program, so its output becomes a file too.
                SecretRef::Command(_) => format!("FILE_WITH_{name}"),
            };
            // Writing to a String cannot fail.
            let _ = write!(text, " \\\n#     --from-file={name}={from}");
        }
        text.push('\n');
        text
    }
}

/// The secret that a table refers to, if it is a reference.
fn reference(table: &toml::Table) -> Option<SecretRef> {
    let mut entries = table.iter();
    let (Some((kind, value)), None) = (entries.next(), entries.next()) else { return None };
    match (kind.as_str(), value) {
        ("file", toml::Value::String(path)) => Some(SecretRef::File(path.into())),
        ("env", toml::Value::String(name)) => Some(SecretRef::Env(name.clone())),
        ("credential", toml::Value::String(name)) => Some(SecretRef::Credential(name.clone())),
        ("command", toml::Value::Array(words)) => {
            let words = words.iter().map(|word| word.as_str().map(str::to_owned));
            Some(SecretRef::Command(words.collect::<Option<_>>()?))
        }
        _ => None,
    }
}

/// The common inputs of all pods.
struct Pods<'a> {
    plan: &'a Plan,
    config: &'a Config,
    wanted: &'a Kubernetes,
    host: &'a str,
}

impl Pods<'_> {
    fn object(&self, version: &str, kind: &str, name: &str, rest: Value) -> Value {
        let mut object = rest;
        object["apiVersion"] = version.into();
        object["kind"] = kind.into();
        object["metadata"] = json!({ "name": name, "labels": labels(None) });
        if let Some(namespace) = &self.wanted.namespace {
            object["metadata"]["namespace"] = namespace.clone().into();
        }
        object
    }

    fn claim(&self, name: &str, size: &str) -> Value {
        let spec = json!({
            "accessModes": ["ReadWriteOnce"],
            "resources": { "requests": { "storage": size } },
        });
        self.object(
            "v1",
            "PersistentVolumeClaim",
            &format!("{NAME}-{name}"),
            json!({ "spec": spec }),
        )
    }

    /// The directories outside of state and cache that jobs write to: repositories and staged files.
    fn directories(&self) -> Vec<(String, PathBuf, &'static str)> {
        let scratch = &self.config.settings.scratch_directory;
        let textfile = self.config.settings.monitoring.prometheus.textfile.as_deref();
        let written = self.plan.writes.iter().filter(|path| {
            scratch.as_ref() != Some(*path) && textfile.and_then(Path::parent) != Some(path)
        });
        let numbered = written.enumerate();
        numbered.map(|(at, path)| (format!("data-{}", at + 1), path.clone(), "100Gi")).collect()
    }

    fn cron_job(&self, job: &Job) -> Result<Value, ScheduleError> {
        let name = format!("{NAME}-{}", job.name.replace('_', "-").to_ascii_lowercase());
        if name.len() > LONGEST_NAME {
            return Err(ScheduleError::Settings(format!(
                "`{name}` is longer than the {LONGEST_NAME} characters that a CronJob can have; choose a shorter name for the repository"
            )));
        }
        let mut args = vec!["--config".to_owned(), format!("{CONFIG_DIRECTORY}/kaleem-dr.toml")];
        args.extend(["--retry-lock".to_owned(), "2h".to_owned()]);
        args.extend(job.args.iter().cloned());
        let pod = json!({
            "metadata": { "labels": labels(Some(&job.name)) },
            "spec": self.pod(&args, "Never", None),
        });
        // A change log is saved every few minutes: a missed slice is part of the next one.
        let deadline = if job.kind == JobKind::Oplog { 120 } else { 3600 };
        Ok(self.object(
            "batch/v1",
            "CronJob",
            &name,
            json!({ "spec": {
                "schedule": job.when.cron_fields(),
                "timeZone": self.plan.zone.to_string().replace("UTC", "Etc/UTC").replace("Etc/Etc/", "Etc/"),
                "concurrencyPolicy": "Forbid",
                "startingDeadlineSeconds": deadline,
                "successfulJobsHistoryLimit": 3,
                "failedJobsHistoryLimit": 5,
                "jobTemplate": { "spec": {
                    // A job that failed is reported, and runs again at its next time.
                    "backoffLimit": 0,
                    "activeDeadlineSeconds": 24 * 3600,
                    "template": pod,
                } },
            } }),
        ))
    }

    /// A deployment that serves the metrics of the fleet, and its service.
    fn metrics(&self) -> [Value; 2] {
        let name = format!("{NAME}-metrics");
        let args = [
            "--config".to_owned(),
            format!("{CONFIG_DIRECTORY}/kaleem-dr.toml"),
            "fleet".to_owned(),
            "serve".to_owned(),
            "--listen".to_owned(),
            format!("0.0.0.0:{PORT}"),
        ];
        let deployment = json!({ "spec": {
            "replicas": 1,
            "selector": { "matchLabels": labels(Some("metrics")) },
            "strategy": { "type": "Recreate" },
            "template": {
                "metadata": { "labels": labels(Some("metrics")) },
                "spec": self.pod(&args, "Always", Some(PORT)),
            },
        } });
        let service = json!({ "spec": {
            "selector": labels(Some("metrics")),
            "ports": [{ "name": "metrics", "port": PORT, "targetPort": "metrics", "protocol": "TCP" }],
        } });
        let mut service = self.object("v1", "Service", &name, service);
        service["metadata"]["labels"] = labels(Some("metrics"));
        [self.object("apps/v1", "Deployment", &name, deployment), service]
    }

    /// The pod of a job, or of the metrics if it has a port. The metrics only read repositories, so
    /// they need no state.
    fn pod(&self, args: &[String], restart: &str, port: Option<u16>) -> Value {
        let settings = &self.config.settings;
        let mut volumes = vec![
            json!({ "name": "config", "configMap": { "name": NAME } }),
            // Readable by the group of the volumes only, which is that of the user.
            json!({ "name": "credentials", "secret": { "secretName": NAME, "defaultMode": 0o440 } }),
            json!({ "name": "cache", "emptyDir": {} }),
            json!({ "name": "tmp", "emptyDir": {} }),
        ];
        let mut mounts = vec![
            json!({ "name": "config", "mountPath": CONFIG_DIRECTORY, "readOnly": true }),
            json!({ "name": "credentials", "mountPath": CREDENTIALS, "readOnly": true }),
            json!({ "name": "cache", "mountPath": settings.cache_directory }),
            json!({ "name": "tmp", "mountPath": "/tmp" }),
        ];
        let mut add = |name: &str, volume: Value, path: &Path, read_only: bool| {
            let mut volume = volume;
            volume["name"] = name.into();
            volumes.push(volume);
            let mut mount = json!({ "name": name, "mountPath": path });
            if read_only {
                mount["readOnly"] = true.into();
            }
            mounts.push(mount);
        };
        let claim = |name: &str| json!({ "persistentVolumeClaim": { "claimName": format!("{NAME}-{name}") } });
        let is_metrics = port.is_some();
        if !is_metrics {
            let state =
                if self.wanted.keeps_state { claim("state") } else { json!({ "emptyDir": {} }) };
            add("state", state, &settings.state_directory, false);
            // Scratch targets are as large as the data, so they are not in the state.
            add("scratch", json!({ "emptyDir": {} }), &settings.scratch(), false);
        }
        for (name, path, _) in self.directories() {
            add(&name, claim(&name), &path, is_metrics);
        }
        let mut container = json!({
            "name": NAME,
            "image": self.wanted.image,
            "args": args,
            "env": [{ "name": "CREDENTIALS_DIRECTORY", "value": CREDENTIALS }],
            "volumeMounts": mounts,
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": { "drop": ["ALL"] },
            },
            "resources": {
                "requests": { "cpu": "100m", "memory": "128Mi" },
                "limits": { "memory": "512Mi" },
            },
        });
        if let Some(port) = port {
            container["ports"] =
                json!([{ "name": "metrics", "containerPort": port, "protocol": "TCP" }]);
            container["readinessProbe"] =
                json!({ "httpGet": { "path": "/healthz", "port": "metrics" } });
        }
        json!({
            "restartPolicy": restart,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [container],
            "volumes": volumes,
        })
    }

    /// Warnings about needs that the manifests cannot provide for.
    fn warnings(&self) -> Vec<String> {
        let settings = &self.config.settings;
        let mut warnings = Vec::new();
        if settings.host.is_none() {
            warnings.push(format!(
                "the config has no `host`, so the jobs save as {}, the name of this machine",
                self.host
            ));
        }
        let mounted: Vec<PathBuf> = self
            .directories()
            .into_iter()
            .map(|(_, path, _)| path)
            .chain([
                settings.state_directory.clone(),
                settings.cache_directory.clone(),
                settings.scratch(),
            ])
            .collect();
        let references = crate::operate::config::References::in_table(&self.config.effective);
        for path in &references.paths {
            if !mounted.iter().any(|mount| path.starts_with(mount)) {
                warnings.push(format!(
                    "the config names {}, which is not in the pods: add a volume to the jobs that need it",
                    path.display()
                ));
            }
        }
        for (name, repository) in &settings.repository {
            let is_bucket = repository.location.starts_with("s3:");
            if is_bucket && repository.access_key_id.is_none() {
                warnings.push(format!(
                    "repository {name} takes its key from variables that the pods do not have: set `access_key_id` and `secret_access_key`"
                ));
            }
            if repository.location.starts_with("rclone:") {
                warnings.push(format!(
                    "repository {name} is a remote of rclone's config, which is not in the pods: write its location as s3:"
                ));
            }
        }
        warnings
    }
}

fn labels(component: Option<&str>) -> Value {
    let mut labels = json!({ "app.kubernetes.io/name": NAME });
    if let Some(component) = component {
        labels["app.kubernetes.io/component"] = component.into();
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_secret_becomes_a_credential_with_a_name_of_its_own() {
        let config: toml::Table = "host = \"db1\"\n[repository.local]\npassword = { file = \"/etc/restic.pass\" }\n\
            [repository.r2]\npassword = { file = \"/etc/restic.pass\" }\naccess_key_id = { env = \"KEY\" }\n\
            [[monitoring.webhook]]\nurl = { file = \"/a\" }\n[[monitoring.webhook]]\nurl = { file = \"/b\" }\n\
            [source.mongo]\ntype = \"mongodb\"\nuri = { credential = \"mongo uri\" }\n"
            .parse()
            .unwrap();
        let secrets = Secrets::of(&config);
        let names: Vec<&str> = secrets.origins.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "mongo-uri",
                "monitoring.webhook.url",
                "monitoring.webhook.url-2",
                "repository.local.password",
                "repository.r2.access_key_id"
            ]
        );
        let text = toml::to_string(&secrets.table).unwrap();
        for gone in ["/etc/restic.pass", "env =", "file ="] {
            assert!(!text.contains(gone), "{gone}: {text}");
        }
        assert_eq!(text.matches("credential = \"repository.local.password\"").count(), 2, "{text}");
    }
}
