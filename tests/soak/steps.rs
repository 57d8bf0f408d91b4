//! The steps of a sequence: each is an action or an accident of hosts, with the conditions that
//! must hold if the command ended with 0.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _};

use kaleem_dr_core::jiff::Timestamp;

use crate::{
    faults, kills, overlap,
    program::Ended,
    tree,
    world::{World, unequal_after},
};

/// Runs one step. An error names the broken promise.
pub fn take(world: &mut World) -> Result<(), String> {
    let host = world.random.below(world.hosts.len());
    if world.held.len() < 2 {
        return backup(world, host, None);
    }
    match world.random.below(100) {
        0..30 => backup(world, host, None),
        30..38 => forget(world, host, None),
        38..46 => prune(world, host, None),
        46..56 => replicate(world, host, None),
        56..60 => copy(world, host, None),
        60..64 => verify(world, host),
        64..67 => restore(world, host),
        67..70 => keys(world, host, None),
        70..78 => faults::near(world, host),
        78..82 => faults::mirror(world, host),
        82..92 => kills::killed(world, host),
        92..95 => overlap::overlap(world, host),
        _ => {
            clock(world, host);
            Ok(())
        }
    }
}

/// Checks the conditions that must hold after every step.
pub fn invariants(world: &mut World) -> Result<(), String> {
    if let Some(complaint) = world.near.complaint(world.random.chance(5)) {
        return Err(complaint);
    }
    let held: Vec<String> = world.held.iter().cloned().collect();
    if !held.is_empty() {
        let id = world.random.pick(&held).clone();
        world.restore_equals(&world.near, &id, &world.truths[&id])?;
    }
    Ok(())
}

/// Decides whether a command that did not end with 0 had a valid reason.
fn excused(world: &mut World, host: usize, what: &str, ended: &Ended) -> Result<(), String> {
    match ended.code {
        None => Ok(()),
        // An alarm is active because a tree changed a lot: an operator inspects and acknowledges
        // it.
        Some(5) if ended.stderr.contains("alarm") => {
            for at in 0..world.hosts.len() {
                world.run(at, &["alarm", "acknowledge"], None);
            }
            Ok(())
        }
        Some(5 | 6) if world.excuses.clock => Ok(()),
        // All snapshots of this host are dated in the future.
        Some(1) if world.excuses.clock && ended.stderr.contains("in the future") => Ok(()),
        _ => Err(format!("{what} on {} failed: {}", world.hosts[host].name, ended.said())),
    }
}

pub fn backup(world: &mut World, host: usize, die: Option<&str>) -> Result<(), String> {
    let tree = world.hosts[host].tree.clone();
    tree::change(&tree, &mut world.random).map_err(|error| error.to_string())?;
    let ended = world.run(host, &["backup"], die);
    let changes = world.take_in(host, true, &BTreeSet::new())?;
    // Even a snapshot whose run was killed after the release must be correct.
    for id in &changes.come {
        world.restore_equals(&world.near, id, &world.truths[id])?;
    }
    if ended.is_done() && changes.come.len() != 1 {
        return Err(format!("a backup ended with 0, and {} snapshots came", changes.come.len()));
    }
    if ended.is_done() { Ok(()) } else { excused(world, host, "backup", &ended) }
}

pub fn forget(world: &mut World, host: usize, die: Option<&str>) -> Result<(), String> {
    let keep = world.random.between(2, 5);
    let keep_last = keep.to_string();
    let mut own: Vec<(String, String)> = world
        .near
        .snapshots()?
        .into_iter()
        .filter(|(_, listed)| listed.host == world.hosts[host].name)
        .map(|(id, listed)| (listed.time, id))
        .collect();
    own.sort_by_key(|(time, _)| time.parse::<Timestamp>().expect("restic writes RFC 3339"));
    let surplus: BTreeSet<String> = own.iter().rev().skip(keep).map(|(_, id)| id.clone()).collect();
    let mut args = vec!["forget", "--keep-last", &keep_last, "--yes"];
    if world.random.chance(30) {
        args.push("--prune");
    }
    let ended = world.run(host, &args, die);
    let changes = world.take_in(host, false, &surplus)?;
    if ended.is_done() && changes.gone != surplus {
        return Err(format!(
            "forget ended with 0, and {} of {} snapshots are gone",
            changes.gone.len(),
            surplus.len()
        ));
    }
    if ended.is_done() { Ok(()) } else { excused(world, host, "forget", &ended) }
}

pub fn prune(world: &mut World, host: usize, die: Option<&str>) -> Result<(), String> {
    let mut args = vec!["prune", "--yes"];
    if world.random.chance(50) {
        args.push("--instant");
    }
    if world.random.chance(30) {
        args.extend(["--max-unused", "0"]);
    }
    let ended = world.run(host, &args, die);
    world.take_in(host, false, &BTreeSet::new())?;
    if ended.is_done() { Ok(()) } else { excused(world, host, "prune", &ended) }
}

pub fn replicate(world: &mut World, host: usize, die: Option<&str>) -> Result<(), String> {
    const ARGS: [&str; 5] = ["replicate", "--max-delete", "100", "--verify", "5"];
    let mut ended = world.run(host, &ARGS, die);
    if is_foreign(&ended) {
        // A snapshot that the other host brought, and that was forgotten before this one saw it:
        // the other host deletes it, as the error says.
        let other = (host + 1) % world.hosts.len();
        world.run(other, &ARGS, None);
        ended = world.run(host, &ARGS, None);
    }
    if world.kills > 0 && ended.code == Some(5) && ended.said().contains("prune was cut short") {
        // A prune may have been killed: the next one completes it, as the refusal says.
        prune(world, host, None)?;
        ended = world.run(host, &ARGS, None);
    }
    if is_foreign(&ended) {
        // Its pass was killed before it had recorded what it brought: an operator gives the
        // snapshot up.
        let args: Vec<&str> = ARGS.into_iter().chain(["--delete-foreign"]).collect();
        ended = world.run(host, &args, None);
    }
    world.take_in(host, false, &BTreeSet::new())?;
    if !world.mirror.exists() {
        return if ended.is_done() {
            Err("replicate ended with 0, and there is no mirror".into())
        } else {
            Ok(())
        };
    }
    // Even a mirror whose pass was interrupted is a whole repository, for the snapshots that it
    // has.
    if let Some(complaint) = world.mirror.complaint(false) {
        return Err(complaint);
    }
    if !ended.is_done() {
        return excused(world, host, "replicate", &ended);
    }
    if let Some(how) = unequal_after(&world.near, &world.mirror, &ended) {
        return Err(format!("replicate ended with 0, but {how}; it said {}", ended.said()));
    }
    let held: Vec<String> = world.held.iter().cloned().collect();
    let id = world.random.pick(&held).clone();
    world.restore_equals(&world.mirror, &id, &world.truths[&id])
}

/// Reports whether a pass refused to delete what its own host did not bring.
fn is_foreign(ended: &Ended) -> bool {
    ended.code == Some(5) && ended.said().contains("--delete-foreign")
}

pub fn copy(world: &mut World, host: usize, die: Option<&str>) -> Result<(), String> {
    let ended = world.run(host, &["copy", "--to", "other"], die);
    world.take_in(host, false, &BTreeSet::new())?;
    if let Some(complaint) = world.other.complaint(false) {
        return Err(complaint);
    }
    let copies = world.other.snapshots()?;
    let originals: BTreeSet<String> =
        copies.values().filter_map(|listed| listed.original.clone()).collect();
    if ended.is_done()
        && let Some(missing) = world.held.iter().find(|id| !originals.contains(*id))
    {
        return Err(format!("copy ended with 0, and snapshot {} was not copied", &missing[..8]));
    }
    let copies: Vec<_> =
        copies.into_iter().filter_map(|(id, listed)| Some((id, listed.original?))).collect();
    if !copies.is_empty() {
        let (id, original) = world.random.pick(&copies).clone();
        world.restore_equals(&world.other, &id, &world.truths[&original])?;
    }
    if ended.is_done() { Ok(()) } else { excused(world, host, "copy", &ended) }
}

/// Verifies this host's newest point. A success is checked with stock restic.
fn verify(world: &mut World, host: usize) -> Result<(), String> {
    let has_own = world.held.iter().any(|id| world.truths[id].host == host);
    let ended = world.run(host, &["verify"], None);
    match (has_own, ended.is_done()) {
        (false, true) => Err("verify ended with 0 where this host has no snapshot".into()),
        (false, false) => Ok(()),
        (true, true) => Ok(()),
        (true, false) => excused(world, host, "verify", &ended),
    }
}

/// Restores this host's newest point with the program, and compares it with the oracle.
fn restore(world: &mut World, host: usize) -> Result<(), String> {
    let listed = world.near.snapshots()?;
    let newest =
        listed.iter().filter(|(_, listed)| listed.host == world.hosts[host].name).max_by_key(
            |(_, listed)| listed.time.parse::<Timestamp>().expect("restic writes RFC 3339"),
        );
    let target = world.path_of("restored");
    let _ = fs::remove_dir_all(&target);
    let ended =
        world.run(host, &["restore", "configs", "--to", target.to_str().expect("UTF-8")], None);
    let Some((id, _)) = newest else {
        return if ended.is_done() {
            Err("a host without snapshots restored something".into())
        } else {
            Ok(())
        };
    };
    if !ended.is_done() {
        return excused(world, host, "restore", &ended);
    }
    if world.excuses.clock {
        // Which one is the newest depends on a clock.
        return Ok(());
    }
    let below = target.join(world.hosts[host].tree.strip_prefix("/").expect("absolute"));
    let found = tree::content_of(&below).map_err(|error| error.to_string())?;
    tree::difference(&found, &world.truths[id].content).map_or(Ok(()), |how| {
        Err(format!("restore ended with 0, but not with snapshot {}: {how}", &id[..8]))
    })
}

/// Adds a password, which must then open the repository, or removes one, which then must not.
pub fn keys(world: &mut World, host: usize, die: Option<&str>) -> Result<(), String> {
    let file = world.path_of("second-password");
    fs::write(&file, "another\n").map_err(|error| error.to_string())?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))
        .map_err(|error| error.to_string())?;
    let keys_before = world.near.objects().keys().filter(|key| key.starts_with("keys/")).count();
    let second =
        world.near.objects().into_keys().find(|key| key.starts_with("keys/") && !is_first_key(key));
    let ended = match &second {
        None => world.run(
            host,
            &["key", "add", "--new-password-file", file.to_str().expect("UTF-8")],
            die,
        ),
        Some(key) => world.run(host, &["key", "remove", key.trim_start_matches("keys/")], die),
    };
    let keys_after = world.near.objects().keys().filter(|key| key.starts_with("keys/")).count();
    if !ended.is_done() {
        return excused(world, host, "key", &ended);
    }
    let expected = if second.is_none() { keys_before + 1 } else { keys_before - 1 };
    if keys_after == expected {
        Ok(())
    } else {
        Err(format!("{keys_before} keys became {keys_after}"))
    }
}

/// The initial key of each world.
fn is_first_key(key: &str) -> bool {
    let made = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/soak/near");
    made.join(format!("key-{}", key.trim_start_matches("keys/"))).exists()
}

/// Acknowledges the alarm, if one is active.
pub fn acknowledge(world: &mut World, host: usize, die: Option<&str>) -> Result<(), String> {
    let ended = world.run(host, &["alarm", "acknowledge"], die);
    if ended.is_done() { Ok(()) } else { excused(world, host, "alarm acknowledge", &ended) }
}

/// Sets a clock wrong, or right again.
fn clock(world: &mut World, host: usize) {
    let ahead = if world.hosts[host].ahead != 0 || world.random.chance(20) {
        0
    } else {
        *world.random.pick(&[
            -86_400 * 400,
            -86_400 * 3,
            -7_200,
            -600,
            600,
            2_400,
            7_200,
            86_400 * 2,
            86_400 * 40,
        ])
    };
    world.hosts[host].ahead = ahead;
    world.excuses.clock |= ahead != 0;
    let line = format!("the clock of {} is {ahead:+} s off", world.hosts[host].name);
    world.tell(&line);
}
