//! The snapshots that an operator names: of a source, of a run, or one of any program.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::{
    engine::repository::{Newest, PointSelector, RepositoryError, Snapshot, select},
    ground::{RunId, SourceName, host::HostScope},
    recovery::points::{PointChoice, choose},
};

/// Named snapshots, with warnings about the choice.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Named {
    /// The snapshots: of one source or program each.
    pub snapshots: Vec<Snapshot>,
    /// Warnings, as one sentence each: a newer point that was skipped, a source without a point.
    pub notes: Vec<String>,
}

impl Named {
    fn one(snapshot: &Snapshot) -> Self {
        Self { snapshots: vec![snapshot.clone()], notes: Vec::new() }
    }
}

/// The snapshots that a text names: the newest whole point of a source by its name (with `~N` and `@TIME` as after `latest`), all
/// snapshots of a run by the beginning of its id, or a snapshot as [`select`] finds it. The name of a source comes first.
///
/// # Errors
/// If nothing matches, or several snapshots or runs do.
pub fn named(
    snapshots: &[Snapshot],
    text: &str,
    hosts: &HostScope,
    now: Timestamp,
) -> Result<Named, RepositoryError> {
    let (name, rest) = text.split_at(text.find(['~', '@']).unwrap_or(text.len()));
    if let Ok(source) = name.parse::<SourceName>()
        && snapshots.iter().any(|snapshot| snapshot.source().as_ref() == Some(&source))
    {
        let PointSelector::Newest(newest) = PointSelector::parse(&format!("latest{rest}"))? else {
            return Err(RepositoryError::NoSnapshot { wanted: text.to_owned() });
        };
        return newest_of_each(snapshots, newest, Some(&source), hosts, now);
    }
    match select(snapshots, text, hosts) {
        Ok(snapshot) => Ok(Named::one(snapshot)),
        Err(none @ RepositoryError::NoSnapshot { .. }) => of_run(snapshots, text)?.ok_or(none),
        Err(error) => Err(error),
    }
}

/// The snapshots of the run whose id begins with this text.
fn of_run(snapshots: &[Snapshot], text: &str) -> Result<Option<Named>, RepositoryError> {
    let begin = text.to_uppercase();
    let is_of_it = |snapshot: &&Snapshot| {
        snapshot.is_ours()
            && !begin.is_empty()
            && snapshot.run().is_some_and(|run| run.to_string().starts_with(&begin))
    };
    let found: Vec<&Snapshot> = snapshots.iter().filter(is_of_it).collect();
    let runs: BTreeSet<RunId> = found.iter().filter_map(|snapshot| snapshot.run()).collect();
    match runs.len() {
        0 => Ok(None),
        1 => Ok(Some(Named { snapshots: found.into_iter().cloned().collect(), notes: Vec::new() })),
        _ => Err(RepositoryError::ambiguous(text, &found)),
    }
}

/// The newest whole point of each source of each host, or of one source only; an older one as `newest` describes. If these hosts
/// have no point of ours, the newest snapshot of another program.
///
/// # Errors
/// If there is none. A source without such a point is a note if another has one.
pub fn newest_of_each(
    snapshots: &[Snapshot],
    newest: Newest,
    source: Option<&SourceName>,
    hosts: &HostScope,
    now: Timestamp,
) -> Result<Named, RepositoryError> {
    let mut owned: BTreeMap<(String, SourceName), Vec<Snapshot>> = BTreeMap::new();
    for snapshot in snapshots {
        let of_scope = snapshot.is_ours() && hosts.includes(snapshot.host());
        if let Some(name) = snapshot.source().filter(|name| source.is_none_or(|one| one == name))
            && of_scope
        {
            owned.entry((snapshot.host().to_owned(), name)).or_default().push(snapshot.clone());
        }
    }
    let wanted = newest.to_string();
    if owned.is_empty() {
        return match source {
            // `choose` names the hosts that have points.
            Some(source) => {
                let choice = PointChoice { wanted, ..PointChoice::latest(hosts.clone()) };
                let chosen = choose(snapshots, source, &choice, now)?;
                Ok(Named { snapshots: vec![chosen.snapshot], notes: chosen.notes })
            }
            None => Ok(Named::one(select(snapshots, &wanted, hosts)?)),
        };
    }
    let (mut named, mut failed) = (Named::default(), None);
    for ((_, source), of_source) in owned {
        let choice = PointChoice { wanted: wanted.clone(), ..PointChoice::latest(HostScope::Any) };
        match choose(&of_source, &source, &choice, now) {
            Ok(chosen) => {
                named.snapshots.push(chosen.snapshot);
                named.notes.extend(chosen.notes);
            }
            Err(error) => {
                named.notes.push(error.to_string());
                failed.get_or_insert(error);
            }
        }
    }
    match failed {
        Some(error) if named.snapshots.is_empty() => Err(error),
        _ => Ok(named),
    }
}
