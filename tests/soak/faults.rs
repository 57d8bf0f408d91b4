//! Objects that are lost or damaged while the program runs, and the operator's reaction.

use std::{collections::BTreeSet, fs, path::PathBuf};

use crate::{
    random::Random,
    repository::Repository,
    steps,
    world::{World, bytes_of, unequal, unequal_after},
};

/// A damaged object, with its original content.
struct Fault {
    path: PathBuf,
    key: String,
    was: Vec<u8>,
    kind: &'static str,
}

impl Fault {
    /// Damages an object in one of the directories.
    fn strike(repository: &Repository, directories: &[&str], random: &mut Random) -> Option<Self> {
        let of_kind = |key: &str| directories.iter().any(|directory| key.starts_with(directory));
        let keys: Vec<String> =
            repository.objects().into_keys().filter(|key| of_kind(key)).collect();
        let key = if keys.is_empty() { return None } else { random.pick(&keys).clone() };
        let path = repository.directory.join(&key);
        let was = bytes_of(&path);
        let kind = *random.pick(&["deleted", "cut short", "flipped"]);
        let damaged = match kind {
            "deleted" => fs::remove_file(&path),
            "cut short" => rewrite(&path, &was[..was.len() / 2]),
            _ => {
                let mut bytes = was.clone();
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
                rewrite(&path, &bytes)
            }
        };
        damaged.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Some(Self { path, key, was, kind })
    }

    fn undo(&self) {
        rewrite(&self.path, &self.was)
            .unwrap_or_else(|error| panic!("{}: {error}", self.path.display()));
    }

    fn is_mended(&self) -> bool {
        fs::read(&self.path).is_ok_and(|bytes| bytes == self.was)
    }
}

fn rewrite(path: &std::path::Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    if path.exists() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    }
    fs::write(path, bytes)
}

/// The near repository loses an object. No command may report it whole; a backup that still ends
/// with 0 can be restored; the mirror repairs what it has.
pub fn near(world: &mut World, host: usize) -> Result<(), String> {
    let before = world.near.objects();
    let Some(fault) =
        Fault::strike(&world.near, &["data/", "index/", "snapshots/"], &mut world.random)
    else {
        return Ok(());
    };
    let line = format!("{} is {} in the near repository", fault.key, fault.kind);
    world.tell(&line);
    let done = under_fault(world, host, &fault);
    // Afterwards, a pass with --max-delete 100 would take the lost snapshot for a forgotten one.
    let mirrored = world.mirror.objects();
    // Repaired from the mirror if it has the object, like an operator would; otherwise the test
    // restores it.
    if mirrored.contains_key(&fault.key) && done.is_ok() {
        let repaired = world.run(host, &["repair", "--from", "mirror", "--missing"], None);
        if repaired.is_done() && !fault.is_mended() {
            return Err(format!("repair ended with 0, and {} is still {}", fault.key, fault.kind));
        }
        if !repaired.is_done()
            && !world.excuses.clock
            && mirrored.keys().all(|key| before.contains_key(key))
        {
            return Err(format!(
                "{} is {}, the mirror has it, and repair failed: {}",
                fault.key,
                fault.kind,
                repaired.said()
            ));
        }
    }
    // An index is rebuilt from the packs.
    if fault.key.starts_with("index/") && !fault.is_mended() && done.is_ok() {
        let repaired = world.run(host, &["repair", "index", "--yes"], None);
        if !repaired.is_done() {
            fault.undo();
            return Err(format!(
                "{} is {}, and repair index failed: {}",
                fault.key,
                fault.kind,
                repaired.said()
            ));
        }
        if let Some(complaint) = world.near.complaint(false) {
            return Err(format!(
                "{} was {}, repair index ended with 0, and: {complaint}",
                fault.key, fault.kind
            ));
        }
    } else if !fault.is_mended() {
        fault.undo();
        // A backup in between has removed the pack from the index. Now that it exists again, it is
        // indexed again.
        let repaired = world.run(host, &["repair", "index", "--yes"], None);
        if !repaired.is_done() {
            return Err(format!(
                "{} was {} and is back, and repair index failed: {}",
                fault.key,
                fault.kind,
                repaired.said()
            ));
        }
    }
    // Objects that repair brought back from the mirror in addition, and those written while
    // something was missing.
    let listed = world.near.snapshots()?;
    world.held = listed.into_keys().filter(|id| world.truths.contains_key(id)).collect();
    done
}

fn under_fault(world: &mut World, host: usize, fault: &Fault) -> Result<(), String> {
    let checked = world.run(host, &["check", "--read-data"], None);
    // Whatever stock restic finds, the program must find. What neither finds is not needed: a pack
    // marked by prune, or a snapshot that is gone without a trace, which only the mirror and the
    // ledger can miss.
    if checked.is_done()
        && let Some(complaint) = world.near.complaint(true)
    {
        return Err(format!(
            "{} is {}, and check --read-data ended with 0, but {complaint}",
            fault.key, fault.kind
        ));
    }
    if world.random.chance(50) {
        return backup_under_fault(world, host, fault);
    }
    if world.mirror.exists() && world.random.chance(40) {
        replicate_under_fault(world, host, fault)?;
    }
    Ok(())
}

/// A pass from a damaged repository: new objects are copied as they are, but the mirror's own
/// objects stay intact.
fn replicate_under_fault(world: &mut World, host: usize, fault: &Fault) -> Result<(), String> {
    let had = world.mirror.snapshots()?;
    let replicated = world.run(host, &["replicate", "--max-delete", "100"], None);
    let has = world.mirror.snapshots()?;
    let harmed = |why: String| {
        format!(
            "{} was {} here, and replicate ({:?}) harmed the mirror: {why}",
            fault.key, fault.kind, replicated.code
        )
    };
    let kept: Vec<String> = had
        .into_keys()
        .filter(|id| world.held.contains(id) && !fault.key.ends_with(id.as_str()))
        .collect();
    if let Some(lost) = kept.iter().find(|id| !has.contains_key(*id)) {
        return Err(harmed(format!("snapshot {} is gone there", &lost[..8])));
    }
    for id in kept.iter().take(3) {
        world.restore_equals(&world.mirror, id, &world.truths[id]).map_err(&harmed)?;
    }
    Ok(())
}

/// A backup over a damaged repository: it may refuse, but once it ends with 0, the released
/// snapshot is whole.
fn backup_under_fault(world: &mut World, host: usize, fault: &Fault) -> Result<(), String> {
    let known: BTreeSet<String> = world.held.iter().cloned().collect();
    let saved = world.run(host, &["backup"], None);
    let names =
        fs::read_dir(world.near.directory.join("snapshots")).map_err(|error| error.to_string())?;
    let come: Vec<String> = names
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|id| !known.contains(id))
        .collect();
    let lost_itself = fault.key.starts_with("snapshots/");
    for id in come.iter().filter(|id| !(lost_itself && fault.key.ends_with(id.as_str()))) {
        let content =
            crate::tree::content_of(&world.hosts[host].tree).map_err(|error| error.to_string())?;
        let truth = crate::world::Truth { host, content: content.into() };
        world.truths.insert(id.clone(), truth.clone());
        // Flipped or truncated packs are not detected: a backup does not read what it does not
        // write.
        let is_seen =
            saved.is_done() && fault.kind == "deleted" && !fault.key.starts_with("snapshots/");
        if is_seen {
            world.restore_equals(&world.near, id, &truth).map_err(|why| {
                format!("{} was {}, a backup ended with 0, and: {why}", fault.key, fault.kind)
            })?;
        }
    }
    Ok(())
}

/// `repair` from the mirror is killed; the next one completes the repair.
pub fn repair_killed(world: &mut World, host: usize, die: Option<&str>) -> Result<(), String> {
    if !world.mirror.exists() || unequal(&world.near, &world.mirror).is_some() {
        return steps::replicate(world, host, None);
    }
    let Some(fault) = Fault::strike(&world.near, &["data/", "index/"], &mut world.random) else {
        return Ok(());
    };
    let line = format!("{} is {} in the near repository", fault.key, fault.kind);
    world.tell(&line);
    let repair = ["repair", "--from", "mirror", "--missing"];
    world.run(host, &repair, die);
    let ended = world.run(host, &repair, None);
    if ended.is_done() && fault.is_mended() {
        Ok(())
    } else {
        Err(format!(
            "{} is {}, and after a repair that was killed another ended with {}",
            fault.key,
            fault.kind,
            ended.said()
        ))
    }
}

/// The mirror loses an object. `replicate` copies it again, or reports it.
pub fn mirror(world: &mut World, host: usize) -> Result<(), String> {
    if !world.mirror.exists() {
        return steps::replicate(world, host, None);
    }
    let Some(fault) = Fault::strike(
        &world.mirror,
        &["data/", "index/", "snapshots/", "keys/"],
        &mut world.random,
    ) else {
        return Ok(());
    };
    let line = format!("{} is {} in the mirror", fault.key, fault.kind);
    world.tell(&line);
    let ended = world.run(host, &["replicate", "--max-delete", "100", "--verify", "100"], None);
    let wanted = world.near.objects().contains_key(&fault.key);
    let result = if ended.is_done() && wanted && !fault.is_mended() {
        Err(format!(
            "{} was {} in the mirror, and replicate --verify 100 ended with 0",
            fault.key, fault.kind
        ))
    } else if ended.is_done()
        && let Some(how) = unequal_after(&world.near, &world.mirror, &ended)
    {
        Err(format!("replicate ended with 0, but {how}"))
    } else {
        Ok(())
    };
    if !fault.is_mended() && (world.excuses.clock || world.near.objects().contains_key(&fault.key))
    {
        fault.undo();
    }
    result?;
    if !world.near.objects().contains_key(&fault.key)
        && world.mirror.objects().contains_key(&fault.key)
    {
        // A damaged object that is not needed: it is deleted, at the latest once the near
        // repository has been pruned.
        steps::prune(world, host, None)?;
        steps::replicate(world, host, None)?;
        if world.mirror.objects().contains_key(&fault.key) {
            return Err(format!(
                "{} was {} in the mirror, is out of use, and stays there",
                fault.key, fault.kind
            ));
        }
    }
    Ok(())
}
