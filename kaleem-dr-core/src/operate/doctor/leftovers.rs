//! Finds old jobs that harm ours: that write to or prune our repository, fail every night, or
//! expose a secret.

use std::collections::{BTreeMap, BTreeSet};

use super::{Host, leaks};
use crate::{
    ground::diagnosis::{Diagnosis, Severity},
    operate::{
        config::secret::Environment,
        host_jobs::{FileKind, Job, JobKind, Jobs, Line},
    },
};

/// restic's commands that delete, and those that only write.
const RESTIC_DELETES: [&str; 3] = ["forget", "prune", "rewrite"];
const RESTIC_WRITES: [&str; 5] = ["backup", "copy", "tag", "repair", "migrate"];
/// rclone's commands that delete on their target, and those that only write.
const RCLONE_DELETES: [&str; 8] =
    ["sync", "bisync", "move", "moveto", "delete", "deletefile", "purge", "rmdirs"];
const RCLONE_WRITES: [&str; 3] = ["copy", "copyto", "rcat"];
/// Names of the scripts that kaleem-dr replaces.
const OLD_SCRIPTS: [&str; 2] = ["kaleem-backup", "kaleem-restore-test"];
/// The oldest restic known to support everything that the old jobs use.
const GOOD_RESTIC: (u32, u32) = (0, 16);
/// Directories of programs if the environment has no `PATH`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Names of our repositories that may appear in a job.
pub(super) struct Names(pub Vec<String>);

impl Names {
    /// Reports whether a job uses one of our repositories. A job that does not name its repository
    /// may.
    fn are_meant(&self, job: &Job) -> bool {
        let said = |text: &str| self.0.iter().any(|name| text.contains(name.as_str()));
        if job.lines.iter().any(|line| !line.is_comment() && said(&line.text)) {
            return true;
        }
        let variables = job.variables();
        let set = variables
            .iter()
            .any(|(name, value)| name.starts_with("RESTIC_REPO") && !value.contains('$'));
        let named = job.lines.iter().flat_map(Line::commands).any(|words| {
            value_of(&words, &["-r", "--repo"]).is_some_and(|repository| !repository.contains('$'))
        });
        !set && !named
    }

    fn in_words(&self, words: &[&str]) -> bool {
        words.iter().any(|word| {
            word.contains('$') || self.0.iter().any(|name| word.contains(name.as_str()))
        })
    }
}

pub(super) fn examine(host: &Host, jobs: &Jobs, names: &Names) -> Vec<Diagnosis> {
    let mut found: Vec<Diagnosis> = jobs
        .unread
        .iter()
        .map(|(place, error)| {
            Diagnosis::unseen(&format!("the jobs in {place}"), &error.to_string())
        })
        .collect();
    for job in &jobs.jobs {
        let ours = names.are_meant(job);
        for line in &job.lines {
            for words in line.commands() {
                found.extend(
                    of_command(job, line, &words, ours, names)
                        .into_iter()
                        .map(|seen| weighed(job, seen)),
                );
            }
            found.extend(leaks::of_line(line));
        }
        found.extend(without_cache(job).map(|seen| weighed(job, seen)));
    }
    found.extend(leaks::of_variable_files(host, jobs));
    // A script that two jobs call is reported once.
    let mut told = Vec::new();
    found.retain(|seen| {
        let new = !told.contains(&(seen.id, seen.what.clone()));
        told.push((seen.id, seen.what.clone()));
        new
    });
    if found.iter().all(|seen| seen.severity <= Severity::Information) {
        found.push(Diagnosis::ok(
            "jobs",
            format!("{} crontabs and services: none writes to our repositories", jobs.jobs.len()),
        ));
    }
    found
}

/// Lowers the severity of findings about a job that is disabled.
fn weighed(job: &Job, seen: Diagnosis) -> Diagnosis {
    if job.is_active {
        return seen;
    }
    let severity = match seen.severity {
        Severity::Error => Severity::Warning,
        _ => Severity::Information,
    };
    Diagnosis { severity, what: format!("{} (it is disabled)", seen.what), ..seen }
}

fn of_command(job: &Job, line: &Line, words: &[&str], ours: bool, names: &Names) -> Vec<Diagnosis> {
    let program = base(words[0]);
    let place = &line.place;
    let off = switch_off(job, line);
    let has = |commands: &[&str]| words[1..].iter().find(|word| commands.contains(word)).copied();
    let foreign = |severity: Severity, what: String| {
        let (id, cause) = if severity == Severity::Error {
            (
                "foreign-pruner",
                "it may delete our data: a prune during a run destroys the run's packs",
            )
        } else {
            (
                "foreign-writer",
                "two programs that write to one repository wait for each other, and their snapshots are mixed up",
            )
        };
        Diagnosis { severity, ..Diagnosis::warning(id, what).because(cause).fix(off.clone()) }
    };
    let mut found = Vec::new();
    match program {
        "restic" | "rustic" if ours => {
            if let Some(command) = has(&RESTIC_DELETES) {
                found.push(foreign(Severity::Error, format!("{place} runs `{program} {command}`")));
            } else if words.contains(&"unlock") && words.contains(&"--remove-all") {
                found.push(foreign(
                    Severity::Error,
                    format!(
                        "{place} runs `{program} unlock --remove-all`, which removes our locks"
                    ),
                ));
            } else if let Some(command) = has(&RESTIC_WRITES) {
                found.push(foreign(
                    Severity::Warning,
                    format!("{place} runs `{program} {command}`"),
                ));
            }
        }
        "restic" | "rustic" if has(&RESTIC_DELETES).or(has(&RESTIC_WRITES)).is_some() => {
            found.push(Diagnosis::information(
                "foreign-job-elsewhere",
                format!("{place} runs {program} on a repository that is not ours"),
            ));
        }
        "rclone" if names.in_words(&words[1..]) => {
            if let Some(command) = has(&RCLONE_DELETES) {
                found.push(foreign(Severity::Error, format!("{place} runs `rclone {command}`")));
            } else if let Some(command) = has(&RCLONE_WRITES) {
                found.push(foreign(Severity::Warning, format!("{place} runs `rclone {command}`")));
            }
        }
        "mongodump" => found.extend(oplog_of_one(job, line, words)),
        script if OLD_SCRIPTS.iter().any(|old| script.starts_with(old)) => {
            found.push(foreign(Severity::Warning, format!("{place} still runs {script}")));
        }
        _ => {}
    }
    if program == "restic" && words.iter().any(|word| word.contains("s3.endpoint")) {
        found.push(
            Diagnosis::error("restic-s3-endpoint", format!("{place} calls restic with the option s3.endpoint"))
                .because("restic answers \"option s3.endpoint is not known\" and does nothing: the endpoint belongs in the repository's location")
                .fix(format!("{off}; or write `-r s3:https://ENDPOINT/BUCKET/PREFIX` in {place} and remove the option")),
        );
    }
    found
}

/// Detects `mongodump --oplog` for one database, which mongodump refuses.
fn oplog_of_one(job: &Job, line: &Line, words: &[&str]) -> Option<Diagnosis> {
    if !words.contains(&"--oplog") {
        return None;
    }
    let variables = job.variables();
    let database = value_of(words, &["-d", "--db", "-c", "--collection"])
        .map(str::to_owned)
        .or_else(|| {
            let uri = expanded(value_of(words, &["--uri"])?, &variables);
            let path = uri.split_once("://")?.1.split_once('/')?.1;
            let database = path.split('?').next()?;
            (!database.is_empty()).then(|| database.to_owned())
        })?;
    Some(
        Diagnosis::error(
            "mongodump-oplog",
            format!("{} dumps one database ({}) with --oplog", line.place, base(&database)),
        )
        .because(
            "mongodump answers \"--oplog mode only supported on full dumps\" and dumps nothing",
        )
        .fix(format!(
            "{}; `kaleem-dr backup` reads all collections as of one moment without it",
            switch_off(job, line)
        )),
    )
}

/// The value of an option, as a separate word or after `=`.
fn value_of<'a>(words: &[&'a str], options: &[&str]) -> Option<&'a str> {
    words.iter().enumerate().find_map(|(at, word)| {
        options.iter().find_map(|option| {
            if word == option {
                return words.get(at + 1).copied();
            }
            word.strip_prefix(option)?
                .strip_prefix('=')
                .map(|value| value.trim_matches(['"', '\'']))
        })
    })
}

fn expanded(value: &str, variables: &BTreeMap<&str, &str>) -> String {
    let name = value.trim_start_matches('$').trim_matches(['{', '}', '"']);
    if value.starts_with('$') {
        variables.get(name).copied().unwrap_or_default().to_owned()
    } else {
        value.to_owned()
    }
}

/// Detects a service that calls restic without setting its cache directory.
fn without_cache(job: &Job) -> Option<Diagnosis> {
    let calls =
        job.lines.iter().any(|line| line.commands().iter().any(|words| base(words[0]) == "restic"));
    let set = job.variables();
    let known = ["HOME", "XDG_CACHE_HOME", "RESTIC_CACHE_DIR"]
        .into_iter()
        .any(|name| set.contains_key(name))
        || job.lines.iter().any(|line| {
            line.text.contains("--cache-dir")
                || line.text.contains("--no-cache")
                || line.text.trim_start().starts_with("User=")
        });
    (job.kind == JobKind::Service && calls && !known).then(|| {
        Diagnosis::warning(
            "restic-without-cache",
            format!(
                "{} calls restic, and sets neither HOME nor RESTIC_CACHE_DIR",
                job.place.display()
            ),
        )
        .because(
            "services have no HOME, so restic has no cache directory and reads everything again",
        )
        .fix(format!(
            "add `Environment=RESTIC_CACHE_DIR=/var/cache/restic` to [Service] in {}",
            job.place.display()
        ))
    })
}

/// The instructions for disabling a job.
fn switch_off(job: &Job, line: &Line) -> String {
    let place = job.place.display();
    match job.kind {
        JobKind::Service => {
            let unit = job.place.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            format!("systemctl disable --now {unit}.timer {unit}.service")
        }
        JobKind::Cron if matches!(line.kind, FileKind::Crontab { .. }) => {
            format!("delete the line {}", line.place)
        }
        JobKind::Cron => format!("remove the line that calls it from {place}"),
    }
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Looks for an old restic, which the old jobs would run.
pub(super) async fn old_restic(
    host: &Host,
    environment: &Environment,
    jobs: &Jobs,
) -> Vec<Diagnosis> {
    let called = jobs.jobs.iter().any(|job| {
        job.lines.iter().any(|line| line.commands().iter().any(|words| base(words[0]) == "restic"))
    });
    let mut found = Vec::new();
    let directories = environment
        .get("PATH")
        .unwrap_or(PATH)
        .split(':')
        .filter(|directory| directory.starts_with('/'));
    // `/bin` is often the same as `/usr/bin`.
    let programs =
        directories.filter_map(|directory| host.at(directory).join("restic").canonicalize().ok());
    for program in programs.filter(|program| program.is_file()).collect::<BTreeSet<_>>() {
        let shown = host.shown(&program);
        let said = match host.facts.version_of(&program).await {
            Ok(said) => said,
            Err(error) => {
                found.push(Diagnosis::unseen(
                    &format!("the version of {shown}"),
                    &error.to_string(),
                ));
                continue;
            }
        };
        match version(&said) {
            Some(version) if version >= GOOD_RESTIC => {
                found.push(Diagnosis::ok(
                    "restic-version",
                    format!("{shown} is restic {}.{}", version.0, version.1),
                ));
            }
            Some((major, minor)) => {
                let what = format!(
                    "{shown} is restic {major}.{minor}, older than {}.{}",
                    GOOD_RESTIC.0, GOOD_RESTIC.1
                );
                let seen = if called {
                    Diagnosis::warning("restic-old", what)
                } else {
                    Diagnosis::information("restic-old", what)
                };
                found.push(
                    seen.because("it supports fewer S3 options, and before 0.14 it cannot read our repositories; kaleem-dr itself does not use it")
                        .fix(format!("{shown} self-update, or remove it")),
                );
            }
            None => found.push(Diagnosis::unseen(
                &format!("the version of {shown}"),
                "its output has no version",
            )),
        }
    }
    found
}

/// Parses `restic 0.18.0 compiled with …`.
fn version(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.strip_prefix("restic ")?.split(['.', ' ', '-']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::operate::host_jobs::gather;

    fn seen(files: &[(&str, &str)]) -> Vec<Diagnosis> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let host = Host::this(root.path().to_path_buf());
        examine(
            &host,
            &gather(&host),
            &Names(vec!["/backups/restic-local".into(), "kaleem-backup/restic".into()]),
        )
    }

    fn ids(found: &[Diagnosis]) -> Vec<(&'static str, Severity)> {
        found
            .iter()
            .filter(|seen| seen.severity != Severity::Ok)
            .map(|seen| (seen.id, seen.severity))
            .collect()
    }

    #[test]
    fn a_prune_in_a_script_that_cron_calls_is_an_error_and_names_both() {
        let found = seen(&[
            (
                "etc/cron.d/kaleem-backups",
                "0 3 * * * root . /etc/kaleem-backups.env && /usr/local/bin/kaleem-backup.v2.1.sh\n",
            ),
            (
                "usr/local/bin/kaleem-backup.v2.1.sh",
                "#!/bin/bash\nRESTIC_REPOSITORY=/backups/restic-local\nrestic backup /backups \\\n  --tag local\nrestic forget --keep-daily 7 --prune\n",
            ),
        ]);
        let wanted = [
            ("foreign-writer", Severity::Warning),
            ("foreign-writer", Severity::Warning),
            ("foreign-pruner", Severity::Error),
        ];
        assert_eq!(ids(&found), wanted, "{found:#?}");
        assert!(
            found[2].what.starts_with("/usr/local/bin/kaleem-backup.v2.1.sh:5"),
            "{}",
            found[2].what
        );
        assert!(
            found[2].fix.as_deref().is_some_and(|fix| fix.contains("/etc/cron.d/kaleem-backups")),
            "{found:#?}"
        );
    }

    #[test]
    fn a_service_counts_for_less_when_nothing_starts_it() {
        let unit = "[Service]\nEnvironment=HOME=/root\nExecStart=/usr/bin/restic -r rclone:r2:kaleem-backup/restic prune\n";
        let service = ("etc/systemd/system/kaleem-backup-r2.service", unit);
        let off = seen(&[service]);
        assert_eq!(ids(&off), [("foreign-pruner", Severity::Warning)]);
        assert!(off[0].what.contains("is disabled"));
        let on =
            seen(&[service, ("etc/systemd/system/timers.target.wants/kaleem-backup-r2.timer", "")]);
        assert_eq!(ids(&on), [("foreign-pruner", Severity::Error)]);
        assert_eq!(
            on[0].fix.as_deref(),
            Some("systemctl disable --now kaleem-backup-r2.timer kaleem-backup-r2.service")
        );
    }

    #[test]
    fn a_dump_of_one_database_with_the_oplog_is_found_however_it_is_written() {
        for script in [
            "mongodump --db kaleem --oplog --archive=/b/x\n",
            "mongodump --uri=mongodb://h/kaleem?authSource=admin \\\n  --oplog\n",
            "MONGO_URI=mongodb://h/kaleem\nmongodump --uri \"$MONGO_URI\" --oplog --gzip\n",
        ] {
            let found = seen(&[("etc/cron.daily/dump", &format!("#!/bin/sh\n{script}"))]);
            assert_eq!(ids(&found), [("mongodump-oplog", Severity::Error)], "{script}: {found:#?}");
            assert!(
                found[0].what.contains("kaleem") && found[0].what.contains("/etc/cron.daily/dump:"),
                "{}",
                found[0].what
            );
        }
        for fine in [
            "mongodump --oplog --archive=/b/x\n",
            "mongodump --db kaleem\n",
            "# mongodump --db kaleem --oplog\n",
        ] {
            assert_eq!(ids(&seen(&[("etc/cron.daily/dump", fine)])), [], "{fine}");
        }
    }

    #[test]
    fn what_goes_to_other_places_is_left_alone() {
        let found = seen(&[
            (
                "etc/cron.d/photos",
                "0 1 * * * root rclone sync /home/photos photos:all\n0 2 * * * root restic -r /mnt/usb forget --prune\n",
            ),
            (
                "etc/cron.d/old.disabled",
                "0 3 * * * root rclone sync /backups/restic-local r2:kaleem-backup/restic\n",
            ),
            ("etc/cron.d/ours", "0 3 * * * root kaleem-dr --repo local backup\n"),
        ]);
        assert_eq!(
            ids(&found),
            [
                ("foreign-pruner", Severity::Warning),
                ("foreign-job-elsewhere", Severity::Information)
            ],
            "{found:#?}"
        );
        let synced = seen(&[(
            "var/spool/cron/crontabs/root",
            "30 3 * * * rclone sync /backups/restic-local r2:kaleem-backup/restic\n",
        )]);
        assert_eq!(ids(&synced), [("foreign-pruner", Severity::Error)]);
    }

    #[test]
    fn options_and_services_that_restic_stumbles_over_are_named() {
        let unit = "[Service]\nExecStart=/usr/bin/restic -r s3:b/kaleem-backup/restic -o s3.endpoint=https://x snapshots\n";
        let found = seen(&[
            ("etc/systemd/system/a.service", unit),
            ("etc/systemd/system/multi-user.target.wants/a.service", ""),
        ]);
        assert_eq!(
            ids(&found),
            [("restic-s3-endpoint", Severity::Error), ("restic-without-cache", Severity::Warning)]
        );
        assert_eq!(
            (version("restic 0.12.1 compiled with go1.18"), version("restic 0.18.0-dev")),
            (Some((0, 12)), Some((0, 18)))
        );
    }
}
