//! The relation of the two old repositories: mirror, or independent. Their ids show which, if both
//! can be opened.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;

use super::Finding;
use crate::{
    engine::repository::{Repository, Snapshot},
    ground::error_chain,
    operate::config::{RepositorySettings, secret::Environment},
};

/// The relation of the off-site repository to the local one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Relation {
    /// There is no off-site repository.
    Absent,
    /// It has the same id: objects can be copied unchanged.
    Mirror {
        /// Number of snapshots that only it has.
        only_there: usize,
    },
    /// It has its own id and keys.
    Own,
    /// One of the two could not be opened.
    Unknown {
        /// Which one, and why.
        why: String,
    },
}

/// An opened repository.
struct Opened {
    id: String,
    snapshots: Vec<Snapshot>,
}

async fn open(settings: &RepositorySettings, environment: &Environment) -> Result<Opened, String> {
    // Without a cache, because a survey writes nothing.
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
                format!("cannot open the local repository: {why}"),
                "without it, there is no history to continue, and nothing to compare the off-site repository with",
                "fix this problem, then run this command again",
            )
            .blocking(),
        ),
    }
    let Some(off_site) = off_site else { return (Relation::Absent, findings) };
    let relation = match (&near, open(off_site, environment).await) {
        (Err(why), _) => Relation::Unknown { why: format!("the local repository: {why}") },
        (_, Err(why)) => Relation::Unknown { why: format!("the off-site repository: {why}") },
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

/// Findings about the local repository's snapshots.
fn snapshots(near: &Opened) -> Vec<Finding> {
    let mut findings = Vec::new();
    let now = Timestamp::now();
    let future = near.snapshots.iter().filter(|snapshot| snapshot.time().timestamp() > now).count();
    if future > 0 {
        findings.push(Finding::error(
            "future-snapshots",
            format!("{future} snapshots of the local repository are dated in the future"),
            "retention by counts keeps the newest: snapshots dated in the future displace good ones",
            "find out which program made them, and remove them; until then `kaleem-dr forget` refuses",
        ));
    }
    let others =
        near.snapshots.iter().filter(|snapshot| !snapshot.is_ours() && snapshot.is_data()).count();
    if others > 0 {
        findings.push(Finding::information(
            "history",
            format!("the local repository holds {others} snapshots of the old jobs"),
            "they are kept and can be restored; after the old jobs are disabled, nothing forgets them",
            "when you no longer need them, set `take_over = true` in [retention]",
        ));
    }
    findings
}

fn of_relation(relation: &Relation) -> Option<Finding> {
    match relation {
        Relation::Absent => None,
        Relation::Mirror { only_there: 0 } => Some(Finding::information(
            "off-site-mirror",
            "the off-site repository has the id of the local one",
            "it is a mirror, which is updated object by object",
            "no action needed: the config sets `mirror_of = \"local\"`",
        )),
        Relation::Mirror { only_there } => Some(Finding::warning(
            "off-site-snapshots",
            format!(
                "the off-site mirror has {only_there} snapshots that the local repository does not have"
            ),
            "direct backups made them; the next `rclone sync` deletes them",
            "stop that sync now; with the new config, copy them back: `kaleem-dr replicate --from r2 --to local --no-delete`. \
             Until then `replicate` ends with 5 and deletes nothing",
        )),
        Relation::Own => Some(Finding::information(
            "off-site-own",
            "the off-site repository has its own id",
            "neither can read the other's objects: an `rclone sync` of the local one to it would destroy it",
            "no action needed: the config sets `also = [\"r2\"]`, and each run copies to it",
        )),
        Relation::Unknown { why } => Some(Finding::warning(
            "off-site-unknown",
            format!(
                "cannot determine whether the off-site repository is a mirror of the local one: {why}"
            ),
            "the config uses the setting that deletes nothing: `also = [\"r2\"]`",
            "fix this problem, then run this command again",
        )),
    }
}
