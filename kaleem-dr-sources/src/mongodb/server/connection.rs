//! The connection to a server: opened on first use; its errors are converted to ours, without
//! secrets.
//!
//! The connection string contains a password, so it stays wrapped, and only `host:port` of the
//! server is ever shown. The driver has no time-out for replies: a server that hangs would block us
//! forever, so every exchange here has a deadline.

use std::{fmt, future::Future, net::IpAddr, time::Duration};

use bson::{Document, RawDocumentBuf, doc};
use kaleem_dr_core::{
    ground::SourceError,
    operate::config::secret::{ExposeSecret as _, SecretRef, SecretString},
};
use mongodb::{
    Client,
    error::{Error, ErrorKind},
    options::{ClientOptions, ConnectionString, HostInfo, SelectionCriteria, ServerAddress},
};
use tokio::sync::OnceCell;

use super::{
    error::{code, codes, describe},
    reply,
};
use crate::{
    docker::{DockerContainer, Lookup},
    mongodb::config::MongoConfigError,
};

/// Time limit for finding a server, unless the connection string sets another.
const SELECTION_TIMEOUT: Duration = Duration::from_secs(8);
/// The default port of a server.
const DEFAULT_PORT: u16 = 27017;
/// Time limit for one reply. A batch of documents arrives in well under a second; from a hung
/// server, never.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_mins(2);

/// A user's connection to a deployment.
pub(crate) struct Connection {
    server: String,
    database: Option<String>,
    /// The server's container, if Docker provides the address.
    container: Option<Lookup>,
    uri: SecretString,
    user: Option<String>,
    password: Option<SecretString>,
    client: OnceCell<Client>,
    #[cfg(test)]
    pub(crate) events: Option<mongodb::event::EventHandler<mongodb::event::command::CommandEvent>>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Connection {
    /// Parses a connection string; `named` is its location in the config. Does not connect yet.
    pub(crate) fn new(uri: SecretString, named: &SecretRef) -> Result<Self, MongoConfigError> {
        // The driver's message is dropped: it may quote the password.
        let parsed = ConnectionString::parse(uri.expose_secret())
            .map_err(|_| MongoConfigError::Uri(named.clone()))?;
        let server = match &parsed.host_info {
            HostInfo::HostIdentifiers(hosts) => {
                hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
            }
            HostInfo::DnsRecord(name) => name.clone(),
            _ => "MongoDB".to_owned(),
        };
        let (user, password) = parsed
            .credential
            .map(|credential| (credential.username, credential.password))
            .unwrap_or_default();
        Ok(Self {
            server,
            database: parsed.default_database,
            container: None,
            uri,
            user,
            password: password.map(SecretString::from),
            client: OnceCell::new(),
            #[cfg(test)]
            events: None,
        })
    }

    /// The same server in a container, whose address is looked up on connection.
    pub(crate) fn inside(
        mut self,
        docker: &DockerContainer,
        named: &SecretRef,
    ) -> Result<Self, MongoConfigError> {
        // `new` has parsed it already.
        let parsed = ConnectionString::parse(self.uri.expose_secret())
            .map_err(|_| MongoConfigError::Uri(named.clone()))?;
        let HostInfo::HostIdentifiers(hosts) = parsed.host_info else {
            return Err(MongoConfigError::NotOneHost(named.clone()));
        };
        let [ServerAddress::Tcp { port, .. }] = hosts.as_slice() else {
            return Err(MongoConfigError::NotOneHost(named.clone()));
        };
        let lookup = Lookup::new(docker, port.unwrap_or(DEFAULT_PORT))?;
        self.server = lookup.to_string();
        self.container = Some(lookup);
        Ok(self)
    }

    /// `host:port` of the servers as in the connection string, without credentials.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// The user name of the connection string.
    pub(crate) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Reports whether the password contains non-ASCII characters.
    pub(crate) fn password_is_odd(&self) -> bool {
        self.password.as_ref().is_some_and(|password| !password.expose_secret().is_ascii())
    }

    /// The database in the path of the connection string.
    pub(crate) fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// Returns the driver's client, which the first call creates; it connects with the first
    /// command.
    pub(crate) async fn client(&self) -> Result<&Client, SourceError> {
        self.client.get_or_try_init(|| self.connect()).await
    }

    async fn connect(&self) -> Result<Client, SourceError> {
        let parsed = ClientOptions::parse(self.uri.expose_secret()).await;
        let mut options = parsed.map_err(|error| self.error("connect", &error))?;
        if let Some(container) = &self.container {
            let address = container.address().await.map_err(|why| SourceError::Unreachable {
                server: self.server.clone(),
                cause: why.into(),
            })?;
            // The driver wants an IPv6 address in brackets.
            let host = match address.ip() {
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("[{ip}]"),
            };
            options.hosts = vec![ServerAddress::Tcp { host, port: Some(address.port()) }];
            // A member of a replica set returns the others' addresses as it knows them, which may
            // be names inside Docker.
            options.direct_connection = Some(true);
        }
        options.app_name.get_or_insert_with(|| "kaleem-dr".to_owned());
        options.server_selection_timeout.get_or_insert(SELECTION_TIMEOUT);
        options.connect_timeout.get_or_insert(SELECTION_TIMEOUT);
        #[cfg(test)]
        {
            options.command_event_handler.clone_from(&self.events);
        }
        Client::with_options(options).map_err(|error| self.error("connect", &error))
    }

    /// The read preference of the connection string; `None` means the primary.
    pub(crate) async fn reads_from(&self) -> Result<Option<SelectionCriteria>, SourceError> {
        Ok(self.client().await?.selection_criteria().cloned())
    }

    /// Runs a command that should be answered soon. `action` completes "failed to …".
    pub(crate) async fn run(
        &self,
        database: &str,
        command: Document,
        action: &str,
    ) -> Result<Document, SourceError> {
        let database = self.client().await?.database(database);
        self.answer(action, async { database.run_command(command).await }).await
    }

    /// Runs a write command without a time limit, such as an index build.
    pub(crate) async fn write(
        &self,
        database: &str,
        command: Document,
        action: &str,
    ) -> Result<(), SourceError> {
        self.write_tolerating(database, command, action, None).await
    }

    /// Like `write`, but one of the server's error codes means that there is nothing to do.
    pub(crate) async fn write_tolerating(
        &self,
        database: &str,
        command: Document,
        action: &str,
        fine: Option<i32>,
    ) -> Result<(), SourceError> {
        let database = self.client().await?.database(database);
        match database.run_command(command).await {
            // The driver does not check this: the command is still answered with `ok: 1`.
            Ok(reply) => match reply::unacknowledged(&reply) {
                None => Ok(()),
                Some(why) => Err(self.odd_answer(action, why)),
            },
            Err(error) if fine.is_some() && code(&error) == fine => Ok(()),
            Err(error) => Err(self.error(action, &error)),
        }
    }

    /// Runs a command given as raw BSON.
    pub(crate) async fn run_raw(
        &self,
        database: &str,
        command: RawDocumentBuf,
        action: &str,
    ) -> Result<Document, SourceError> {
        let database = self.client().await?.database(database);
        self.answer(action, async { database.run_raw_command(command).await }).await
    }

    /// Reads all batches of a listing command. Any failure is an error.
    pub(crate) async fn list(
        &self,
        database: &str,
        command: Document,
        action: &str,
    ) -> Result<Vec<Document>, SourceError> {
        use futures::TryStreamExt as _;
        let database = self.client().await?.database(database);
        self.answer(action, async {
            database.run_cursor_command(command).await?.try_collect().await
        })
        .await
    }

    /// The same, as bytes.
    pub(crate) async fn list_raw(
        &self,
        database: &str,
        command: Document,
        action: &str,
    ) -> Result<Vec<RawDocumentBuf>, SourceError> {
        use futures::TryStreamExt as _;
        let database = self.client().await?.database(database);
        let command: RawDocumentBuf = (&command)
            .try_into()
            .map_err(|error: bson::error::Error| self.odd_answer(action, error.to_string()))?;
        let batches = self
            .answer(action, async {
                database
                    .run_raw_cursor_command(command)
                    .batch()
                    .await?
                    .try_collect::<Vec<_>>()
                    .await
            })
            .await?;
        let odd = |error: String| self.odd_answer(action, error);
        let mut documents = Vec::new();
        for batch in &batches {
            for element in batch.doc_slices().map_err(|error| odd(error.to_string()))? {
                match element.map_err(|error| odd(error.to_string()))? {
                    bson::RawBsonRef::Document(document) => documents.push(document.to_owned()),
                    _ => return Err(odd("a batch holds what is not a document".to_owned())),
                }
            }
        }
        Ok(documents)
    }

    /// Waits for a reply until the deadline.
    pub(crate) async fn answer<T>(
        &self,
        action: &str,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, SourceError> {
        match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(answer) => answer.map_err(|error| self.error(action, &error)),
            Err(_) => Err(SourceError::Unreachable {
                server: self.server.clone(),
                cause: format!(
                    "no reply within {} s when asked to {action}",
                    ANSWER_TIMEOUT.as_secs()
                )
                .into(),
            }),
        }
    }

    /// Version and topology of the deployment.
    pub(crate) async fn facts(&self) -> Result<ServerFacts, SourceError> {
        let hello = self.run("admin", doc! { "hello": 1 }, "say hello").await?;
        let build = self.run("admin", doc! { "buildInfo": 1 }, "return its version").await?;
        let topology = if hello.get_str("msg").is_ok_and(|kind| kind == "isdbgrid") {
            Topology::Sharded
        } else if hello.contains_key("setName") {
            Topology::ReplicaSet
        } else {
            Topology::Standalone
        };
        let version = build.get_str("version").unwrap_or("0.0").to_owned();
        let mut parts = version.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
        let release = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        Ok(ServerFacts { version, release, topology })
    }

    /// Converts a driver's error. `action` completes "failed to …" and "does not allow us to …".
    pub(crate) fn error(&self, action: &str, error: &Error) -> SourceError {
        let server = self.server.clone();
        let cause = self.scrub(&describe(error)).into();
        match error.kind.as_ref() {
            ErrorKind::Authentication { .. } => {
                SourceError::Unauthorised { server, action: "log in".to_owned(), cause }
            }
            ErrorKind::Command(command) if command.code == codes::AUTHENTICATION_FAILED => {
                SourceError::Unauthorised { server, action: "log in".to_owned(), cause }
            }
            // After a failed login the driver marks the server as unknown, and the next command
            // finds no server.
            ErrorKind::ServerSelection { message, .. }
                if message.contains("AuthenticationFailed") =>
            {
                SourceError::Unauthorised { server, action: "log in".to_owned(), cause }
            }
            ErrorKind::Command(command) if command.code == codes::UNAUTHORISED => {
                SourceError::Unauthorised { server, action: action.to_owned(), cause }
            }
            ErrorKind::ServerSelection { .. }
            | ErrorKind::Io(_)
            | ErrorKind::DnsResolve { .. }
            | ErrorKind::ConnectionPoolCleared { .. }
            | ErrorKind::InvalidTlsConfig { .. } => SourceError::Unreachable { server, cause },
            _ => SourceError::Server { server, action: action.to_owned(), cause },
        }
    }

    /// An error about an invalid reply.
    pub(crate) fn odd_answer(&self, action: &str, why: impl Into<String>) -> SourceError {
        SourceError::Server {
            server: self.server.clone(),
            action: action.to_owned(),
            cause: self.scrub(&why.into()).into(),
        }
    }

    /// Removes the password from a text, in case it contains one.
    fn scrub(&self, text: &str) -> String {
        let text = text.replace(self.uri.expose_secret(), "<connection string>");
        match &self.password {
            Some(password) if !password.expose_secret().is_empty() => {
                text.replace(password.expose_secret(), "***")
            }
            _ => text,
        }
    }
}

/// Version and topology of a server.
#[derive(Clone, Debug)]
pub(crate) struct ServerFacts {
    /// Its version as text.
    pub(crate) version: String,
    /// Major and minor number of the version.
    pub(crate) release: (u32, u32),
    /// The kind of deployment that it belongs to.
    pub(crate) topology: Topology,
}

impl ServerFacts {
    /// Reports whether time-series data are read and written under the collection's own name, with
    /// `rawData` (mongo-tools, from 8.3).
    pub(crate) fn has_viewless_time_series(&self) -> bool {
        self.release >= (8, 3)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topology {
    Standalone,
    ReplicaSet,
    Sharded,
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    const CANARY: &str = "c4n4ry";

    #[test]
    fn addresses_by_dns_and_compressors_are_accepted() {
        for (uri, server) in [
            ("mongodb+srv://u:c4n4ry@cluster0.example.net/kaleem", "cluster0.example.net"),
            (
                "mongodb://u:c4n4ry@h:1/kaleem?compressors=zstd,snappy,zlib&zlibCompressionLevel=6",
                "h:1",
            ),
            (
                "mongodb://u:c4n4ry@h:1,g:2/kaleem?tls=true&tlsCAFile=/etc/ca.pem&readPreference=secondary",
                "h:1,g:2",
            ),
        ] {
            let connection =
                Connection::new(uri.to_owned().into(), &SecretRef::Env("M".into())).unwrap();
            assert_eq!(connection.server(), server);
            assert_eq!(connection.database(), Some("kaleem"));
            assert!(!format!("{connection:?}").contains(CANARY));
        }
    }

    fn chain(error: &dyn std::error::Error) -> String {
        let mut text = format!("{error} {error:?}");
        let mut source = error.source();
        while let Some(cause) = source {
            text = format!("{text} {cause} {cause:?}");
            source = cause.source();
        }
        text
    }

    fn connection(uri: &str) -> Result<Connection, MongoConfigError> {
        Connection::new(SecretString::from(uri.to_owned()), &SecretRef::Env("MONGO_URI".into()))
    }

    #[test]
    fn a_malformed_connection_string_is_refused_without_being_shown() {
        for uri in [
            format!("mongodb://backup:{CANARY}@pa%%ss@host/db"),
            format!("mongodb://backup:{CANARY}/x@host"),
            format!("postgres://backup:{CANARY}@host"),
            format!("mongodb://backup:{CANARY}@host:notaport/db"),
            format!("mongodb://backup:p%{CANARY}@host/db?tls={CANARY}"),
            CANARY.to_owned(),
        ] {
            let error = connection(&uri).expect_err(&uri);
            let shown = chain(&error);
            assert!(!shown.contains(CANARY), "{shown}");
            assert!(shown.contains("MONGO_URI"), "{shown}");
        }
    }

    #[test]
    fn only_host_and_port_are_shown() {
        let connection =
            connection(&format!("mongodb://backup:{CANARY}@db1:27018,db2/kaleem?authSource=admin"))
                .unwrap();
        assert_eq!(connection.server(), "db1:27018,db2:27017");
        assert_eq!(connection.database(), Some("kaleem"));
        assert!(!format!("{connection:?}").contains(CANARY));
        let error = connection.error("list", &Error::custom(format!("the server said {CANARY}")));
        assert!(!chain(&error).contains(CANARY), "{}", chain(&error));
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_unreachable_and_named() {
        let uri =
            format!("mongodb://backup:{CANARY}@127.0.0.1:9/kaleem?serverSelectionTimeoutMS=100");
        let connection = connection(&uri).unwrap();
        let error = connection.facts().await.unwrap_err();
        assert!(matches!(error, SourceError::Unreachable { .. }), "{error:?}");
        assert_eq!(error.to_string(), "cannot reach 127.0.0.1:9");
        assert!(error.source().is_some_and(|cause| {
            cause.to_string().starts_with("no server replied in time: I/O error")
        }));
        assert!(!chain(&error).contains(CANARY), "{}", chain(&error));
    }
}
