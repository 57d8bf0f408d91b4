//! healthchecks.io and compatible servers, by their HTTP API
//! (<https://healthchecks.io/docs/http_api/>).
//!
//! A ping is a POST to the check's URL, followed by `/start`, `/log` or an exit status; `rid` pairs
//! a start with its end. Whoever knows the URL can ping the check, so the URL is a secret and never
//! printed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, stream};
use reqwest::{Client, Url};

use super::{Delivery, HealthchecksSettings, post, tail::end_of};
use crate::{
    engine::ledger::EventKind,
    ground::{RunId, error_chain},
    operate::config::secret::{Environment, ExposeSecret as _, SecretString},
};

/// Maximum body size until a server has reported its own (`PING_BODY_LIMIT` of a server with
/// default settings), in bytes.
const BODY_BYTES: usize = 10_000;
/// Header in which a server reports its limit.
const LIMIT_HEADER: &str = "ping-body-limit";
/// Maximum number of concurrent pings.
const AT_ONCE: usize = 8;

/// The checks of a config.
#[derive(Clone)]
pub(crate) struct Healthchecks {
    client: Client,
    checks: Checks,
    log: bool,
    body_bytes: Arc<AtomicUsize>,
    pub(crate) timeout: Duration,
}

#[derive(Clone)]
enum Checks {
    One(SecretString),
    Each(BTreeMap<String, SecretString>),
    Slugs { server: String, key: SecretString, create: bool },
}

/// The state of a job that a ping reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Start,
    /// An exit status; 0 is success.
    End(u8),
    Fail,
    /// Is recorded, but does not change the check's state.
    Log,
}

impl Signal {
    fn path(self) -> String {
        match self {
            Self::Start => "start".into(),
            Self::End(code) => code.to_string(),
            Self::Fail => "fail".into(),
            Self::Log => "log".into(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ping {
    /// Name of the check: `backup`, `backup/mongo`.
    pub(crate) check: String,
    pub(crate) signal: Signal,
    pub(crate) body: String,
}

impl Healthchecks {
    /// Reads the secrets. A check whose secret cannot be read is left out, and the second value has
    /// a sentence about it.
    pub(crate) fn new(
        settings: &HealthchecksSettings,
        environment: &Environment,
    ) -> Result<(Self, Vec<String>), String> {
        let mut missing = Vec::new();
        let checks = if let Some(url) = &settings.url {
            Checks::One(environment.secret(url).map_err(|error| error_chain(&error))?)
        } else if let Some(key) = &settings.ping_key {
            let key = environment.secret(key).map_err(|error| error_chain(&error))?;
            Checks::Slugs {
                server: settings.base_url.trim_end_matches('/').to_owned(),
                key,
                create: settings.create,
            }
        } else {
            let mut each = BTreeMap::new();
            for (name, secret) in &settings.checks {
                match environment.secret(secret) {
                    Ok(url) => _ = each.insert(name.clone(), url),
                    Err(error) => {
                        missing.push(format!("the check of {name}: {}", error_chain(&error)));
                    }
                }
            }
            Checks::Each(each)
        };
        let timeout = Duration::from_secs(settings.timeout_seconds);
        let body_bytes = Arc::new(AtomicUsize::new(BODY_BYTES));
        Ok((
            Self { client: post::client(timeout)?, checks, log: settings.log, body_bytes, timeout },
            missing,
        ))
    }

    /// Reports whether all jobs share one check.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.checks, Checks::One(_))
    }

    /// Reports whether checks are identified by slugs, so that any name may exist.
    pub(crate) fn has_slugs(&self) -> bool {
        matches!(self.checks, Checks::Slugs { .. })
    }

    /// The configured checks of a job and its parts, from these names.
    pub(crate) fn of(&self, names: impl IntoIterator<Item = String>) -> BTreeSet<String> {
        names
            .into_iter()
            .filter(|name| match &self.checks {
                Checks::One(_) => !name.contains('/'),
                Checks::Each(each) => each.contains_key(name),
                Checks::Slugs { .. } => true,
            })
            .collect()
    }

    /// The checks that a test pings.
    pub(crate) fn tested(&self) -> Vec<String> {
        match &self.checks {
            Checks::Each(each) => each.keys().cloned().collect(),
            Checks::One(_) | Checks::Slugs { .. } => vec![EventKind::Backup.word().to_owned()],
        }
    }

    /// Sends pings, and returns the result of each.
    pub(crate) async fn send(&self, run: Option<RunId>, pings: Vec<Ping>) -> Vec<Delivery> {
        let sent = stream::iter(pings).map(|ping| async move {
            let result = self.ping(run, &ping).await;
            Delivery {
                recipient: format!("healthchecks, check of {}", ping.check),
                error: result.err(),
            }
        });
        sent.buffered(AT_ONCE).collect().await
    }

    async fn ping(&self, run: Option<RunId>, ping: &Ping) -> Result<(), String> {
        let url = self.address(&ping.check, ping.signal, run).ok_or("invalid URL")?;
        let body = if self.log {
            end_of(&ping.body, self.body_bytes.load(Ordering::Relaxed)).to_owned()
        } else {
            String::new()
        };
        let (headers, text) = post::send(self.client.post(url).body(body)).await?;
        // The API answers 200 to URLs of checks that do not exist.
        if text.contains("not found") {
            return Err("the check does not exist".into());
        }
        let limit =
            headers.get(LIMIT_HEADER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        if let Some(limit) = limit {
            self.body_bytes.store(limit, Ordering::Relaxed);
        }
        Ok(())
    }

    fn address(&self, check: &str, signal: Signal, run: Option<RunId>) -> Option<Url> {
        let (url, create) = match &self.checks {
            Checks::One(url) => (url.expose_secret().to_owned(), false),
            Checks::Each(each) => (each.get(check)?.expose_secret().to_owned(), false),
            Checks::Slugs { server, key, create } => {
                (format!("{server}/{}/{}", key.expose_secret(), slug(check)), *create)
            }
        };
        let mut url: Url = url.trim().parse().ok()?;
        if !matches!(url.scheme(), "http" | "https") {
            return None;
        }
        url.path_segments_mut().ok()?.pop_if_empty().push(&signal.path());
        if create {
            url.query_pairs_mut().append_pair("create", "1");
        }
        if let Some(run) = run {
            url.query_pairs_mut().append_pair("rid", &run.as_uuid());
        }
        Some(url)
    }
}

/// The slug of a name: `kaleem-dr-backup-mongo` for `backup/mongo`. Slugs consist of lower-case
/// letters, digits, `-` and `_`.
fn slug(check: &str) -> String {
    let name = check.chars().map(|c| c.to_ascii_lowercase());
    let name: String =
        name.map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
    format!("kaleem-dr-{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(checks: &str) -> Healthchecks {
        let environment: Environment = [
            ("ONE", "https://hc-ping.com/0b8a/"),
            ("KEY", "k3y"),
            ("MONGO", "http://hc.example/ping/1?x=1"),
        ]
        .into_iter()
        .collect();
        Healthchecks::new(&toml::from_str(checks).unwrap(), &environment).unwrap().0
    }

    #[test]
    fn addresses_are_those_of_the_api() {
        let run: RunId = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        let rid = "rid=01563e3a-b5d3-d676-4c61-efb99302bd5b";
        let said = |healthchecks: &Healthchecks, check, signal| {
            healthchecks.address(check, signal, Some(run)).map(String::from)
        };
        let one = with("url = { env = \"ONE\" }");
        assert_eq!(
            said(&one, "backup", Signal::Start),
            Some(format!("https://hc-ping.com/0b8a/start?{rid}"))
        );
        assert_eq!(
            one.of(["backup".to_owned(), "backup/mongo".to_owned()]).len(),
            1,
            "parts have no check of their own"
        );
        let slugs = with("ping_key = { env = \"KEY\" }\ncreate = true");
        assert_eq!(
            said(&slugs, "backup/mongo", Signal::End(3)),
            Some(format!("https://hc-ping.com/k3y/kaleem-dr-backup-mongo/3?create=1&{rid}"))
        );
        let each = with("checks = { \"backup/mongo\" = { env = \"MONGO\" } }");
        assert_eq!(
            each.address("backup/mongo", Signal::Log, None).unwrap().as_str(),
            "http://hc.example/ping/1/log?x=1"
        );
        assert!(each.of(["backup".to_owned()]).is_empty());
    }

    #[test]
    fn a_check_whose_secret_is_missing_leaves_the_others_alone() {
        let settings: HealthchecksSettings =
            toml::from_str("checks = { backup = { env = \"A\" }, drill = { env = \"B\" } }")
                .unwrap();
        let environment: Environment = [("B", "https://h/1")].into_iter().collect();
        let (healthchecks, missing) = Healthchecks::new(&settings, &environment).unwrap();
        assert_eq!(healthchecks.tested(), ["drill"]);
        assert!(
            missing[0].contains("the check of backup") && missing[0].contains("variable A"),
            "{missing:?}"
        );
    }
}
