//! kill -9 at every named step of a run: the next run succeeds, and the repository is whole.

use std::{fs, path::Path};

use crate::support::{program::run, seed, site::Site};

/// Steps of a backup run with forget and prune, as named in `KALEEM_DR_FAILPOINT`.
const STEPS: [&str; 7] =
    ["capture", "pack", "index", "beforerelease", "afterrelease", "forget", "prune"];
/// Number of kills at each step, at its first and second execution alternately.
const ROUNDS: usize = 8;

/// New content, so that each run has packs to write and old ones to release.
fn change(tree: &Path, round: usize) {
    let noise: Vec<u8> = (0..600_000_usize)
        .map(|n| (n.wrapping_mul(31 + round) >> 3).to_le_bytes()[0] ^ round.to_le_bytes()[0])
        .collect();
    fs::write(tree.join("changing"), noise).expect("a file can be written");
    fs::write(tree.join(format!("new-{}", round % 5)), format!("round {round}"))
        .expect("a file can be written");
}

#[test]
fn a_kill_at_any_step_leaves_garbage_at_worst() {
    let site = Site::new();
    let (first, second) = (site.path("first"), site.path("second"));
    seed::file_tree(&first);
    fs::create_dir_all(&second).expect("a directory can be made");
    // Prune finds what a kill leaves behind; keeping one snapshot makes every run forget and prune.
    let retention = "[backup]\nforget = true\nprune = true\n[retention]\nkeep_last = 1\nkeep_daily = 0\nkeep_weekly = 0\nkeep_monthly = 0";
    let site =
        site.with(retention).with_files("a", &[&first]).with_files("b", &[&second]).initialised();
    change(&second, 0);
    site.succeed(["backup"]);

    let restic = site.restic();
    let mut killed = 0;
    for round in 0..ROUNDS {
        for (number, step) in STEPS.iter().enumerate() {
            change(&second, round * STEPS.len() + number + 1);
            // A run has two captures, two releases and a few packs; later executions of a step may
            // not happen, and then nothing is killed.
            let nth = round % 2 + 1;
            // Marked packs are deleted a day later; in this test prune must reach its step at once.
            if *step == "prune" {
                let outcome = run(site
                    .command()
                    .args(["prune", "--instant", "--yes"])
                    .env("KALEEM_DR_FAILPOINT", format!("prune=kill:{nth}")));
                killed += usize::from(outcome.code.is_none());
            } else {
                let outcome = run(site
                    .command()
                    .arg("backup")
                    .env("KALEEM_DR_FAILPOINT", format!("{step}=kill:{nth}")));
                killed += usize::from(outcome.code.is_none());
            }
            // restic leaves a dead process's lock to `restic unlock`; our next run removes it.
            let seen = restic.succeed(["check", "--no-lock"]);
            let said = String::from_utf8_lossy(&seen.stdout).into_owned()
                + &String::from_utf8_lossy(&seen.stderr);
            assert!(
                said.contains("no errors were found"),
                "after a kill at {step} in round {round}: {said}"
            );
            site.succeed(["backup"]);
            let locks = restic.succeed(["list", "locks", "--no-lock"]).stdout;
            assert!(locks.is_empty(), "after a kill at {step} in round {round}, a lock is left");
        }
    }
    assert!(killed >= 50, "only {killed} runs were killed");
    site.succeed(["prune", "--instant", "--yes"]);
    restic.check_read_data();
    for (source, tree) in [("a", &first), ("b", &second)] {
        let target = site.path("back").join(source);
        site.succeed(["restore", source, "--to", target.to_str().expect("UTF-8")]);
        crate::support::tree::Tree::of(&target.join(tree.strip_prefix("/").expect("absolute")))
            .assert_equal(&crate::support::tree::Tree::of(tree));
    }
}
