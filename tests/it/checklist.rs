//! `checklist`: answers the operators' daily, weekly and monthly items with evidence.

use std::fs;

use serde_json::Value;

use crate::support::{mirror::S3Mirror, site::Site};

fn site_with_data() -> Site {
    let site = Site::new();
    fs::create_dir(site.path("data")).expect("a directory");
    fs::write(site.path("data/file"), "x").expect("a file");
    let data = site.path("data");
    site.with_files("configs", &[&data])
}

/// Runs a checklist; returns its exit code and items. The limit for free disk space is disabled.
fn list(site: &Site, period: &str) -> (Option<i32>, Vec<Value>) {
    let (outcome, documents) = site.json(["checklist", period]);
    let document = documents.first().unwrap_or_else(|| panic!("{outcome:?}"));
    assert_eq!(document["period"], period);
    assert_eq!(document["exit_code"].as_i64(), outcome.code.map(i64::from));
    (outcome.code, document["lines"].as_array().expect("lines").clone())
}

#[track_caller]
fn says(lines: &[Value], id: &str, holds: &str, words: &str) {
    let line = lines
        .iter()
        .find(|line| line["id"] == id)
        .unwrap_or_else(|| panic!("no line {id}: {lines:#?}"));
    assert_eq!(line["holds"], holds, "{line:#}");
    assert!(line["evidence"].to_string().contains(words), "{words:?} is not in {line:#}");
}

#[test]
fn a_day_is_answered_with_the_run_and_the_snapshot_in_both_languages() {
    let site = site_with_data().initialised().with("[doctor]\nmin_free_percent = 0");
    let (code, lines) = list(&site, "daily");
    assert_eq!(code, Some(6));
    says(&lines, "backup-job", "no", "no backup into local");
    says(&lines, "snapshots-today", "no", "configs: it has no snapshot");
    let (_, report) = site.json(["backup"]);
    let run = report.last().expect("a report")["run"].as_str().expect("an id").to_owned();
    let (code, lines) = list(&site, "daily");
    assert_eq!(code, Some(0), "{lines:#?}");
    says(&lines, "backup-job", "yes", &run);
    let id = site.snapshots()[0]["short_id"].as_str().expect("an id").to_owned();
    says(&lines, "snapshots-today", "yes", &id);

    let english = site.succeed(["checklist", "daily"]).stdout;
    assert!(
        english.contains("yes      Every source has a snapshot of today") && english.contains(&id),
        "{english}"
    );
    let arabic = site.succeed(["checklist", "daily", "--lang", "ar"]).stdout;
    assert!(arabic.contains("نعم  لكل مصدر لقطة من اليوم") && arabic.contains(&id), "{arabic}");
}

#[test]
fn a_run_that_failed_is_listed_for_a_week_and_denies_the_day() {
    let site = site_with_data().initialised();
    site.succeed(["backup"]);
    fs::remove_dir_all(site.path("data")).expect("it can be removed");
    assert_eq!(site.run(["backup"]).code, Some(1));
    let (_, history) = site.json(["history", "--last", "1"]);
    let run = history[0][0]["run"].as_str().expect("an id").to_owned();
    let (code, lines) = list(&site, "daily");
    assert_eq!(code, Some(6));
    says(&lines, "backup-job", "no", &run);
    says(&list(&site, "weekly").1, "no-failures", "no", &run);
}

#[test]
fn a_mirror_in_a_bucket_has_it_all_only_after_each_pass() {
    let site = S3Mirror::new("checklist").of(site_with_data(), "r2").initialised();
    site.succeed(["backup"]);
    says(&list(&site, "weekly").1, "snapshots-elsewhere", "no", "r2 does not have");
    site.succeed(["replicate"]);
    let (code, lines) = list(&site, "weekly");
    assert_eq!(code, Some(0), "{lines:#?}");
    says(&lines, "snapshots-elsewhere", "yes", "r2 has configs");
    site.succeed(["backup"]);
    let (code, lines) = list(&site, "weekly");
    assert_eq!(code, Some(6));
    says(&lines, "snapshots-elsewhere", "no", "r2 does not have");
}

#[test]
fn a_second_repository_is_looked_into_where_the_ledger_does_not_know() {
    let site = site_with_data();
    let (directory, password) = (site.path("second"), site.path("repository.pass"));
    let site = site.with(&format!(
        "[repository.second]\nlocation = '{}'\npassword = {{ file = '{}' }}\n[backup]\nalso = [\"second\"]",
        directory.display(),
        password.display()
    ));
    site.succeed(["init"]);
    site.succeed(["--repo", "second", "init"]);
    site.succeed(["backup"]);
    says(&list(&site, "weekly").1, "snapshots-elsewhere", "yes", "second has configs");
    // A new machine with the old repositories.
    fs::remove_dir_all(site.path("state")).expect("it can be removed");
    says(&list(&site, "weekly").1, "snapshots-elsewhere", "yes", "second has configs");
    fs::remove_dir_all(&directory).expect("it can be removed");
    let (_, lines) = list(&site, "weekly");
    says(&lines, "snapshots-elsewhere", "unknown", "second");
}

#[test]
fn a_month_without_a_drill_does_not_hold_and_leftovers_are_named() {
    let site = site_with_data().initialised();
    site.succeed(["backup"]);
    fs::create_dir_all(site.path("state/scratch/kdr_drill_old")).expect("a directory");
    let (code, lines) = list(&site, "monthly");
    assert_eq!(code, Some(6));
    says(&lines, "drill", "no", "local was never drilled");
    says(&lines, "scratch", "no", "kdr_drill_old");
    let usage = site.run(["checklist", "yearly"]);
    assert_eq!(usage.code, Some(2));
    assert!(usage.stderr.contains("daily, weekly, monthly"), "{}", usage.stderr);
}
