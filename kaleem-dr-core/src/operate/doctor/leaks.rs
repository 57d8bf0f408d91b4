//! Finds secrets in jobs, where `ps`, cron's mails and `systemctl show` reveal them. Findings only
//! contain their places.

use std::os::unix::fs::MetadataExt as _;

use super::Host;
use crate::{
    ground::diagnosis::Diagnosis,
    operate::host_jobs::{FileKind, Jobs, Line, assignment, strip_key, words},
};

/// Suffixes of names of variables that hold secrets.
const SECRET_NAMES: [&str; 8] = [
    "PASSWORD",
    "_PASS",
    "PASSWD",
    "SECRET",
    "SECRET_ACCESS_KEY",
    "API_KEY",
    "ENCRYPTION_KEY",
    "TOKEN",
];

/// Secrets in a line, even if it is commented out. Files of variables have rules of their own.
pub(super) fn of_line(line: &Line) -> Option<Diagnosis> {
    if line.kind == FileKind::Variables {
        return None;
    }
    let kind = secret_in(&line.text)?;
    let what = format!("{} contains {kind}", line.place);
    let is_private = line.mode.trailing_zeros() >= 6
        && line.kind == FileKind::Script
        && kind.starts_with("a value");
    let seen = if is_private {
        Diagnosis::warning("secret-in-job", what)
    } else {
        Diagnosis::error("secret-in-job", what)
    };
    Some(
        seen.because("everyone who can read the file, or list processes while the job runs, can read the secret")
            .fix("move it to a file of mode 600 and refer to that file; then change the secret, because it was exposed"),
    )
}

/// Files of variables that contain secrets and that other users can read.
pub(super) fn of_variable_files(host: &Host, jobs: &Jobs) -> Vec<Diagnosis> {
    let mut found = Vec::new();
    let lines = jobs.jobs.iter().flat_map(|job| &job.lines);
    for line in
        lines.filter(|line| line.kind == FileKind::Variables && secret_in(&line.text).is_some())
    {
        let shown = host.shown(&line.file);
        let owner = std::fs::metadata(&line.file).map(|meta| meta.uid());
        let exposed =
            line.mode & 0o077 != 0 || owner.is_ok_and(|owner| owner != 0 && owner != host.uid);
        if exposed && !found.iter().any(|seen: &Diagnosis| seen.what.contains(&shown)) {
            found.push(
                Diagnosis::error(
                    "secret-file-mode",
                    format!(
                        "{shown} contains secrets, and users other than root can read it (mode {:03o})",
                        line.mode
                    ),
                )
                .because("secrets belong in files that only their owner can read")
                .fix(format!("chown root {shown} && chmod 600 {shown}")),
            );
        }
    }
    found
}

/// The kind of secret in a text.
fn secret_in(text: &str) -> Option<&'static str> {
    if has_uri_with_password(text) {
        return Some("a URL with a password");
    }
    let words: Vec<&str> = words(text).collect();
    for (at, word) in words.iter().enumerate() {
        let next = words.get(at + 1).copied().unwrap_or_default();
        let login = match *word {
            "-u" | "--user" => next,
            _ => word.strip_prefix("--user=").unwrap_or_default(),
        };
        if login
            .split_once(':')
            .is_some_and(|(user, password)| !user.is_empty() && is_written_out(password))
        {
            return Some("a user and password on a command line");
        }
        let option = if *word == "--password" {
            next
        } else {
            word.strip_prefix("--password=").unwrap_or_default()
        };
        if is_written_out(option) && !option.starts_with('-') {
            return Some("a password on a command line");
        }
        if let Some((name, value)) = assignment(strip_key(word))
            && SECRET_NAMES.iter().any(|end| name.to_ascii_uppercase().ends_with(end))
            && is_written_out(value)
        {
            return Some("a value of a secret variable");
        }
    }
    None
}

/// Finds `mongodb://user:password@host`.
fn has_uri_with_password(text: &str) -> bool {
    text.split("://").skip(1).any(|rest| {
        let authority = rest
            .split(|c: char| c.is_whitespace() || "/?#\"'".contains(c))
            .next()
            .unwrap_or_default();
        let login = authority.rsplit_once('@').map(|(login, _)| login);
        login
            .and_then(|login| login.split_once(':'))
            .is_some_and(|(_, password)| is_written_out(password))
    })
}

/// Reports whether a text is a real value: not empty, a variable, a path or a placeholder.
fn is_written_out(value: &str) -> bool {
    !value.is_empty() && !value.starts_with(['$', '/', '<', '*', '`', '%'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_from_names_of_secrets() {
        for secret in [
            "0 3 * * * root mongodump --uri mongodb://backup:canary@h/kaleem",
            "curl -u kaleem:canary http://127.0.0.1:15672/api/definitions",
            "curl --user=kaleem:canary http://h",
            "Environment=\"RESTIC_PASSWORD=canary\"",
            "#export RESTIC_PASSWORD='canary'",
            "AWS_SECRET_ACCESS_KEY=canary",
            "mongodump --username backup --password canary",
        ] {
            assert!(secret_in(secret).is_some_and(|kind| !kind.contains("canary")), "{secret}");
        }
        for fine in [
            "RESTIC_PASSWORD_FILE=/etc/restic.pass",
            "RESTIC_PASSWORD=\"$(cat /etc/restic.pass)\"",
            "curl -u \"$RABBIT_USER:$RABBIT_PASS\" http://h",
            "mongodump --uri mongodb://backup:$PASS@h/kaleem",
            "MONGO_URI=\"mongodb://backup:<PASS>@127.0.0.1:27017/kaleem\"",
            "sudo -u www-data rsync host:path /x",
            "https://hc-ping.com/abc",
        ] {
            assert_eq!(secret_in(fine), None, "{fine}");
        }
    }
}
