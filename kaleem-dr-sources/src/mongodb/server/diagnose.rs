//! Checks for `doctor`: why a login is refused, whether the clocks agree, and whether the user for
//! restores can write.

use bson::{Document, doc};
use jiff::{SignedDuration, Timestamp};
use kaleem_dr_core::{
    engine::source::Probe,
    ground::{
        SourceError, SourceName,
        diagnosis::{Diagnosis, Severity},
        error_chain,
    },
    operate::config::secret::SecretRef,
    recovery::source::{ChangeLog as _, LogExtent, diagnosis_of_probe},
};

use super::{connection::Connection, listing::Scope, probe::missing_actions};
use crate::mongodb::{config::MongoConfig, dump::slice::Oplog, restore::rights};

/// An oplog that covers less than this is rarely enough for a night's capture.
const WINDOW: SignedDuration = SignedDuration::from_hours(2);
/// Age of the newest entry from which a member lags behind.
const LAG: SignedDuration = SignedDuration::from_mins(2);

/// The parts of a source that are examined.
pub(crate) struct Patient<'a> {
    pub name: &'a SourceName,
    pub config: &'a MongoConfig,
    pub scope: &'a Scope,
    pub reader: &'a Connection,
    pub writer: &'a Connection,
}

impl Patient<'_> {
    /// All findings about a source, including those of the probe.
    pub(crate) async fn diagnose(&self, probe: Result<Probe, SourceError>) -> Vec<Diagnosis> {
        if let Some(refused) =
            login_refused(self.name, self.reader, &self.config.uri, probe.as_ref().err())
        {
            return vec![refused];
        }
        let mut found = diagnosis_of_probe(self.name, &probe);
        if probe.is_err() {
            return found;
        }
        found.extend(password(self.name, self.reader, Severity::Information));
        let (clock, rights, oplog) =
            tokio::join!(clock(self.reader), self.restore_rights(), self.oplog());
        found.extend(clock);
        found.extend(oplog);
        found.extend(rights);
        found
    }

    /// The time that the oplog covers, which limits long captures and pauses between slices.
    async fn oplog(&self) -> Option<Diagnosis> {
        let oplog = Oplog { connection: self.reader, scope: self.scope };
        match oplog.extent().await {
            Ok(extent) => Some(judged_window(self.name, extent, Timestamp::now())),
            // The probe describes the topology.
            Err(SourceError::Unsupported(_)) => None,
            Err(SourceError::Unauthorised { .. }) => Some(
                Diagnosis::warning(
                    "mongo-oplog-unread",
                    format!("source {}: the login may not read the oplog", self.name),
                )
                .because(
                    "captures longer than the server keeps snapshots fail, and no moment between two backups can be restored",
                )
                .fix("give it the role `backup` on admin"),
            ),
            Err(error) => {
                Some(Diagnosis::unseen(&format!("the oplog of source {}", self.name), &error_chain(&error)))
            }
        }
    }

    async fn restore_rights(&self) -> Vec<Diagnosis> {
        let status = doc! { "connectionStatus": 1, "showPrivileges": true };
        let status = match self.writer.run("admin", status, "list the user's permissions").await {
            Ok(status) => status,
            Err(error) => {
                let named = self.config.restore_uri.as_ref().unwrap_or(&self.config.uri);
                let refused = login_refused(self.name, self.writer, named, Some(&error));
                let unseen = || {
                    Diagnosis::unseen(
                        &format!("the permissions for restores of source {}", self.name),
                        &error_chain(&error),
                    )
                };
                return vec![refused.unwrap_or_else(unseen)];
            }
        };
        match self.scope.databases(self.reader).await {
            Ok(databases) => self.judged(&status, &databases),
            Err(error) => vec![Diagnosis::unseen(
                &format!("the databases of source {}", self.name),
                &error_chain(&error),
            )],
        }
    }

    fn judged(&self, status: &Document, databases: &[String]) -> Vec<Diagnosis> {
        let name = self.name;
        let mut actions = [&rights::RESTORE[..], &rights::REPLAY, &rights::DRILL].concat();
        actions.sort_unstable();
        actions.dedup();
        let lacking: Vec<String> = databases
            .iter()
            .filter_map(|database| {
                let missing = missing_actions(status, database, &actions);
                (!missing.is_empty()).then(|| format!("{} on {database}", missing.join(", ")))
            })
            .collect();
        if lacking.is_empty() {
            return vec![Diagnosis::ok(
                "mongo-restore-rights",
                format!(
                    "source {name}: the user for restores has the permissions of restores and drills"
                ),
            )];
        }
        let what = format!(
            "source {name}: the user for restores lacks the actions {}",
            lacking.join("; ")
        );
        let role = "give it two roles on admin: db.getSiblingDB(\"admin\").grantRolesToUser(USER, [\"readWriteAnyDatabase\", \"dbAdminAnyDatabase\"])";
        vec![if self.config.restore_uri.is_some() {
            Diagnosis::error("mongo-restore-rights", what)
                .because("`restore_uri` is used for restores, but its user cannot perform one")
                .fix(role)
        } else {
            Diagnosis::warning("mongo-restore-rights", what)
                .because("the role `backup` is read-only: a restore with `uri` fails when it is needed")
                .fix(format!("set `restore_uri` of [source.{name}] to a user with the roles readWriteAnyDatabase and dbAdminAnyDatabase; or {role}"))
        }]
    }
}

/// A refused login, with possible reasons. The server never reveals whether the user or the
/// password is wrong.
fn login_refused(
    name: &SourceName,
    connection: &Connection,
    named: &SecretRef,
    error: Option<&SourceError>,
) -> Option<Diagnosis> {
    let Some(error @ SourceError::Unauthorised { action, .. }) = error else { return None };
    if action != "log in" {
        return None;
    }
    let odd = password(name, connection, Severity::Error);
    let user = connection.user().unwrap_or("(none)");
    let refused = || {
        Diagnosis::error("mongo-login-refused", format!("source {name}: {} (user {user})", error_chain(error)))
            .because("the user does not exist in the connection string's authSource, or has another password")
            .fix(format!(
                "mongosh: db.getSiblingDB(\"admin\").createUser({{user: \"{user}\", pwd: passwordPrompt(), roles: [\"backup\"]}}), or \
                 changeUserPassword; then update the connection string in the {named}"
            ))
    };
    Some(odd.unwrap_or_else(refused))
}

/// A password that some tools and shells alter.
fn password(name: &SourceName, connection: &Connection, severity: Severity) -> Option<Diagnosis> {
    let mut seen = Diagnosis::error("mongo-password-not-ascii", format!("source {name}: the password for {} is not ASCII", connection.server()))
        .because("tools and servers normalise such characters differently, so the login is refused or works only sometimes")
        .fix("give the user a password of letters and digits: mongosh: db.getSiblingDB(\"admin\").changeUserPassword(USER, passwordPrompt())");
    seen.severity = severity;
    connection.password_is_odd().then_some(seen)
}

/// Judges the part of an oplog that a server has.
fn judged_window(name: &SourceName, extent: LogExtent, now: Timestamp) -> Diagnosis {
    let covers = extent.newest.time().duration_since(extent.oldest.time());
    let behind = now.duration_since(extent.newest.time());
    let what = format!(
        "source {name}: the oplog covers {:#}; its newest majority-committed entry is {:#} old",
        rounded(covers),
        rounded(behind)
    );
    if behind > LAG {
        return Diagnosis::warning("mongo-oplog-lag", what)
            .because("an idle replica set writes an entry every ten seconds: the member lags behind, or the set has no majority")
            .fix("look at rs.status()");
    }
    if covers < WINDOW {
        return Diagnosis::warning("mongo-oplog-window", what)
            .because("a capture, or a pause between two slices, that takes longer than the oplog covers fails or leaves a gap")
            .fix("make it larger: db.adminCommand({replSetResizeOplog: 1, size: MEGABYTES})");
    }
    Diagnosis::ok("mongo-oplog-window", what)
}

/// Whole seconds, or whole minutes from an hour on.
fn rounded(span: SignedDuration) -> SignedDuration {
    let seconds = span.as_secs().max(0);
    SignedDuration::from_secs(if seconds < 3600 { seconds } else { seconds / 60 * 60 })
}

async fn clock(connection: &Connection) -> Vec<Diagnosis> {
    let server = connection.server();
    match connection.run("admin", doc! { "hello": 1 }, "say hello").await {
        Ok(hello) => {
            let theirs = hello
                .get_datetime("localTime")
                .ok()
                .and_then(|time| Timestamp::from_millisecond(time.timestamp_millis()).ok());
            // Some servers that speak the protocol do not return their time.
            theirs
                .map(|theirs| Diagnosis::of_clock(server, theirs, Timestamp::now()))
                .into_iter()
                .collect()
        }
        Err(error) => {
            vec![Diagnosis::unseen(&format!("the clock of {server}"), &error_chain(&error))]
        }
    }
}

#[cfg(test)]
mod tests {
    use kaleem_dr_core::operate::config::secret::{Environment, SecretString};

    use super::*;
    use crate::mongodb::MongoSource;

    fn source(uri: &str, restore_uri: Option<&str>) -> MongoSource {
        let environment: Environment =
            [("U", uri), ("R", restore_uri.unwrap_or("x"))].into_iter().collect();
        let mut config = MongoConfig::new(SecretRef::Env("U".into()));
        config.restore_uri = restore_uri.map(|_| SecretRef::Env("R".into()));
        MongoSource::new("mongo".parse().unwrap(), config, &environment).unwrap()
    }

    fn login(actions: &[&str]) -> Document {
        doc! { "authInfo": {
            "authenticatedUsers": [ { "user": "backup", "db": "admin" } ],
            "authenticatedUserPrivileges": [ { "resource": { "db": "kaleem", "collection": "" }, "actions": actions } ],
        } }
    }

    #[test]
    fn a_read_only_login_is_reported_and_restore_uri_resolves_it() {
        let reads = login(&["find", "listCollections", "listIndexes"]);
        let writes = login(&[&rights::RESTORE[..], &rights::REPLAY, &rights::DRILL].concat());
        let databases = ["kaleem".to_owned()];
        let plain = source("mongodb://backup:p@127.0.0.1:9/kaleem", None);
        let found = plain.patient().judged(&reads, &databases);
        assert_eq!((found[0].id, found[0].severity), ("mongo-restore-rights", Severity::Warning));
        assert!(
            found[0]
                .what
                .contains("collMod, createCollection, createIndex, dropCollection, dropDatabase, insert, remove, update on kaleem"),
            "{}",
            found[0].what
        );
        assert!(found[0].fix.as_deref().is_some_and(|fix| fix.contains("restore_uri")));
        assert_eq!(plain.patient().judged(&writes, &databases)[0].severity, Severity::Ok);
        let broken = source(
            "mongodb://backup:p@127.0.0.1:9/kaleem",
            Some("mongodb://restore:p@127.0.0.1:9/kaleem"),
        );
        assert_eq!(broken.patient().judged(&reads, &databases)[0].severity, Severity::Error);
    }

    #[test]
    fn a_short_oplog_and_one_that_lags_are_reported() {
        use kaleem_dr_core::engine::change_log::LogPosition;
        let now = Timestamp::from_second(1_000_000).unwrap();
        let judged = |oldest: u32, newest: u32| {
            let at = |ago: u32| LogPosition::start_of(1_000_000 - ago);
            let name = "mongo".parse().unwrap();
            let found = judged_window(&name, LogExtent::new(at(oldest), at(newest)), now);
            (found.id, found.severity, found.what)
        };
        let (id, severity, what) = judged(90_000, 5);
        assert_eq!((id, severity), ("mongo-oplog-window", Severity::Ok));
        assert!(what.contains("covers 24h 59m") && what.contains("is 5s old"), "{what}");
        assert_eq!(judged(3_000, 5).1, Severity::Warning);
        assert_eq!(judged(90_000, 500).0, "mongo-oplog-lag");
    }

    #[test]
    fn a_refused_login_says_whether_its_password_is_odd_and_never_shows_it() {
        let named = SecretRef::Env("MONGO_URI".into());
        let refused = SourceError::Unauthorised {
            server: "127.0.0.1:9".into(),
            action: "log in".into(),
            cause: "Authentication failed".into(),
        };
        for (password, id) in
            [("canary", "mongo-login-refused"), ("c%C3%A4nary", "mongo-password-not-ascii")]
        {
            let uri = SecretString::from(format!("mongodb://backup:{password}@127.0.0.1:9/kaleem"));
            let connection = Connection::new(uri, &named).unwrap();
            let seen =
                login_refused(&"mongo".parse().unwrap(), &connection, &named, Some(&refused))
                    .unwrap();
            assert_eq!((seen.id, seen.severity), (id, Severity::Error));
            assert!(!format!("{seen:?}").contains("nary"), "{seen:?}");
        }
        let rights = SourceError::Unauthorised {
            server: "s".into(),
            action: "list collections".into(),
            cause: "no".into(),
        };
        let connection = Connection::new("mongodb://h/k".to_owned().into(), &named).unwrap();
        assert!(
            login_refused(&"mongo".parse().unwrap(), &connection, &named, Some(&rights)).is_none()
        );
    }
}
