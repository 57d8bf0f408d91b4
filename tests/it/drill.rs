//! Drills: every source is restored into scratch targets and equal, a comparison that cannot fail
//! is reported, and nothing is left behind, whatever the outcome.

use std::{collections::BTreeMap, fs, sync::Arc};

use async_trait::async_trait;
use bson::doc;
use bytes::Bytes;
use kaleem_dr_core::{
    CancellationToken,
    engine::{
        artifact::Capture,
        ledger::Ledger,
        manifest::ServerInfo,
        source::{Probe, Source},
    },
    ground::{
        ArtifactPath, ProofLevel, SourceError, SourceName,
        host::{HostName, HostScope},
        progress::{ProgressSink, Silent},
    },
    recovery::{
        drill::{DrillJob, broken_links, drill},
        point::PointReader,
        points::PointChoice,
        source::{
            Control, Inspection, Restorable, RestorePlan, RestoreReport, RestoreRequest,
            ScratchTarget,
        },
    },
};
use mongodb::Client;
use serde_json::{Value, json};

use crate::support::{everything::Everything, points::Points, seed, site::Site};

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_of_all_five_sources_is_green_its_controls_are_red_and_nothing_is_left() {
    let all = Everything::backed_up().await;
    let (outcome, lines) = all.site.json(["drill"]);
    assert_eq!(outcome.code, Some(0), "{}{}", outcome.stdout, outcome.stderr);
    let report = &lines[0]["report"];
    let damages: BTreeMap<&str, &str> = report["sources"]
        .as_array()
        .expect("sources")
        .iter()
        .map(|source| {
            let found = &source["verification"];
            assert_eq!(
                (&source["exit"], &found["proven"]),
                (&json!("done"), &json!("restored")),
                "{source}"
            );
            assert_eq!(source["control_caught"], true, "{source}");
            assert!(
                found["control"]["found"][0]["what"].is_string(),
                "the comparison's finding is reported: {source}"
            );
            assert!(
                found["restore_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0),
                "{source}"
            );
            assert!(source["rto_forecast_seconds"].as_f64().is_some(), "{source}");
            assert!(found["stages"].as_array().is_some_and(|stages| stages.len() >= 2), "{source}");
            let damage = found["control"]["damage"].as_str().expect("a damage");
            (source["source"].as_str().expect("a name"), damage)
        })
        .collect();
    let beginnings = [
        ("configs", "changed byte"),
        ("mongo", "deleted one of 1 documents of"),
        ("n8n", "changed byte"),
        ("qdrant", "deleted one of 120 points of"),
        ("rabbitmq", "deleted queue"),
    ];
    assert_eq!(damages.len(), 5, "{damages:?}");
    for (source, beginning) in beginnings {
        assert!(damages[source].starts_with(beginning), "{source}: {damages:?}");
    }
    assert_eq!(all.scratch().await, Vec::<String>::new());

    // The result is kept, and the next report follows it.
    let first = lines[0]["hash"].as_str().expect("a hash").to_owned();
    let (outcome, lines) = all.site.json(["drill", "configs"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert_eq!(lines[0]["report"]["previous"], first.as_str());
    let ledger = Ledger::open(&all.site.path("state")).expect("a ledger");
    let chain = ledger.reports().expect("its reports");
    assert_eq!((chain.len(), broken_links(&chain, None)), (2, Vec::new()));
    let proofs = ledger.proofs(10).expect("its proofs");
    assert_eq!(proofs.len(), 6);
    assert!(proofs.iter().all(|proof| proof.proven == Some(ProofLevel::Restored)));
    assert_eq!(ledger.history(1).expect("a history")[0].kind, "drill");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_drill_left_is_removed_by_the_next_one_only() {
    let all = Everything::backed_up().await;
    // Another program's database: it has such a name, but no note here refers to it.
    let client = Client::with_uri_str(all.mongo.uri()).await.expect("a valid address");
    let foreign = client.database("kdr_drill_of_somebody_else");
    foreign
        .collection("theirs")
        .insert_one(doc! { "_id": 1 })
        .await
        .expect("a document can be inserted");
    for source in ["mongo", "rabbitmq", "qdrant", "configs", "n8n"] {
        let killed = all
            .site
            .command()
            .args(["drill", source])
            .env("KALEEM_DR_FAILPOINT", "scratch=kill")
            .output();
        assert_eq!(
            killed.expect("it can be run").status.code(),
            None,
            "{source}: it was to be killed"
        );
        let left = all.scratch().await;
        assert!(left.iter().any(|name| name.ends_with(".scratch")), "{source}: {left:?}");
        assert!(left.len() >= 2, "{source}: the scratch was full: {left:?}");
        let (outcome, lines) = all.site.json(["drill", source]);
        assert_eq!(outcome.code, Some(0), "{source}: {}", outcome.stderr);
        let cleared = &lines[0]["report"]["cleared"][0];
        assert_eq!(
            (&cleared["source"], &cleared["error"]),
            (&json!(source), &Value::Null),
            "{cleared}"
        );
        assert!(
            cleared["removed"].as_array().is_some_and(|removed| !removed.is_empty()),
            "{cleared}"
        );
        assert_eq!(all.scratch().await, Vec::<String>::new(), "{source}");
    }
    let databases = client.list_database_names().await.expect("databases can be listed");
    assert!(
        databases.iter().any(|name| name == "kdr_drill_of_somebody_else"),
        "another program's database stays: {databases:?}"
    );
}

#[test]
fn a_drill_that_restores_nothing_has_its_control_too() {
    let site = Site::new().with_rabbitmq("rabbitmq").initialised();
    site.succeed(["backup"]);
    let (outcome, lines) = site.json(["drill", "--level", "readable"]);
    assert_eq!(outcome.code, Some(0), "{}{}", outcome.stdout, outcome.stderr);
    let drilled = &lines[0]["report"]["sources"][0];
    assert_eq!(
        (&drilled["verification"]["proven"], &drilled["control_caught"]),
        (&json!("readable"), &json!(true))
    );
    let found =
        drilled["verification"]["control"]["found"][0]["found"].as_str().expect("what was found");
    assert!(found.contains("is not what was captured"), "{found}");
}

#[test]
fn a_drill_on_a_damaged_repository_is_red_and_kept_as_such() {
    let site = Site::new();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    fs::write(tree.join("large"), crate::support::mirror::noise(3_000_000, 5))
        .expect("a file can be written");
    let site = site.with_files("configs", &[&tree]).initialised();
    site.succeed(["backup"]);
    let packs = crate::support::mirror::objects(&site.repository());
    let pack = packs
        .keys()
        .filter(|key| key.starts_with("data/"))
        .max_by_key(|key| fs::metadata(site.repository().join(key)).expect("a pack").len());
    crate::support::mirror::flip_byte(&site.repository().join(pack.expect("a pack")));
    let (outcome, lines) = site.json(["drill"]);
    assert_eq!(outcome.code, Some(4), "{}{}", outcome.stdout, outcome.stderr);
    assert_eq!(lines[0]["report"]["exit"], "not-verified");
    let ledger = Ledger::open(&site.path("state")).expect("a ledger");
    assert!(ledger.proofs(1).expect("proofs").iter().all(|proof| !proof.is_good()));
    assert_eq!(ledger.history(1).expect("a history")[0].exit, 4);
}

/// A source whose comparison detects nothing, or which cannot be damaged.
struct Blind {
    name: SourceName,
    control: Option<Control>,
}

#[async_trait]
impl Source for Blind {
    fn name(&self) -> &SourceName {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "blind"
    }

    fn roots(&self) -> Vec<std::path::PathBuf> {
        vec!["/blind".into()]
    }

    async fn probe(&self) -> Result<Probe, SourceError> {
        let server = ServerInfo::new("Blind", "1");
        Ok(Probe::new(Some(server), None, Vec::new()))
    }

    async fn capture(&self, out: &mut Capture) -> Result<(), SourceError> {
        let path = ArtifactPath::join(["blind", "data"])
            .map_err(|error| SourceError::Unsupported(error.to_string()))?;
        out.whole(path, Bytes::from_static(b"data"), Some(1)).await
    }
}

#[async_trait]
impl Restorable for Blind {
    async fn plan_restore(
        &self,
        _: &PointReader,
        _: RestoreRequest,
    ) -> Result<RestorePlan, SourceError> {
        Err(SourceError::Unsupported("it is only drilled".into()))
    }

    async fn restore(&self, _: &PointReader, _: RestorePlan) -> Result<RestoreReport, SourceError> {
        Err(SourceError::Unsupported("it is only drilled".into()))
    }

    async fn inspect(&self, _: &PointReader) -> Result<Inspection, SourceError> {
        let mut inspection = Inspection::default();
        inspection.checked.push("the data".into());
        Ok(inspection)
    }

    async fn rehearse(
        &self,
        _: &PointReader,
        scratch: &ScratchTarget,
    ) -> Result<RestoreReport, SourceError> {
        assert!(scratch.control && scratch.name.starts_with("kdr_drill_"), "{scratch:?}");
        let mut report = RestoreReport::default();
        report.compared.push("everything".into());
        report.control.clone_from(&self.control);
        Ok(report)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_that_does_not_see_its_negative_control_makes_the_drill_red() {
    let progress: Arc<dyn ProgressSink> = Arc::new(Silent);
    let control = Control::new("deleted a document", Vec::new(), 0.1);
    for (control, exit, words) in [
        (Some(control), 4, "the comparison is blind: we deleted a document"),
        (None, 0, "nothing shows that the comparison can fail"),
    ] {
        let points = Points::new().await;
        let source = Arc::new(Blind { name: "blind".parse().expect("a name"), control });
        points.capture(&source).await;
        let home = tempfile::tempdir().expect("a directory");
        let host = HostName::of_machine();
        let mut job = DrillJob::new(points.repository.clone(), vec![source], host, home.path());
        job.point = PointChoice::newest(HostScope::Any);
        let (report, _) = drill(&job, &progress, &CancellationToken::new()).await.expect("a drill");
        assert_eq!(report.exit.code(), exit, "{report:?}");
        let findings = report.sources[0]
            .verification
            .as_ref()
            .map(|found| format!("{:?}", found.findings))
            .unwrap_or_default();
        assert!(findings.contains(words), "{findings}");
    }
}
