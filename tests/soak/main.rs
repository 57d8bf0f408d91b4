//! A model of two hosts, one repository and its mirror, with random histories and kills at random
//! steps. Everything is derived from a seed: a failure can be reproduced, and prints how.
//!
//! `SOAK_SEEDS` and `SOAK_STEPS` set the amount (large in `make soak`), `SOAK_SEED` repeats one
//! seed.

#![allow(clippy::needless_pass_by_value, reason = "JSON is handed over as it is written")]

mod faults;
mod host;
mod kills;
mod overlap;
mod program;
mod random;
mod repository;
mod steps;
mod tree;
mod world;

use std::{
    env,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use world::World;

/// Number of sequences that run at the same time.
const AT_ONCE: usize = 2;
/// Number of killed commands in one world.
const KILLS_A_WORLD: u64 = 25;

fn setting(name: &str, default: u64) -> u64 {
    env::var(name)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn no_command_that_ends_with_0_is_wrong_and_every_snapshot_stays_what_it_was() {
    let steps = setting("SOAK_STEPS", 25);
    let seeds: Vec<u64> = match env::var("SOAK_SEED") {
        Ok(seed) => vec![seed.parse().expect("SOAK_SEED is a number")],
        Err(_) => (1..=setting("SOAK_SEEDS", 8)).collect(),
    };
    all_hold(&seeds, |seed| live(seed, steps));
}

/// Runs a world for each seed, some in parallel, and fails with the reports of those that failed.
fn all_hold(seeds: &[u64], live: impl Fn(u64) -> Result<(), String> + Sync) {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::SeqCst)) {
                    if let Err(report) = live(*seed) {
                        eprintln!("{report}");
                        failed.lock().expect("no thread panics").push(*seed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no thread panics");
    assert!(failed.is_empty(), "{} of {} seeds failed: {failed:?}", failed.len(), seeds.len());
}

/// One sequence from its seed. An error is a report with the command to reproduce it.
fn live(seed: u64, steps: u64) -> Result<(), String> {
    let mut world = World::new(seed).map_err(|error| error.to_string())?;
    for step in 1..=steps {
        if let Err(why) = steps::take(&mut world).and_then(|()| steps::invariants(&mut world)) {
            let repeat = format!(
                "SOAK_SEED={seed} SOAK_STEPS={step} cargo test --workspace --test soak -- no_command"
            );
            return Err(report(world, &format!("seed {seed}, step {step}: {why}"), &repeat));
        }
    }
    Ok(())
}

#[test]
fn kills_at_named_steps_leave_garbage_at_worst() {
    let kills = setting("SOAK_KILLS", 50);
    let seeds: Vec<u64> = match env::var("SOAK_SEED") {
        Ok(seed) => vec![seed.parse().expect("SOAK_SEED is a number")],
        Err(_) => (1..=kills.div_ceil(KILLS_A_WORLD)).collect(),
    };
    all_hold(&seeds, |seed| {
        let mut world = World::new(seed).map_err(|error| error.to_string())?;
        let Err(why) = kills::live(&mut world, kills.min(KILLS_A_WORLD)) else { return Ok(()) };
        let repeat = format!("SOAK_SEED={seed} cargo test --workspace --test soak -- kills");
        let why = format!("seed {seed}, after {} kills: {why}", world.kills);
        Err(report(world, &why, &repeat))
    });
}

/// The failure, the history that led to it, and the command to reproduce it. The world is kept for
/// inspection.
fn report(mut world: World, why: &str, repeat: &str) -> String {
    let story = std::mem::take(&mut world.story);
    let kept = world.keep();
    format!("{why}\n{story}its directory: {}\nrepeat it with: {repeat}", kept.display())
}
