//! The stored form of a lock: restic's JSON, with a few fields of our own that restic ignores.
//!
//! A process id is meaningful only within one PID namespace of one boot of one machine. restic records only the host's name,
//! which containers and clones share; so our locks also record the rest.

use std::{fs, time::Duration};

use jiff::{SignedDuration, Timestamp};
use nix::{errno::Errno, sys::signal, unistd};
use serde::{Deserialize, Serialize};

use super::LockKind;
use crate::ground::host;

/// The content of a lock.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LockFile {
    #[serde(with = "restic_time")]
    pub(super) time: Timestamp,
    #[serde(default)]
    pub(super) exclusive: bool,
    #[serde(default)]
    pub(super) hostname: String,
    #[serde(default)]
    pub(super) username: String,
    #[serde(default)]
    pub(super) pid: i32,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
    /// Identifies this boot of the kernel. Containers on one machine share it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot_id: Option<String>,
    /// Identifies the PID namespace within this boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pid_namespace: Option<String>,
    /// Identifies the installation across boots. Clones share it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    machine_id: Option<String>,
    /// Start of the process, in clock ticks since the boot, because process ids are reused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    process_start: Option<u64>,
    /// Its host cannot delete locks: it expires by age, or a later lock of the host ends it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) append_only: bool,
    /// Earlier locks of the same host that this one ends, by key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) ends: Vec<String>,
    /// It only ends earlier locks, and excludes nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) is_end: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// restic writes local times with an offset; any RFC 3339 time is read.
mod restic_time {
    use jiff::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&time.to_string())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// The state of a lock's holder, as far as it can be determined on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LockVerdict {
    /// Its process is running, in this boot and PID namespace.
    Running,
    /// Its process has ended, or the machine has been restarted since.
    Dead,
    /// It belongs to another machine, container or program, so the state of its process is unknown.
    Unknown,
    /// Its content is empty, damaged or encrypted with another key.
    Unreadable,
}

/// The identity of this process's environment, as recorded in locks.
struct Here {
    host: String,
    boot_id: Option<String>,
    pid_namespace: Option<String>,
    machine_id: Option<String>,
}

impl Here {
    fn look() -> Self {
        let line = |path: &str| {
            let text = fs::read_to_string(path).ok()?;
            let text = text.trim();
            (!text.is_empty()).then(|| text.to_owned())
        };
        let namespace = fs::read_link("/proc/self/ns/pid").ok();
        Self {
            host: host::name(),
            boot_id: line("/proc/sys/kernel/random/boot_id"),
            pid_namespace: namespace.map(|link| link.to_string_lossy().into_owned()),
            machine_id: line("/etc/machine-id"),
        }
    }
}

impl LockFile {
    pub(super) fn ours(kind: LockKind) -> Self {
        let here = Here::look();
        let pid = unistd::Pid::this().as_raw();
        Self {
            time: Timestamp::now(),
            exclusive: kind == LockKind::Exclusive,
            hostname: here.host,
            username: host::user(),
            pid,
            uid: unistd::getuid().as_raw(),
            gid: unistd::getgid().as_raw(),
            boot_id: here.boot_id,
            pid_namespace: here.pid_namespace,
            machine_id: here.machine_id,
            process_start: process_start(pid),
            append_only: false,
            ends: Vec::new(),
            is_end: false,
        }
    }

    /// Determines the state of its process. Only a lock of this host, boot and PID namespace is judged by its process id; one of
    /// an earlier boot of this machine is dead. Any other is unknown whatever its time, because clocks differ.
    pub(super) fn verdict(&self) -> LockVerdict {
        self.verdict_from(&Here::look(), booted())
    }

    fn verdict_from(&self, here: &Here, booted: Option<Timestamp>) -> LockVerdict {
        let same = |ours: &Option<String>, its: &Option<String>| ours.is_some() && ours == its;
        if self.hostname != here.host || self.boot_id.is_none() {
            return LockVerdict::Unknown;
        }
        if same(&here.boot_id, &self.boot_id) {
            return if same(&here.pid_namespace, &self.pid_namespace) {
                self.by_process()
            } else {
                LockVerdict::Unknown
            };
        }
        // A clone has the same machine id and maybe the same name, but it renews its lock while it runs: so also by the time.
        let before_boot = booted.is_some_and(|booted| self.time < booted);
        if here.boot_id.is_some() && same(&here.machine_id, &self.machine_id) && before_boot {
            return LockVerdict::Dead;
        }
        LockVerdict::Unknown
    }

    fn by_process(&self) -> LockVerdict {
        if self.pid <= 0 {
            return LockVerdict::Unknown;
        }
        // For a process of another user, the call fails with EPERM: it is running.
        if signal::kill(unistd::Pid::from_raw(self.pid), None) == Err(Errno::ESRCH) {
            return LockVerdict::Dead;
        }
        match (self.process_start, process_start(self.pid)) {
            (Some(its), Some(now)) if its != now => LockVerdict::Dead,
            _ => LockVerdict::Running,
        }
    }

    pub(super) fn describe(&self) -> String {
        let kind = if self.exclusive { "exclusively" } else { "shared" };
        format!(
            "process {} of {}@{}, {kind} since {}",
            self.pid,
            self.username,
            self.hostname,
            self.time.strftime("%FT%TZ")
        )
    }
}

/// Parses the decrypted content of a lock file.
///
/// # Errors
/// The defect of the content.
pub(super) fn parse(plain: &[u8]) -> Result<LockFile, String> {
    serde_json::from_slice(plain).map_err(|error| format!("it is not a lock file: {error}"))
}

/// Start of a process, in clock ticks since the boot. The name in parentheses may contain any characters.
fn process_start(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Start of this machine, by its current clock.
fn booted() -> Option<Timestamp> {
    Timestamp::now().checked_sub(SignedDuration::try_from(uptime()?).ok()?).ok()
}

/// Time since this machine started, suspends included. Unlike the clock, it cannot be set.
pub(super) fn uptime() -> Option<Duration> {
    let text = fs::read_to_string("/proc/uptime").ok()?;
    let seconds: f64 = text.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> Here {
        Here {
            host: "db1".into(),
            boot_id: Some("boot-1".into()),
            pid_namespace: Some("pid:[1]".into()),
            machine_id: Some("machine".into()),
        }
    }

    fn lock(pid: i32) -> LockFile {
        let Here { host, boot_id, pid_namespace, machine_id } = here();
        LockFile {
            hostname: host,
            pid,
            boot_id,
            pid_namespace,
            machine_id,
            process_start: None,
            ..LockFile::ours(LockKind::Shared)
        }
    }

    /// A process id that is free.
    const GONE: i32 = i32::MAX;

    #[test]
    fn only_a_lock_of_this_boot_and_namespace_is_judged_by_its_process() {
        let judged = |lock: &LockFile| lock.verdict_from(&here(), Some(Timestamp::now()));
        let own = unistd::Pid::this().as_raw();
        assert_eq!(judged(&lock(GONE)), LockVerdict::Dead);
        assert_eq!(judged(&lock(own)), LockVerdict::Running);
        let again = LockFile { process_start: Some(1), ..lock(own) };
        assert_eq!(judged(&again), LockVerdict::Dead, "the process id was given out again");
        let later = |lock: LockFile| LockFile {
            time: Timestamp::now() + SignedDuration::from_hours(1),
            ..lock
        };
        for other in [
            LockFile { hostname: "db2".into(), ..lock(GONE) },
            LockFile { pid_namespace: Some("pid:[2]".into()), ..lock(GONE) },
            LockFile { pid_namespace: None, ..lock(GONE) },
            LockFile { boot_id: None, ..lock(GONE) },
            later(LockFile { boot_id: Some("boot-2".into()), ..lock(GONE) }),
            LockFile { time: Timestamp::UNIX_EPOCH, boot_id: None, ..lock(GONE) },
            LockFile {
                boot_id: Some("boot-0".into()),
                machine_id: Some("another".into()),
                ..lock(GONE)
            },
        ] {
            assert_eq!(judged(&other), LockVerdict::Unknown, "{other:?}");
        }
        let earlier =
            LockFile { boot_id: Some("boot-0".into()), time: Timestamp::UNIX_EPOCH, ..lock(own) };
        assert_eq!(judged(&earlier), LockVerdict::Dead, "an earlier boot of this machine");
    }

    #[test]
    fn restics_lock_is_read_and_ours_holds_what_restic_reads() {
        let restic = br#"{"time":"2026-01-31T03:00:00.5+03:00","exclusive":true,"hostname":"h","username":"u","pid":7}"#;
        let lock = parse(restic).unwrap();
        assert_eq!((lock.pid, lock.exclusive, lock.verdict()), (7, true, LockVerdict::Unknown));
        let ours: serde_json::Value =
            serde_json::to_value(LockFile::ours(LockKind::Shared)).unwrap();
        for field in ["time", "exclusive", "hostname", "username", "pid", "uid", "gid"] {
            assert!(ours.get(field).is_some(), "{field}");
        }
        assert!(parse(b"").is_err() && parse(b"[]").is_err());
    }
}
