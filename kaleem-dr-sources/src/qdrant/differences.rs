//! The differences between the collections of two points. Qdrant's engine reads the points of both, if there is one: without it, a
//! collection is compared by what the captures counted and digested.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use kaleem_dr_core::{
    ground::{Cause, SourceError, error_chain, progress::Unit},
    recovery::{
        look::ChangeKind,
        point::PointReader,
        source::{EachItem, ItemChange, ItemComparison, ItemCounts, PartDiff, Side},
        staged::StagedWork,
    },
};
use tokio::sync::mpsc;

use super::{
    contents::{Contents, Stored},
    engine::{self, Lines},
    points::Point,
};

/// Pages of points that wait to be compared.
const PAGES_WAITING: usize = 4;

/// A page of points: each with its name and its content.
type NamedPage = (Side, Vec<(String, Vec<u8>)>);

/// Compares two points.
pub(super) async fn differences(
    old: &PointReader,
    new: &PointReader,
    engine: Option<&Path>,
    work: &StagedWork,
    each: &mut EachItem<'_>,
) -> Result<Vec<PartDiff>, SourceError> {
    let comparing = run(old, new, engine, work, each);
    work.cancel.run_until_cancelled(comparing).await.unwrap_or(Err(SourceError::Cancelled))
}

async fn run(
    old: &PointReader,
    new: &PointReader,
    engine: Option<&Path>,
    work: &StagedWork,
    each: &mut EachItem<'_>,
) -> Result<Vec<PartDiff>, SourceError> {
    let (before, after) = (Contents::read(old).await?, Contents::read(new).await?);
    let mut differences = Vec::new();
    let named = |contents: &Contents| -> BTreeMap<String, Stored> {
        let collections = contents.collections.iter().cloned();
        collections.map(|stored| (stored.name().to_owned(), stored)).collect()
    };
    let (from, to) = (named(&before), named(&after));
    let both: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    for name in both {
        let part = format!("collection {name}");
        let (a, b) = (from.get(name), to.get(name));
        let items = |stored: Option<&Stored>| stored?.description.points.count();
        let diff = PartDiff::new(&part, ChangeKind::between(a, b)).with_totals(items(a), items(b));
        let (Some(a), Some(b)) = (a, b) else {
            differences.push(diff);
            continue;
        };
        let settings = (!is_described_alike(a, b))
            .then(|| "its settings, indexes or shards differ".to_owned());
        if is_same_content(a, b) {
            if settings.is_some() {
                differences.push(diff.with_items(ItemCounts::default()).with_note(settings));
            }
            continue;
        }
        let compared = match engine {
            None => Err("set `engine` to compare its points one by one".to_owned()),
            Some(program) => points((old, a), (new, b), program, (&part, work), each).await?,
        };
        match compared {
            Ok(counts) if counts.is_empty() && settings.is_none() => {}
            Ok(counts) => differences.push(diff.with_items(counts).with_note(settings)),
            Err(why) => {
                let note = settings.map_or(why.clone(), |settings| format!("{settings}; {why}"));
                differences.push(diff.with_note(note));
            }
        }
    }
    differences.extend(aliases(&before, &after, each));
    Ok(differences)
}

/// Reports whether two captures found the same points.
fn is_same_content(old: &Stored, new: &Stored) -> bool {
    let of = |stored: &Stored| {
        let points = &stored.description.points;
        Some((points.count()?, points.content_digest()?.to_owned()))
    };
    of(old).is_some_and(|content| of(new) == Some(content))
}

fn is_described_alike(old: &Stored, new: &Stored) -> bool {
    let (a, b) = (&old.description, &new.description);
    let keys = |of: &Stored| -> Vec<String> {
        let shards = of.description.shards.iter();
        shards.map(|shard| format!("{} {:?}", shard.shard_id, shard.shard_key)).collect()
    };
    a.config == b.config && a.payload_schema == b.payload_schema && keys(old) == keys(new)
}

/// Compares the points of a collection, or returns why the engine cannot read them.
async fn points(
    (old, before): (&PointReader, &Stored),
    (new, after): (&PointReader, &Stored),
    program: &Path,
    (part, work): (&str, &StagedWork),
    each: &mut EachItem<'_>,
) -> Result<Result<ItemCounts, String>, SourceError> {
    let total = before.size_bytes() + after.size_bytes();
    let stage = work.progress.begin("comparing points", Unit::Bytes, Some(total));
    let (send, mut pages) = mpsc::channel::<NamedPage>(PAGES_WAITING);
    let lines = |side: Side| -> Lines {
        let send = send.clone();
        Arc::new(move |line: &[u8]| {
            let page = named_page(line)?;
            send.blocking_send((side, page)).map_err(|_| "the comparison has ended".into())
        })
    };
    let (from, to) = (lines(Side::Old), lines(Side::New));
    drop(send);
    let read = async {
        let read = tokio::try_join!(
            engine::pages(old, before, program, from),
            engine::pages(new, after, program, to)
        )?;
        Ok::<_, SourceError>(read.0.and(read.1))
    };
    let spilled = |cause| SourceError::Path {
        path: work.scratch.clone(),
        action: "compare points here".to_owned(),
        cause,
    };
    let mut comparison = ItemComparison::new(&work.scratch);
    let mut changed = |kind: ChangeKind, id: &str| each(ItemChange::new(kind, part, id));
    let compared = async {
        while let Some((side, page)) = pages.recv().await {
            for (id, content) in page {
                comparison.add(side, &id, &content, &mut changed).map_err(spilled)?;
            }
        }
        Ok::<(), SourceError>(())
    };
    let (read, compared) = tokio::join!(read, compared);
    stage.finish();
    // A comparison that has failed also ends the reading.
    compared?;
    Ok(match read? {
        // Only now are points that one side lacks known to be lacking.
        Ok(()) => Ok(comparison.finish(&mut changed).map_err(spilled)?),
        Err(why) => Err(format!("Qdrant's engine cannot read its points: {}", error_chain(&*why))),
    })
}

/// The points of a page, each by its id, and by its shard key, because an id is unique for each key.
fn named_page(line: &[u8]) -> Result<Vec<(String, Vec<u8>)>, Cause> {
    let (points, _) = Point::page(line)?;
    let named = |point: Point<'_>| {
        let mut content = Vec::new();
        point.write(&mut content)?;
        let id = point.id.get().trim_matches('"');
        let name = match point.shard_key {
            Some(key) => format!("{id} of shard key {}", key.get()),
            None => id.to_owned(),
        };
        Ok((name, content))
    };
    points.into_iter().map(named).collect()
}

fn aliases(old: &Contents, new: &Contents, each: &mut EachItem<'_>) -> Option<PartDiff> {
    let named = |contents: &Contents| -> BTreeMap<String, String> {
        let aliases = contents.aliases.iter().cloned();
        aliases.map(|alias| (alias.alias_name, alias.collection_name)).collect()
    };
    let (before, after) = (named(old), named(new));
    let mut counts = ItemCounts::default();
    let both: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in both {
        let kind = match (before.get(name), after.get(name)) {
            (Some(a), Some(b)) if a == b => continue,
            (old, new) => ChangeKind::between(old, new),
        };
        counts.add(kind);
        each(ItemChange::new(kind, "aliases", name));
    }
    let totals = (before.len() as u64, after.len() as u64);
    (!counts.is_empty()).then(|| {
        PartDiff::new("aliases", ChangeKind::Content)
            .with_totals(totals.0, totals.1)
            .with_items(counts)
    })
}
