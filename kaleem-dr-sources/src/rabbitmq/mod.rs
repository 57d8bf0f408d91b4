//! RabbitMQ: users, virtual hosts, policies, exchanges, queues and bindings, through the management
//! API.
//!
//! A capture is three requests; the artifact is the server's own document in a canonical order
//! ([`definitions`]), completed with what its release leaves out. Any RabbitMQ can import it
//! unchanged. It contains no messages: RabbitMQ delivers them only to consumers. A restore is
//! RabbitMQ's own import of what the target's release accepts, followed by a comparison of
//! everything ([`restore`]), because an import silently ignores conflicts.

mod client;
mod completion;
mod config;
pub mod definitions;
mod differences;
pub(crate) mod draft;
mod fit;
mod guide;
mod inspect;
mod rehearse;
pub mod restore;
mod staged;
mod target;
mod version;

use std::path::PathBuf;

use async_trait::async_trait;
use globset::{Glob, GlobSet, GlobSetBuilder};
use kaleem_dr_core::{
    engine::{
        artifact::Capture,
        manifest::{Consistency, ConsistencyGrade},
        source::{Probe, Source},
    },
    ground::{
        ArtifactPath, SourceError, SourceName,
        diagnosis::{Diagnosis, Severity},
        error_chain,
        language::Language,
    },
    jiff::Timestamp,
    operate::config::secret::Environment,
    recovery::{
        point::PointReader,
        source::{
            EachItem, Inspection, PartDiff, Restorable, RestorePlan, RestoreReport, RestoreRequest,
            ScratchTarget, diagnosis_of_probe,
        },
        staged::{StagedForm, StagedWork},
    },
};

pub(crate) use self::definitions::Definitions;
pub use self::{
    client::{ANSWER_LIMIT_BYTES, ManagementClient, Overview},
    config::{RabbitmqConfig, RabbitmqConfigError},
    target::Target,
};
use self::{differences::differences, restore::Import};

/// The directory of this source in a snapshot, and its only artifact.
const ROOT: &str = "/rabbitmq";
const ARTIFACT: [&str; 2] = ["rabbitmq", "definitions.json"];
/// Limit for the number of definitions that a manifest names.
const NAMED: usize = 20;
/// The end of the probe's note about messages.
const NO_MESSAGES: &str = "a capture contains the queues but no messages";

/// A source that captures the definitions of one RabbitMQ server or cluster.
#[derive(Debug)]
pub struct RabbitmqSource {
    name: SourceName,
    client: ManagementClient,
}

impl RabbitmqSource {
    /// Reads the password and prepares the client without connecting.
    ///
    /// # Errors
    /// If the URL, the password or the certificates cannot be used.
    pub fn new(
        name: SourceName,
        config: &RabbitmqConfig,
        environment: &Environment,
    ) -> Result<Self, RabbitmqConfigError> {
        let password =
            environment.secret(&config.password).map_err(RabbitmqConfigError::Password)?;
        Ok(Self { name, client: ManagementClient::new(config, password)? })
    }
}

#[async_trait]
impl Source for RabbitmqSource {
    fn name(&self) -> &SourceName {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "rabbitmq"
    }

    fn roots(&self) -> Vec<PathBuf> {
        vec![ROOT.into()]
    }

    async fn probe(&self) -> Result<Probe, SourceError> {
        self.client.check_rights().await?;
        let overview = self.client.overview().await?;
        let mut warnings = Vec::new();
        if overview.messages > 0 {
            warnings
                .push(format!("{} messages are in queues now; {NO_MESSAGES}", overview.messages));
        }
        if self.client.is_exposed() {
            warnings.push(format!(
                "the password is sent to {} unencrypted; use https",
                self.client.server()
            ));
        }
        Ok(Probe::new(Some(overview.server), None, warnings))
    }

    async fn capture(&self, out: &mut Capture) -> Result<(), SourceError> {
        let cancel = out.cancellation();
        let reading = async {
            Ok::<_, SourceError>((self.client.overview().await?, self.client.definitions().await?))
        };
        let (overview, definitions) =
            cancel.run_until_cancelled(reading).await.ok_or(SourceError::Cancelled)??;
        out.set_server(overview.server);
        out.set_consistency(Consistency::new(ConsistencyGrade::PerCollection, out.started()).because("RabbitMQ reads one kind of definitions after another, so a change during that second may be captured in part"));
        let (definitions, left_out) =
            definitions.without_dangling_bindings(&Definitions::default());
        if !left_out.is_empty() {
            // 4.2.9 and 4.3.3 export the bindings of exclusive queues, but not the queues.
            let names: Vec<_> = left_out.iter().take(NAMED).map(ToString::to_string).collect();
            tracing::info!(
                count = left_out.len(),
                bindings = names.join(", "),
                "left out bindings of queues that are not exported, such as exclusive queues"
            );
            out.detail("bindings_left_out", left_out.len().into());
            out.detail("bindings_left_out_names", names.into());
        }
        for (kind, count) in definitions.counts() {
            out.detail(kind, count.into());
        }
        out.whole(artifact_path(), definitions.to_bytes().into(), Some(definitions.len())).await
    }
}

#[async_trait]
impl Restorable for RabbitmqSource {
    async fn diagnose(&self) -> Vec<Diagnosis> {
        let probe = self.probe().await;
        let mut found = diagnosis_of_probe(&self.name, &probe);
        for seen in found.iter_mut().filter(|seen| seen.what.ends_with(NO_MESSAGES)) {
            // A broker in use always has messages.
            (seen.id, seen.severity, seen.fix) = ("rabbitmq-messages", Severity::Information, None);
        }
        if probe.is_err() {
            return found;
        }
        let server = self.client.server();
        let (date, overview) = tokio::join!(self.client.date(), self.client.overview());
        found.push(match date {
            Ok(date) => date
                .and_then(|date| Diagnosis::of_http_date(server, &date, Timestamp::now()))
                .unwrap_or_else(|| {
                    Diagnosis::unseen(&format!("the clock of {server}"), "its reply has no date")
                }),
            Err(error) => {
                Diagnosis::unseen(&format!("the clock of {server}"), &error_chain(&error))
            }
        });
        match overview {
            Ok(overview) => found.extend(overview.open_ports.iter().map(|port| {
                Diagnosis::warning(
                    "rabbitmq-management-open",
                    format!("source {}: the management API of {server} listens on every address, port {port}", self.name),
                )
                .because("anyone who can reach the server can reach its users, queues and messages")
                .fix("set `management.tcp.ip = 127.0.0.1` in rabbitmq.conf, or publish the port on 127.0.0.1 only")
            })),
            Err(error) => found.push(Diagnosis::unseen(&format!("the listeners of {server}"), &error_chain(&error))),
        }
        found
    }

    async fn plan_restore(
        &self,
        point: &PointReader,
        request: RestoreRequest,
    ) -> Result<RestorePlan, SourceError> {
        let wanted = selection(&request)?;
        self.client.check_rights().await?;
        let taken = point.manifest().server.clone();
        let (point, live) =
            (selected(read(point).await?, wanted.as_ref())?, self.client.definitions().await?);
        let target = self.client.target().await?;
        let mut plan = Import::prepare(&point, &live, &request.to, &target)?.plan(&live);
        plan.request.only = request.only;
        plan.warnings.extend(version::warning(taken.as_ref(), &target.server));
        Ok(plan)
    }

    async fn compare_points(
        &self,
        old: &PointReader,
        new: &PointReader,
        _work: &StagedWork,
        each: &mut EachItem<'_>,
    ) -> Result<Vec<PartDiff>, SourceError> {
        Ok(differences(&read(old).await?, &read(new).await?, each))
    }

    async fn restore(
        &self,
        point: &PointReader,
        plan: RestorePlan,
    ) -> Result<RestoreReport, SourceError> {
        let cancel = point.cancellation();
        let wanted = selection(&plan.request)?;
        let (point, live) =
            (selected(read(point).await?, wanted.as_ref())?, self.client.definitions().await?);
        let target = self.client.target().await?;
        let import = Import::prepare(&point, &live, &plan.request.to, &target)?;
        // Nothing has been written so far. An import is a single request, and is not interrupted.
        if cancel.is_cancelled() {
            return Err(SourceError::Cancelled);
        }
        import.send(&self.client).await
    }

    async fn inspect(&self, point: &PointReader) -> Result<Inspection, SourceError> {
        let path = artifact_path();
        let document = point.artifact(path.as_str()).await?.read_all(ANSWER_LIMIT_BYTES).await?;
        Ok(inspect::inspect(&document, path.as_str()))
    }

    async fn rehearse(
        &self,
        point: &PointReader,
        scratch: &ScratchTarget,
    ) -> Result<RestoreReport, SourceError> {
        rehearse::rehearse(&self.client, &read(point).await?, scratch).await
    }

    async fn clear_scratch(&self, name: &str) -> Result<Vec<String>, SourceError> {
        rehearse::clear(&self.client, name).await
    }

    fn address(&self) -> Option<String> {
        Some(self.client.url().to_owned())
    }

    fn guide(&self, language: Language, restored: &str) -> Option<String> {
        Some(guide::guide(language, restored, self.client.url(), self.client.username()))
    }

    fn staged(&self) -> Option<&dyn StagedForm> {
        Some(self)
    }
}

/// The selected virtual hosts; `None` for everything.
fn selection(request: &RestoreRequest) -> Result<Option<GlobSet>, SourceError> {
    request.clone().with_only(Vec::new()).refuse_choices("rabbitmq")?;
    if request.only.is_empty() {
        return Ok(None);
    }
    let mut globs = GlobSetBuilder::new();
    for pattern in &request.only {
        globs.add(
            Glob::new(pattern)
                .map_err(|error| SourceError::Refused(format!("--only {pattern}: {error}")))?,
        );
    }
    globs.build().map(Some).map_err(|error| SourceError::Refused(format!("--only: {error}")))
}

fn selected(point: Definitions, wanted: Option<&GlobSet>) -> Result<Definitions, SourceError> {
    let Some(wanted) = wanted else { return Ok(point) };
    let selected = point.of_vhosts(|vhost| wanted.is_match(vhost));
    if selected.is_empty() {
        let known: Vec<_> = point.vhosts().collect();
        return Err(SourceError::Refused(format!(
            "--only matches no virtual host of the point; it has: {}",
            known.join(", ")
        )));
    }
    Ok(selected)
}

async fn read(point: &PointReader) -> Result<Definitions, SourceError> {
    let path = artifact_path();
    let document = point.artifact(path.as_str()).await?.read_all(ANSWER_LIMIT_BYTES).await?;
    Definitions::parse(&document).map_err(|error| SourceError::artifact(&path, error))
}

fn artifact_path() -> ArtifactPath {
    // Neither component is empty, a dot or contains a slash.
    ArtifactPath::join(ARTIFACT).expect("two plain names make a path")
}
