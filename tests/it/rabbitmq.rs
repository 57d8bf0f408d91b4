//! RabbitMQ's definitions on a real broker: captured in a stable form, restored, and compared.

use std::{error::Error, net::TcpListener};

use kaleem_dr_core::{
    engine::source::Source as _,
    ground::SourceError,
    operate::config::secret::{Environment, SecretRef, SecretString},
    recovery::source::{Change, RestoreTarget},
};
use kaleem_dr_sources::rabbitmq::{
    ManagementClient, RabbitmqConfig, RabbitmqSource,
    definitions::{Definitions, Identity},
    restore::Import,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    seed, servers,
    servers::{Rabbitmq, free_port},
};

/// One test's virtual host on the shared broker, and its user.
struct Broker {
    server: Rabbitmq,
    client: ManagementClient,
    vhost: &'static str,
}

impl Broker {
    /// Seeds the virtual host on the shared broker of each release.
    async fn each(vhost: &'static str) -> Vec<Self> {
        let mut brokers = Vec::new();
        for server in servers::rabbitmqs() {
            brokers.push(Self::seeded(server, vhost).await);
        }
        brokers
    }

    /// Seeds the virtual host, after removing the leftovers of an earlier run.
    async fn seeded(server: Rabbitmq, vhost: &'static str) -> Self {
        let client = client(&server);
        let broker = Self { server, client, vhost };
        broker.delete_all().await;
        let status = broker.api(Method::POST, "definitions", Some(&seed::definitions(vhost))).await;
        assert_eq!(status, 204, "the seed is imported");
        broker
    }

    async fn delete_all(&self) {
        for path in [
            format!("vhosts/{}", self.vhost),
            format!("vhosts/{}-copy", self.vhost),
            format!("users/{} user", self.vhost),
        ] {
            let status = self.api(Method::DELETE, &path, None).await;
            assert!(matches!(status, 204 | 404), "DELETE {path}: {status}");
        }
    }

    async fn api(&self, method: Method, path: &str, body: Option<&Value>) -> u16 {
        let mut request = reqwest::Client::new()
            .request(method, format!("{}api/{path}", self.server.url))
            .basic_auth(&self.server.username, Some(&self.server.password));
        if let Some(body) = body {
            request = request.json(body);
        }
        request.send().await.expect("the broker answers").status().as_u16()
    }

    /// The definitions of this test only: other tests change theirs at the same time.
    async fn own(&self) -> Definitions {
        let user = format!("{} user", self.vhost);
        let is_own =
            |identity: &Identity| identity.vhost() == Some(self.vhost) || identity.is_user(&user);
        self.client.definitions().await.expect("the broker shows its definitions").filtered(is_own)
    }

    async fn prepare(
        &self,
        point: &Definitions,
        to: &RestoreTarget,
    ) -> Result<Import, SourceError> {
        let live = self.client.definitions().await?;
        Import::prepare(point, &live, to, &self.client.target().await?)
    }

    fn beside(&self) -> RestoreTarget {
        RestoreTarget::Beside(Some(format!("{}-copy", self.vhost)))
    }
}

fn config(server: &Rabbitmq) -> RabbitmqConfig {
    let password = SecretRef::Env("RABBITMQ_PASSWORD".into());
    let mut config = RabbitmqConfig::new(&server.url, &server.username, password);
    config.timeout_seconds = 30.try_into().expect("30 is not zero");
    config
}

fn client(server: &Rabbitmq) -> ManagementClient {
    ManagementClient::new(&config(server), SecretString::from(server.password.clone()))
        .expect("the server's address is good")
}

fn source(server: &Rabbitmq) -> RabbitmqSource {
    let environment: Environment =
        [("RABBITMQ_PASSWORD", server.password.as_str())].into_iter().collect();
    RabbitmqSource::new("queues".parse().expect("a source name"), &config(server), &environment)
        .expect("the config is good")
}

/// An error with all its causes, as shown to an operator.
fn told(error: &SourceError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[tokio::test]
async fn two_readings_of_an_unchanged_topology_are_identical_bytes() {
    for broker in Broker::each("identical").await {
        let first = broker.own().await;
        assert_eq!(first.to_bytes(), broker.own().await.to_bytes());
        let counts = first.counts();
        for (kind, count) in [
            ("users", 1),
            ("vhosts", 1),
            ("topic_permissions", 1),
            ("parameters", 1),
            ("policies", 1),
        ] {
            assert_eq!(counts[kind], count, "{kind}");
        }
        assert_eq!((counts["exchanges"], counts["queues"], counts["bindings"]), (2, 2, 3));
    }
}

#[tokio::test]
async fn a_lost_virtual_host_and_its_user_come_back_equal() {
    for broker in Broker::each("lost").await {
        let point = broker.own().await;
        broker.delete_all().await;
        assert!(broker.own().await.is_empty());

        let import = broker.prepare(&point, &RestoreTarget::InPlace).await.unwrap();
        let plan = import.plan(&broker.own().await);
        assert!(!plan.overwrites(), "{plan:?}");
        assert!(plan.actions.iter().all(|action| action.change == Change::Create), "{plan:?}");

        let report = import.send(&broker.client).await.unwrap();
        assert!(report.is_equal(), "{report:?}");
        assert_eq!(report.items, point.len());
        assert_eq!(broker.own().await.to_bytes(), point.to_bytes());
    }
}

#[tokio::test]
async fn a_restore_to_a_new_virtual_host_is_equal_and_leaves_the_first_alone() {
    for broker in Broker::each("beside").await {
        let point = broker.own().await;
        let import = broker.prepare(&point, &broker.beside()).await.unwrap();
        let report = import.send(&broker.client).await.unwrap();
        assert!(report.is_equal(), "{report:?}");
        assert!(report.compared.contains(&"3 bindings".to_owned()), "{report:?}");
        assert_eq!(broker.own().await.to_bytes(), point.to_bytes());

        let again = import.send(&broker.client).await.unwrap_err();
        assert!(
            matches!(&again, SourceError::Refused(why) if why.contains("beside-copy")),
            "{again:?}"
        );
        let live = broker.client.definitions().await.unwrap();
        assert!(
            live.has_vhost("beside-copy"),
            "what an earlier restore made is not deleted by a refused one"
        );
    }
}

#[tokio::test]
async fn a_queue_that_the_import_ignores_is_reported_before_and_after() {
    for broker in Broker::each("conflict").await {
        let point = broker.own().await;
        let queue = "queues/conflict/orders.new";
        assert_eq!(broker.api(Method::DELETE, queue, None).await, 204);
        assert_eq!(
            broker
                .api(
                    Method::PUT,
                    queue,
                    Some(&json!({"durable": true, "arguments": {"x-max-length": 9}}))
                )
                .await,
            201
        );

        let import = broker.prepare(&point, &RestoreTarget::InPlace).await.unwrap();
        let plan = import.plan(&broker.own().await);
        let told = plan
            .actions
            .iter()
            .find(|action| action.change == Change::Conflict)
            .expect("a conflict");
        assert_eq!(told.what, "queue orders.new in conflict");

        let report = import.send(&broker.client).await.unwrap();
        assert!(!report.is_equal());
        let arguments = report
            .differences
            .iter()
            .find(|difference| difference.what == "queue orders.new in conflict: arguments");
        assert!(
            arguments.expect("the difference is reported").found.contains("x-max-length"),
            "{report:?}"
        );
    }
}

#[tokio::test]
async fn a_changed_policy_and_password_are_overwritten_and_named_in_the_plan() {
    for broker in Broker::each("changed").await {
        let point = broker.own().await;
        let policy = json!({"pattern": ".*", "definition": {"max-length": 5}, "priority": 0, "apply-to": "all"});
        assert_eq!(broker.api(Method::PUT, "policies/changed/expire", Some(&policy)).await, 204);
        assert_eq!(
            broker
                .api(
                    Method::PUT,
                    "users/changed user",
                    Some(&json!({"password": "other", "tags": ""}))
                )
                .await,
            204
        );

        let import = broker.prepare(&point, &RestoreTarget::InPlace).await.unwrap();
        let plan = import.plan(&broker.own().await);
        let overwritten: Vec<_> = plan
            .actions
            .iter()
            .filter(|a| a.change == Change::Overwrite)
            .map(|a| a.what.as_str())
            .collect();
        assert_eq!(overwritten, ["user changed user", "policy expire in changed"]);
        let report = import.send(&broker.client).await.unwrap();
        assert!(report.is_equal(), "{report:?}");
        assert_eq!(broker.own().await.to_bytes(), point.to_bytes());
    }
}

#[tokio::test]
async fn an_import_that_fails_half_way_leaves_no_new_virtual_host() {
    for broker in Broker::each("half").await {
        let document = json!({
            "vhosts": [{"name": "half"}],
            "policies": [{"vhost": "half", "name": "bad", "pattern": ".*", "definition": {"no-such-setting": 1}, "priority": 0,
                          "apply-to": "all"}],
        });
        let point = Definitions::parse(document.to_string().as_bytes()).unwrap();
        let import = broker.prepare(&point, &broker.beside()).await.unwrap();
        let error = import.send(&broker.client).await.unwrap_err();
        let told = told(&error);
        assert!(
            told.contains("failed to import definitions") && told.contains("no-such-setting"),
            "{told}"
        );
        assert!(!broker.client.definitions().await.unwrap().has_vhost("half-copy"));
    }
}

#[tokio::test]
async fn the_user_that_restores_keeps_its_password() {
    for broker in Broker::each("acting").await {
        let own = json!({"password": "before", "tags": "administrator"});
        assert!(matches!(
            broker.api(Method::PUT, "users/acting user", Some(&own)).await,
            201 | 204
        ));
        let point = broker.own().await;
        let own = json!({"password": "since", "tags": "administrator"});
        assert_eq!(broker.api(Method::PUT, "users/acting user", Some(&own)).await, 204);

        let login = Rabbitmq {
            username: "acting user".into(),
            password: "since".into(),
            ..broker.server.clone()
        };
        let acting = client(&login);
        let live = acting.definitions().await.unwrap();
        let import = Import::prepare(
            &point,
            &live,
            &RestoreTarget::InPlace,
            &acting.target().await.unwrap(),
        )
        .unwrap();
        assert!(
            import.plan(&live).warnings[0].starts_with("user acting user performs the restore")
        );
        let report = import.send(&acting).await.unwrap();
        assert!(report.is_equal(), "{report:?}");
        acting.check_rights().await.unwrap();
    }
}

#[tokio::test]
async fn a_wrong_password_and_a_user_without_rights_are_distinguished() {
    for broker in Broker::each("rights").await {
        let user = |password: &str, tags: &str| json!({"password": password, "tags": tags});
        let login = |password: &str| Rabbitmq {
            username: "rights user".into(),
            password: password.into(),
            ..broker.server.clone()
        };

        for (tags, password, expected) in [
            (
                "monitoring",
                "canary",
                "user rights user lacks the tag administrator; its tags: monitoring",
            ),
            ("", "canary", "user rights user lacks the tag administrator"),
            ("monitoring", "wrong canary", "the login of user rights user was refused"),
        ] {
            assert_eq!(
                broker.api(Method::PUT, "users/rights user", Some(&user("canary", tags))).await,
                204
            );
            let login = login(password);
            let by_probe = source(&login).probe().await.unwrap_err();
            let by_reading = client(&login).definitions().await.unwrap_err();
            for error in [by_probe, by_reading] {
                let told = told(&error);
                assert!(
                    matches!(error, SourceError::Unauthorised { .. }) && told.contains(expected),
                    "{told}"
                );
                assert!(!format!("{told}{error:?}").contains("canary"), "{told}");
            }
        }
    }
}

#[tokio::test]
async fn a_probe_names_product_and_version() {
    for server in servers::rabbitmqs() {
        let probe = source(&server).probe().await.unwrap();
        let server = probe.server.expect("RabbitMQ says what it is");
        assert_eq!(server.product, "RabbitMQ");
        assert!(server.version.starts_with(|first: char| first.is_ascii_digit()), "{server:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_or_does_not_answer_is_unreachable() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    for port in [free_port(), silent.local_addr().expect("a bound socket has an address").port()] {
        let server = Rabbitmq {
            url: format!("http://127.0.0.1:{port}"),
            username: "kaleem".into(),
            password: "canary".into(),
        };
        let mut config = config(&server);
        config.timeout_seconds = 1.try_into().expect("1 is not zero");
        let client = ManagementClient::new(&config, SecretString::from(server.password)).unwrap();
        let error = client.definitions().await.unwrap_err();
        let told = told(&error);
        assert!(matches!(error, SourceError::Unreachable { .. }), "{told}");
        assert!(told.starts_with(&format!("cannot reach 127.0.0.1:{port}: ")), "{told}");
        assert!(!format!("{told}{error:?}").contains("canary"), "{error:?}");
    }
}

#[tokio::test]
async fn what_is_not_rabbitmq_is_not_taken_for_it() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener =
        tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let port = listener.local_addr().expect("a bound socket has an address").port();
    let website = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("the client comes");
        let _ = stream.read(&mut [0; 4096]).await.expect("the client asks");
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html></html>")
            .await
            .expect("the client listens");
    });
    let server = Rabbitmq {
        url: format!("http://127.0.0.1:{port}"),
        username: "kaleem".into(),
        password: "canary".into(),
    };
    let error = client(&server).definitions().await.unwrap_err();
    website.await.unwrap();
    assert!(
        told(&error).contains("its reply is not that of RabbitMQ's management API"),
        "{}",
        told(&error)
    );
}
