//! Finds a container and its address, each time a connection is opened: a container that was replaced has another address.

use std::{error::Error, fmt, net::SocketAddr, time::Duration};

use super::{
    address,
    config::{Choice, DockerConfigError, DockerContainer},
    engine::{ANSWER_TIMEOUT, Engine, Inspected},
    own,
};

/// Limit for the duration of a lookup: at most three calls.
pub(crate) const LOOKUP_TIMEOUT: Duration = ANSWER_TIMEOUT.saturating_mul(3);

/// A port of a container, whose address the engine knows.
#[derive(Clone, Debug)]
pub(crate) struct Lookup {
    choice: Choice,
    engine: Engine,
    port: u16,
    /// The container in which this process runs, of this engine or another one.
    own: Option<String>,
}

/// The reason why the address of a container is unknown, with advice.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct LookupError(String);

impl LookupError {
    /// The one that caused an error, if a lookup did.
    pub(crate) fn behind(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut cause = Some(error);
        while let Some(current) = cause {
            if let Some(found) = current.downcast_ref::<Self>() {
                return Some(found.clone());
            }
            cause = current.source();
        }
        None
    }
}

impl fmt::Display for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.choice {
            Choice::Name(name) => write!(f, "the container {name}:{}", self.port),
            Choice::Label(label) => {
                write!(f, "the container with the label {label}, port {}", self.port)
            }
        }
    }
}

impl Lookup {
    /// Prepares the lookup of `port` inside the container.
    ///
    /// # Errors
    /// If the config does not select a container.
    pub(crate) fn new(config: &DockerContainer, port: u16) -> Result<Self, DockerConfigError> {
        let engine = Engine::at(&config.socket);
        Ok(Self { choice: config.choice()?, engine, port, own: own::container_id() })
    }

    /// Asks the engine for the address at which the port can be reached from this process.
    ///
    /// # Errors
    /// If the engine does not answer, if not exactly one container matches, or if it cannot be reached from here.
    pub(crate) async fn address(&self) -> Result<SocketAddr, LookupError> {
        self.find().await.map_err(LookupError)
    }

    async fn find(&self) -> Result<SocketAddr, String> {
        let found = match &self.choice {
            Choice::Name(name) => self.engine.inspect(name).await?.ok_or(
                "there is no container with this name: `docker ps --all` lists all of them",
            )?,
            Choice::Label(label) => self.with_label(label).await?,
        };
        // If the engine does not know it, it belongs to another one, and this process runs where the engine's host is.
        let own = match &self.own {
            Some(id) => self.engine.inspect(id).await?,
            None => None,
        };
        address::of(&found, self.port, own.as_ref())
    }

    /// The only container with a label. A stopped one counts too: it may be the one that is meant.
    async fn with_label(&self, label: &str) -> Result<Inspected, String> {
        let listed = self.engine.with_label(label).await?;
        match listed.as_slice() {
            [] => Err(format!(
                "no container has this label: add it (`labels` in compose.yaml), or look for it with `docker ps --all --filter label={label}`"
            )),
            [only] => self
                .engine
                .inspect(&only.id)
                .await?
                .ok_or_else(|| format!("{} was removed a moment ago", only.in_words())),
            several => {
                let mut found: Vec<_> =
                    several.iter().map(super::engine::Listed::in_words).collect();
                found.sort();
                Err(format!(
                    "{} containers have this label, and it must be only one: {}; remove those that are not needed, or name the container with \
                     `container`",
                    found.len(),
                    found.join(", ")
                ))
            }
        }
    }
}

#[cfg(any(feature = "qdrant", feature = "rabbitmq"))]
impl reqwest::dns::Resolve for Lookup {
    /// The name is ignored. The port is used if the URL has none.
    fn resolve(&self, _: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let lookup = self.clone();
        Box::pin(async move {
            match lookup.address().await {
                Ok(address) => Ok(Box::new(std::iter::once(address)) as reqwest::dns::Addrs),
                Err(why) => Err(Box::new(why) as Box<dyn Error + Send + Sync>),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener as BoundListener, path::Path};

    use serde_json::{Value, json};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::UnixListener,
    };

    use super::*;

    /// A stand-in for the engine: answers each request on the socket with the next of `replies`, and gives the request lines back.
    async fn stand_in(socket: &Path, replies: &[(&str, Value)]) -> Vec<String> {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let mut lines = Vec::new();
        for (status, body) in replies {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            let body = body.to_string();
            let reply = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(reply.as_bytes()).await.unwrap();
            lines.push(String::from_utf8(request).unwrap().lines().next().unwrap().to_owned());
        }
        lines
    }

    fn at(mut container: DockerContainer, socket: &Path) -> Lookup {
        container.socket = socket.to_path_buf();
        Lookup { own: None, ..Lookup::new(&container, 27017).unwrap() }
    }

    fn running() -> Value {
        json!({ "Id": "f0", "State": { "Running": true }, "NetworkSettings": { "Ports": { "27017/tcp": [ { "HostIp": "127.0.0.1", "HostPort": "27099" } ] } } })
    }

    #[tokio::test]
    async fn the_engine_is_asked_over_its_socket() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("engine.sock");
        let lookup = at(DockerContainer::named("kaleem-mongo"), &socket);
        assert_eq!(lookup.to_string(), "the container kaleem-mongo:27017");
        assert!(lookup.find().await.unwrap_err().contains("does not exist"));

        let replies = [("200 OK", running())];
        let (requests, found) = tokio::join!(stand_in(&socket, &replies), lookup.find());
        assert_eq!(requests, ["GET /containers/kaleem-mongo/json HTTP/1.1"]);
        assert_eq!(found.unwrap().to_string(), "127.0.0.1:27099");

        let replies = [("404 Not Found", json!({ "message": "No such container" }))];
        let (_, missing) = tokio::join!(stand_in(&socket, &replies), lookup.find());
        assert!(missing.unwrap_err().contains("no container with this name"));

        let replies = [("403 Forbidden", json!({}))];
        let (_, denied) = tokio::join!(stand_in(&socket, &replies), lookup.find());
        assert!(denied.unwrap_err().contains("allow reading containers"));

        // A socket file without a listener.
        std::fs::remove_file(&socket).unwrap();
        drop(BoundListener::bind(&socket).unwrap());
        assert!(lookup.find().await.unwrap_err().contains("start Docker"));
    }

    #[tokio::test]
    async fn a_process_in_a_container_of_this_engine_is_not_on_its_host() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("engine.sock");
        let on_host = at(DockerContainer::named("kaleem-mongo"), &socket);
        let lookup = Lookup { own: Some("c0".into()), ..on_host };
        let own = json!({ "Id": "c0", "State": { "Running": true } });
        let replies = [("200 OK", running()), ("200 OK", own)];
        let (requests, found) = tokio::join!(stand_in(&socket, &replies), lookup.find());
        assert_eq!(requests[1], "GET /containers/c0/json HTTP/1.1");
        assert!(found.unwrap_err().contains("shares no network"));

        let replies = [("200 OK", running()), ("404 Not Found", json!({}))];
        let (_, of_another_engine) = tokio::join!(stand_in(&socket, &replies), lookup.find());
        assert_eq!(of_another_engine.unwrap().to_string(), "127.0.0.1:27099");
    }

    #[tokio::test]
    async fn a_label_that_not_exactly_one_container_has_is_an_error_that_names_them() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("engine.sock");
        let lookup = at(DockerContainer::labelled("kaleem-dr.source=mongo"), &socket);
        let one = json!({ "Id": "f0", "Names": ["/shop-mongo-1"], "State": "running" });
        let other = json!({ "Id": "f1", "Names": ["/old-mongo-1"], "State": "exited" });

        let replies = [("200 OK", json!([one])), ("200 OK", running())];
        let (requests, found) = tokio::join!(stand_in(&socket, &replies), lookup.find());
        assert_eq!(found.unwrap().to_string(), "127.0.0.1:27099");
        assert_eq!(
            requests,
            [
                "GET /containers/json?all=1&filters=%7B%22label%22%3A%5B%22kaleem-dr.source%3Dmongo%22%5D%7D HTTP/1.1",
                "GET /containers/f0/json HTTP/1.1"
            ]
        );

        let replies = [("200 OK", json!([one, other]))];
        let (_, several) = tokio::join!(stand_in(&socket, &replies), lookup.find());
        let several = several.unwrap_err();
        assert!(several.contains("old-mongo-1 (exited), shop-mongo-1 (running)"), "{several}");

        let replies = [("200 OK", json!([]))];
        let (_, none) = tokio::join!(stand_in(&socket, &replies), lookup.find());
        assert!(none.unwrap_err().contains("no container has this label"));
    }
}
