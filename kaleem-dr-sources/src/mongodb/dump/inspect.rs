//! Checks a point at every depth without a server: every document is parsed, every description
//! read.

use std::collections::BTreeSet;

use bson::{Bson, Document};
use kaleem_dr_core::{
    engine::manifest::ArtifactRecord,
    ground::{
        SourceError,
        digest::MultisetDigest,
        finding::Finding,
        progress::{StageProgress, Unit},
    },
    recovery::{point::PointReader, source::Inspection},
};

use super::{
    catalogue::{self, StoredCollection},
    documents::DocumentSplitter,
    oplog, slice, wellformed,
};
use crate::mongodb::{
    oplog::parse,
    server::listing::{CollectionKind, CollectionSpec},
};

/// Limit for a metadata file, in bytes: a larger file is not metadata.
const LARGEST_METADATA: u64 = 64 << 20;
/// Limit for the number of findings listed per artifact; more add no information.
const FINDINGS: usize = 20;

/// Checks a point from a snapshot or a staged file.
pub(crate) async fn inspect(point: &PointReader) -> Result<Inspection, SourceError> {
    let cancel = point.cancellation();
    cancel.run_until_cancelled(run(point)).await.unwrap_or(Err(SourceError::Cancelled))
}

async fn run(point: &PointReader) -> Result<Inspection, SourceError> {
    let mut inspection = Inspection::default();
    let stored = match catalogue::read(point.manifest()) {
        Ok(stored) => stored,
        Err(SourceError::Point(cause)) => {
            inspection.findings.push(Finding::error(format!("the manifest: {cause}")));
            return Ok(inspection);
        }
        Err(error) => return Err(error),
    };
    for stored in &stored {
        let before = inspection.findings.len();
        described(point, stored, &mut inspection).await?;
        if inspection.findings.len() == before {
            let indexes = stored.spec.indexes.len();
            inspection
                .checked
                .push(format!("{}: options and {indexes} indexes", stored.entry.metadata));
        }
    }
    let described: BTreeSet<&str> =
        stored.iter().map(|stored| stored.entry.metadata.as_str()).collect();
    let data = || {
        point
            .manifest()
            .artifacts
            .iter()
            .filter(|artifact| !described.contains(artifact.path.as_str()))
    };
    let total = data().map(|artifact| artifact.size_bytes).sum();
    let progress = point.progress().begin("check documents", Unit::Bytes, Some(total));
    for artifact in data() {
        let found = documents(point, artifact, progress.as_ref()).await?;
        if !found.findings.iter().any(Finding::is_error) {
            inspection.checked.push(format!("{}: {} documents", artifact.path, found.documents));
        }
        inspection.findings.extend(found.findings);
    }
    progress.finish();
    for slice in point.log().into_iter().flat_map(|tail| &tail.slices) {
        match slice::inspect(slice).await {
            Ok(entries) => {
                inspection.checked.push(format!("a slice of the oplog: {entries} entries"));
            }
            Err(SourceError::Point(cause)) => {
                inspection.findings.push(Finding::error(format!("a slice of the oplog: {cause}")));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(inspection)
}

/// Checks the metadata of one collection.
async fn described(
    point: &PointReader,
    stored: &StoredCollection,
    inspection: &mut Inspection,
) -> Result<(), SourceError> {
    let path = &stored.entry.metadata;
    let json = match point.artifact(path).await?.read_all(LARGEST_METADATA).await {
        Ok(json) => json,
        Err(SourceError::Point(cause)) => {
            inspection.findings.push(Finding::error(format!("{path}: {cause}")));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if json != stored.entry.specification.as_bytes() {
        inspection.findings.push(Finding::error(format!("{path} differs from the manifest")));
    }
    inspection.findings.extend(
        complaints(&stored.spec).into_iter().map(|why| Finding::error(format!("{path}: {why}"))),
    );
    Ok(())
}

/// The reasons why a server could not create this collection.
fn complaints(spec: &CollectionSpec) -> Vec<String> {
    let mut complaints = Vec::new();
    let options = &spec.options;
    match spec.kind {
        CollectionKind::View => {
            if options.get_str("viewOn").is_ok_and(|on| !on.is_empty())
                && options.get_array("pipeline").is_ok()
            {
            } else {
                complaints.push("a view must have `viewOn` and a `pipeline`".to_owned());
            }
        }
        CollectionKind::TimeSeries => {
            if options
                .get_document("timeseries")
                .and_then(|series| series.get_str("timeField"))
                .is_err()
            {
                complaints.push("a time series must have a `timeField`".to_owned());
            }
        }
        CollectionKind::Collection => {
            if spec.is_capped() && !is_number(options.get("size")) {
                complaints.push("a capped collection must have a `size`".to_owned());
            }
        }
    }
    let mut names = BTreeSet::new();
    for (at, index) in spec.indexes.iter().enumerate() {
        match index.get_str("name") {
            Ok(name) if !name.is_empty() => {
                if !names.insert(name) {
                    complaints.push(format!("two indexes have the name `{name}`"));
                }
            }
            _ => complaints.push(format!("index {} has no name", at + 1)),
        }
        if !has_key(index) {
            complaints.push(format!("index {} has no key", at + 1));
        }
    }
    complaints
}

fn has_key(index: &Document) -> bool {
    index.get_document("key").is_ok_and(|key| !key.is_empty())
}

fn is_number(value: Option<&Bson>) -> bool {
    matches!(value, Some(Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_)))
}

/// Findings in one artifact.
#[derive(Default)]
struct Found {
    documents: u64,
    at: u64,
    findings: Vec<Finding>,
}

impl Found {
    fn add(&mut self, path: &str, finding: impl FnOnce(String) -> Finding, what: &str) {
        match self.findings.len() {
            FINDINGS => self.findings.push(finding(format!(
                "{path}: more than {FINDINGS} findings in total; the others are not listed"
            ))),
            some if some < FINDINGS => self.findings.push(finding(format!("{path}: {what}"))),
            _ => {}
        }
    }
}

/// Parses every document of an artifact and compares count and digest with the manifest.
async fn documents(
    point: &PointReader,
    artifact: &ArtifactRecord,
    progress: &dyn StageProgress,
) -> Result<Found, SourceError> {
    let path = &artifact.path;
    let mut found = Found::default();
    let mut content = MultisetDigest::default();
    let mut splitter = DocumentSplitter::default();
    let mut reader = point.artifact(path).await?;
    let broken = loop {
        let piece = match reader.next().await {
            Ok(Some(piece)) => piece,
            Ok(None) => break splitter.finish().err(),
            Err(SourceError::Point(cause)) => break Some(cause.to_string()),
            Err(error) => return Err(error),
        };
        progress.advance(piece.len() as u64);
        splitter.push(&piece);
        if let Err(why) = walk(&mut splitter, path, &mut found, &mut content) {
            break Some(why);
        }
    };
    if let Some(why) = broken {
        let number = found.documents + 1;
        let at = found.at;
        found.findings.push(Finding::error(format!(
            "{path}: document {number} at byte {at} cannot be read: {why}"
        )));
        return Ok(found);
    }
    if artifact.items.is_some_and(|items| items != found.documents) {
        let items = artifact.items.unwrap_or_default();
        let what =
            format!("it has {} documents, but the manifest records {items}", found.documents);
        found.findings.push(Finding::error(format!("{path}: {what}")));
    }
    if artifact.content_digest.as_ref().is_some_and(|digest| *digest != content.to_hex()) {
        found
            .findings
            .push(Finding::error(format!("{path}: its documents differ from the manifest")));
    }
    Ok(found)
}

/// Parses the documents that are complete so far.
fn walk(
    splitter: &mut DocumentSplitter,
    path: &str,
    found: &mut Found,
    content: &mut MultisetDigest,
) -> Result<(), String> {
    while let Some(document) = splitter.next()? {
        content.add(&document);
        found.documents += 1;
        let (number, at) = (found.documents, found.at);
        if path == oplog::needed_path()
            && let Ok(entry) = bson::RawDocument::from_bytes(&document)
            && let Err(why) = parse(entry)
        {
            let what = format!("entry {number} cannot be replayed: it {why}");
            found.add(path, Finding::error, &what);
        }
        match wellformed::check(&document) {
            Ok(None) => {}
            Ok(Some(text)) => {
                let place = at + text as u64;
                found.add(
                    path,
                    Finding::warning,
                    &format!("document {number}: the text at byte {place} is not UTF-8"),
                );
            }
            Err(flaw) => {
                let place = at + flaw.at as u64;
                found.add(
                    path,
                    Finding::error,
                    &format!("document {number} is malformed at byte {place}: {}", flaw.why),
                );
            }
        }
        found.at += document.len() as u64;
    }
    Ok(())
}
