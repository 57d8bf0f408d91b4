//! kill -9 at named steps, wherever a command writes or deletes: it leaves garbage at worst, and
//! the next run continues.

use crate::{faults, steps, world::World};

/// Steps at which a debug build can be killed, as named in `KALEEM_DR_FAILPOINT`, with the last
/// execution of each that is tried.
const STEPS: [(&str, usize); 12] = [
    ("capture", 4),
    ("pack", 2),
    ("index", 2),
    ("beforerelease", 1),
    ("afterrelease", 1),
    ("forget", 3),
    ("prune", 4),
    ("replicate", 12),
    ("write", 12),
    ("delete", 8),
    ("ledger", 1),
    ("alarms", 1),
];

/// The step at which the next command is killed.
pub fn place(world: &mut World) -> String {
    if world.random.chance(30) {
        // At the n-th execution of any step, including reads.
        let most = *world.random.pick(&[8, 25, 80]);
        return format!("any=kill:{}", world.random.between(1, most));
    }
    let (step, most) = *world.random.pick(&STEPS);
    format!("{step}=kill:{}", world.random.between(1, most))
}

/// A command that is killed at some step, if it reaches the step; the world continues.
pub fn killed(world: &mut World, host: usize) -> Result<(), String> {
    let die = place(world);
    let die = Some(die.as_str());
    match world.random.below(16) {
        0..5 => steps::backup(world, host, die),
        5 | 6 => steps::forget(world, host, die),
        7 | 8 => steps::prune(world, host, die),
        9..12 => steps::replicate(world, host, die),
        12 => steps::copy(world, host, die),
        13 => steps::keys(world, host, die),
        14 => faults::repair_killed(world, host, die),
        _ => steps::acknowledge(world, host, die),
    }
}

/// Runs until `kills` commands were killed. Now and then a killed command is repeated, and must
/// then succeed.
pub fn live(world: &mut World, kills: u64) -> Result<(), String> {
    while world.kills < kills {
        let host = world.random.below(world.hosts.len());
        if world.held.is_empty() {
            steps::backup(world, host, None)?;
            continue;
        }
        let before = world.kills;
        killed(world, host)?;
        steps::invariants(world)?;
        if world.kills > before && world.random.chance(25) {
            steps::backup(world, host, None)?;
            steps::invariants(world)?;
        }
    }
    Ok(())
}
