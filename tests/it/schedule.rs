//! Schedules: the files for systemd and cron, systemd's verdict on them, and that no other
//! program's files are touched.
#![expect(clippy::unnecessary_debug_formatting, reason = "a quoted path is a TOML string")]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::support::{
    program::{Outcome, run},
    seed,
    site::{PASSWORD, Site},
};

/// Limit for systemd's exposure score, in tenths.
const MOST_EXPOSED: &str = "--threshold=25";

/// A site with a mirror, staged files, a credential and a variable: everything that jobs may need.
fn site() -> Site {
    let site = Site::new();
    let (tree, staged, far) = (site.path("tree"), site.path("sta ged"), site.path("far"));
    seed::file_tree(&tree);
    fs::create_dir(&staged).expect("the staged directory can be made");
    let environment =
        site.secret("environment", "MONGO_URI=mongodb://backup:canary@127.0.0.1/kaleem");
    site.with_files("configs", &[&tree])
        .with_mirror("r2", &far)
        .with("[source.mongo]\ntype = \"mongodb\"\nuri = { env = \"MONGO_URI\" }")
        .with("[source.qdrant]\ntype = \"qdrant\"\nurl = \"http://127.0.0.1:6333\"\napi_key = { credential = \"qdrant-key\" }")
        .with(&format!("[staged]\ndirectory = {staged:?}\n[schedule]\nenvironment_file = {environment:?}"))
        .initialised()
}

fn root(site: &Site) -> PathBuf {
    let root = site.path("root");
    fs::create_dir_all(&root).expect("a root can be made");
    root
}

/// Everything below a directory except directories: contents, and targets of links.
fn files(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(directory) = pending.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for path in entries.map(|entry| entry.expect("a directory can be read").path()) {
            if path.is_symlink() {
                found.insert(
                    path.clone(),
                    fs::read_link(&path).expect("a link").display().to_string(),
                );
            } else if path.is_dir() {
                pending.push(path);
            } else {
                found.insert(path.clone(), fs::read_to_string(&path).expect("a text"));
            }
        }
    }
    found
}

fn schedule(site: &Site, args: &[&str]) -> Outcome {
    run(site
        .command()
        .arg("schedule")
        .args(args)
        .args(["--root", root(site).to_str().expect("UTF-8")]))
}

#[track_caller]
fn succeed(site: &Site, args: &[&str]) -> Outcome {
    let outcome = schedule(site, args);
    assert_eq!(outcome.code, Some(0), "{}\n{}", outcome.stdout, outcome.stderr);
    outcome
}

fn jobs(site: &Site) -> Vec<Value> {
    let outcome = succeed(site, &["list", "--json"]);
    serde_json::from_str::<Vec<Value>>(&outcome.stdout).expect("a list")
}

fn names(jobs: &[Value]) -> Vec<&str> {
    jobs.iter().map(|job| job["name"].as_str().expect("a name")).collect()
}

fn analyze(arguments: &[&str], units: &[PathBuf]) -> Outcome {
    run(Command::new("systemd-analyze").args(arguments).args(units))
}

#[test]
fn systemd_takes_every_unit_and_finds_each_service_confined() {
    let site = site();
    succeed(&site, &["install"]);
    let units = root(&site).join("etc/systemd/system");
    let all: Vec<PathBuf> = files(&units).into_keys().filter(|path| !path.is_symlink()).collect();
    assert_eq!(
        all.len(),
        15,
        "seven jobs with a service and a timer each, and the one that reports failures: {all:?}"
    );
    let verified = analyze(&["verify", "--man=no"], &all);
    assert_eq!((verified.code, verified.stderr.as_str()), (Some(0), ""), "{}", verified.stdout);
    for service in
        all.iter().filter(|path| path.extension().is_some_and(|ending| ending == "service"))
    {
        let judged = analyze(
            &["security", "--offline=true", "--no-pager", MOST_EXPOSED],
            std::slice::from_ref(service),
        );
        assert_eq!(
            judged.code,
            Some(0),
            "{}: {}{}",
            service.display(),
            judged.stdout,
            judged.stderr
        );
        // A backup that could write nowhere would pass this check as well.
        let text = fs::read_to_string(service).expect("a unit");
        assert!(
            text.contains(&format!("ReadWritePaths={}", site.path("state").display())),
            "{text}"
        );
        let does_work = !service.ends_with("kaleem-dr-failed@.service");
        assert_eq!(
            text.contains(&format!("ReadWritePaths=-{}", site.repository().display())),
            does_work,
            "{text}"
        );
        assert_eq!(text.contains("OnFailure=kaleem-dr-failed@%n.service"), does_work, "{text}");
        assert!(!text.contains("IPAddressDeny") && !text.contains("SuccessExitStatus"), "{text}");
    }
    let backup = fs::read_to_string(units.join("kaleem-dr-backup.service")).expect("a unit");
    assert!(
        backup.contains(&format!(
            "--config {} --env-file {} --retry-lock 2h backup\n",
            site.config_path().display(),
            site.path("environment").display()
        )),
        "{backup}"
    );
    assert!(
        backup.contains("LoadCredential=qdrant-key:/etc/kaleem-dr/credentials/qdrant-key\n"),
        "{backup}"
    );
    assert!(!backup.contains("EnvironmentFile"), "systemd reads it differently: {backup}");
    for (path, text) in files(&units) {
        assert!(!text.contains(PASSWORD) && !text.contains("canary"), "{}", path.display());
        let mode = path.symlink_metadata().expect("it is there").permissions().mode();
        assert!(path.is_symlink() || mode & 0o777 == 0o644, "{}: {mode:o}", path.display());
    }
}

#[test]
fn what_is_installed_is_listed_with_its_next_run_and_removed_without_a_trace() {
    let site = site();
    let units = root(&site).join("etc/systemd/system");
    fs::create_dir_all(&units).expect("a directory can be made");
    fs::write(units.join("kaleem-dr-other.service"), "[Service]\nExecStart=/bin/true\n")
        .expect("a file can be written");
    let before = files(&root(&site));

    let dry = succeed(&site, &["install", "--dry-run"]);
    assert!(dry.stdout.contains("kaleem-dr-backup.timer"), "{}", dry.stdout);
    assert_eq!(files(&root(&site)), before, "a dry run writes nothing");

    let installed = succeed(&site, &["install"]);
    assert!(installed.stdout.contains("systemctl daemon-reload"), "{}", installed.stdout);
    assert!(
        installed.stdout.contains("warning: the credential qdrant-key does not exist"),
        "{}",
        installed.stdout
    );
    let listed = jobs(&site);
    assert_eq!(names(&listed).len(), 7, "{listed:?}");
    for job in &listed {
        assert!(
            job["enabled"] == true
                && job["next"].as_str().is_some_and(|next| next.ends_with("0:00Z")),
            "{job}"
        );
    }
    fs::remove_file(units.join("timers.target.wants/kaleem-dr-check.timer"))
        .expect("the link is there");
    let check =
        jobs(&site).into_iter().find(|job| job["name"] == "kaleem-dr-check").expect("it is listed");
    assert!(
        check["enabled"] == false && check["next"].is_null(),
        "a timer that nothing starts does not run: {check}"
    );

    let again = succeed(&site, &["install"]);
    assert_eq!(
        again.stdout.matches("written").count(),
        1,
        "only the link is made again: {}",
        again.stdout
    );

    succeed(&site, &["remove"]);
    assert_eq!(files(&root(&site)), before, "what others put there stays, what is ours is gone");
    assert!(jobs(&site).is_empty());
}

#[test]
fn a_job_that_is_turned_off_loses_its_timer() {
    let site = site();
    succeed(&site, &["install"]);
    let config = fs::read_to_string(site.config_path()).expect("the config is there");
    fs::write(
        site.config_path(),
        config.replace("[schedule]", "[schedule]\ncheck = \"off\"\nbackup = \"every 6h\""),
    )
    .expect("written");
    let outcome = succeed(&site, &["install"]);
    assert!(outcome.stdout.contains("systemctl stop kaleem-dr-check.timer"), "{}", outcome.stdout);
    let listed = jobs(&site);
    assert!(!names(&listed).contains(&"kaleem-dr-check"), "{listed:?}");
    assert!(
        listed.iter().any(|job| job["name"] == "kaleem-dr-backup" && job["when"] == "every 6h"),
        "{listed:?}"
    );
    assert!(files(&root(&site)).keys().all(|path| !path.to_string_lossy().contains("check")));
}

#[test]
fn a_file_of_another_program_is_never_overwritten() {
    for (name, style) in [
        ("etc/systemd/system/kaleem-dr-verify.timer", None),
        ("etc/cron.d/kaleem-dr", Some("--cron")),
    ] {
        let site = site();
        let path = root(&site).join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory can be made");
        fs::write(&path, "# mine\n").expect("a file can be written");
        let before = files(&root(&site));
        let outcome = schedule(&site, &[&["install"], style.as_slice()].concat());
        assert_eq!(outcome.code, Some(5), "{}", outcome.stdout);
        assert!(
            outcome.stderr.contains(name) && outcome.stderr.contains("nothing was written"),
            "{}",
            outcome.stderr
        );
        assert_eq!(files(&root(&site)), before);
        succeed(&site, &["remove"]);
        assert_eq!(files(&root(&site)), before, "and it is not ours to remove");
    }
}

#[test]
fn no_job_runs_twice_when_cron_takes_over_from_systemd_and_back() {
    let site = site();
    succeed(&site, &["install"]);
    let by_systemd = jobs(&site);
    succeed(&site, &["install", "--cron"]);
    let by_cron = jobs(&site);
    assert!(by_cron.iter().all(|job| job["style"] == "cron"), "{by_cron:?}");
    let sorted = |jobs: &[Value]| {
        let mut times: Vec<String> = jobs
            .iter()
            .map(|job| format!("{} {} {}", job["name"], job["when"], job["next"]))
            .collect();
        times.sort();
        times
    };
    assert_eq!(sorted(&by_cron), sorted(&by_systemd), "the same jobs at the same times");
    let cron = root(&site).join("etc/cron.d/kaleem-dr");
    assert_eq!(files(&root(&site)).keys().collect::<Vec<_>>(), [&cron]);
    let text = fs::read_to_string(&cron).expect("the cron file");
    assert!(text.contains("\nMAILTO=root\n") && text.contains("\nPATH="), "{text}");
    assert!(!text.contains(PASSWORD) && !text.contains("canary"), "{text}");
    succeed(&site, &["install"]);
    assert!(!cron.exists() && jobs(&site).iter().all(|job| job["style"] == "systemd"));
}

/// Runs a job's line of the cron file like cron, with our own programs for lock and log. Returns
/// what cron would mail, and what went to the log.
fn as_cron(site: &Site, job: &str) -> (String, String) {
    let text = fs::read_to_string(root(site).join("etc/cron.d/kaleem-dr")).expect("the cron file");
    let line = text
        .lines()
        .find(|line| line.ends_with(&format!("logger -t kaleem-dr-{job}; }} 3>&1")))
        .expect("the job's line");
    let command = line.split_once(" root ").expect("a user").1.replace("\\%", "%");
    let programs = site.path("programs");
    fs::create_dir_all(&programs).expect("a directory can be made");
    let log = site.path("log");
    for (name, script) in [
        ("flock", "#!/bin/sh\nshift 3\nexec \"$@\"\n".to_owned()),
        ("logger", format!("#!/bin/sh\ncat >{log:?}\n")),
    ] {
        fs::write(programs.join(name), script).expect("a script can be written");
        fs::set_permissions(programs.join(name), fs::Permissions::from_mode(0o755))
            .expect("its mode can be set");
    }
    let path = format!("{}:/usr/bin:/bin", programs.display());
    let outcome = run(Command::new("/bin/sh")
        .args(["-c", &command])
        .env_clear()
        .env("PATH", path)
        .env("HOME", site.path("home")));
    assert_eq!(outcome.stderr, "", "all that is said goes to the log");
    (outcome.stdout, fs::read_to_string(log).expect("the log was written"))
}

#[test]
fn cron_mails_of_failures_alone_and_the_log_has_the_words() {
    let site = site();
    succeed(&site, &["install", "--cron"]);
    let (mail, log) = as_cron(&site, "check");
    assert_eq!(mail, "", "a job that succeeds is not mailed: {log}");
    fs::rename(site.repository(), site.path("elsewhere")).expect("the repository can be moved");
    let (mail, log) = as_cron(&site, "check");
    assert!(mail.contains("kaleem-dr-check failed with exit status 10"), "{mail}");
    assert!(log.contains(&site.repository().display().to_string()), "{log}");
}

#[test]
fn variables_instead_of_a_config_are_refused_for_no_job_would_see_them() {
    let site = Site::new();
    let mut command = site.command();
    command.env_remove("KALEEM_DR_CONFIG").env("RESTIC_REPOSITORY", site.repository());
    let outcome = run(command
        .env("RESTIC_PASSWORD_FILE", site.path("repository.pass"))
        .args(["schedule", "print"]));
    // On a machine with a config at the default path, the program uses that one.
    if !Path::new("/etc/kaleem-dr/kaleem-dr.toml").exists() {
        assert_eq!(outcome.code, Some(2), "{}", outcome.stdout);
        assert!(outcome.stderr.contains("need a config file"), "{}", outcome.stderr);
    }
}
