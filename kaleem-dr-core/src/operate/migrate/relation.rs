//! The two repositories of the old installation: one and the same, or each its own. Their ids tell, once both are open.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;

use super::Finding;
use crate::{
    engine::repository::{Repository, Snapshot},
    ground::error_chain,
    operate::config::{RepositorySettings, secret::Environment},
};

/// What the repository off site is to the local one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Relation {
    /// None is there.
    Absent,
    /// It has the same id: objects can go over as they are.
    Mirror {
        /// Snapshots that it alone has.
        only_there: usize,
    },
    /// It has an id and keys of its own.
    Own,
    /// One of the two could not be opened.
    Unknown {
        /// Which, and why.
        why: String,
    },
}

/// A repository that was opened.
struct Opened {
    id: String,
    snapshots: Vec<Snapshot>,
}

async fn open(settings: &RepositorySettings, environment: &Environment) -> Result<Opened, String> {
    // Nothing is cached: a survey writes nothing.
    let mut access =
        settings.access("".as_ref(), environment).map_err(|error| error_chain(&error))?;
    access.cache_directory = None;
    let repository = Repository::open(&access).await.map_err(|error| error_chain(&error))?;
    let snapshots = repository.snapshots().await.map_err(|error| error_chain(&error))?;
    Ok(Opened { id: repository.id().to_owned(), snapshots })
}

/// Opens both and compares them.
pub(super) async fn relate(
    local: &RepositorySettings,
    off_site: Option<&RepositorySettings>,
    environment: &Environment,
) -> (Relation, Vec<Finding>) {
    let mut findings = Vec::new();
    let near = open(local, environment).await;
    match &near {
        Ok(near) => findings.extend(snapshots(near)),
        Err(why) => findings.push(
            Finding::error(
                "local-repository",
                format!("the local repository cannot be opened: {why}"),
                "without it there is no history to take over, and nothing to compare the one off site with",
                "mend what it says, then run this again",
            )
            .blocking(),
        ),
    }
    let Some(off_site) = off_site else { return (Relation::Absent, findings) };
    let relation = match (&near, open(off_site, environment).await) {
        (Err(why), _) => Relation::Unknown { why: format!("the local one: {why}") },
        (_, Err(why)) => Relation::Unknown { why: format!("the one off site: {why}") },
        (Ok(near), Ok(far)) if near.id == far.id => {
            Relation::Mirror { only_there: only_there(near, &far) }
        }
        (Ok(_), Ok(_)) => Relation::Own,
    };
    findings.extend(of_relation(&relation));
    (relation, findings)
}

fn only_there(near: &Opened, far: &Opened) -> usize {
    let here: BTreeSet<_> = near.snapshots.iter().map(Snapshot::id).collect();
    far.snapshots.iter().filter(|snapshot| !here.contains(&snapshot.id())).count()
}

/// What the local repository's snapshots tell.
fn snapshots(near: &Opened) -> Vec<Finding> {
    let mut findings = Vec::new();
    let now = Timestamp::now();
    let future = near.snapshots.iter().filter(|snapshot| snapshot.time().timestamp() > now).count();
    if future > 0 {
        findings.push(Finding::error(
            "future-snapshots",
            format!("{future} snapshots of the local repository are dated in the future"),
            "retention by counts keeps the newest: dates in the future push good snapshots out",
            "find out whose they are and remove them; until then `kaleem-dr forget` refuses",
        ));
    }
    let others = near
        .snapshots
        .iter()
        .filter(|snapshot| !snapshot.is_ours() && !snapshot.is_record())
        .count();
    if others > 0 {
        findings.push(Finding::information(
            "history",
            format!("the local repository holds {others} snapshots of the old jobs"),
            "they stay as they are and can be restored; once the old jobs are off, nothing forgets them",
            "when they are no longer wanted, set `take_over = true` in [retention]",
        ));
    }
    findings
}

fn of_relation(relation: &Relation) -> Option<Finding> {
    match relation {
        Relation::Absent => None,
        Relation::Mirror { only_there: 0 } => Some(Finding::information(
            "off-site-mirror",
            "the repository off site has the id of the local one",
            "it is a mirror, so it is kept equal object by object",
            "nothing: the config says `mirror_of = \"local\"`",
        )),
        Relation::Mirror { only_there } => Some(Finding::warning(
            "off-site-snapshots",
            format!(
                "the mirror off site holds {only_there} snapshots that the local repository does not have"
            ),
            "direct backups made them; the next `rclone sync` deletes them",
            "stop that sync now; with the new config, bring them home: `kaleem-dr replicate --from r2 --to local --no-delete`. \
             Until then `replicate` ends with 5 and deletes nothing",
        )),
        Relation::Own => Some(Finding::information(
            "off-site-own",
            "the repository off site has an id of its own",
            "objects of one mean nothing to the other: an `rclone sync` of the local one onto it would destroy it",
            "nothing: the config says `also = [\"r2\"]`, and each run copies into it",
        )),
        Relation::Unknown { why } => Some(Finding::warning(
            "off-site-unknown",
            format!(
                "whether the repository off site is the local one's mirror cannot be told: {why}"
            ),
            "the config takes the way that deletes nothing: `also = [\"r2\"]`",
            "mend what it says and run this again",
        )),
    }
}
