//! Two hosts, one repository, its mirror and another repository, with an oracle for the content of
//! each snapshot.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
};

use tempfile::TempDir;

use crate::{
    host::Host,
    program::Ended,
    random::Random,
    repository::{PASSWORD, Repository},
    tree::{Content, content_of, difference},
};

/// The expected content of a snapshot, and its host.
#[derive(Clone, Debug)]
pub struct Truth {
    pub host: usize,
    pub content: Arc<Content>,
}

/// Reasons for which a command may refuse for a while.
#[derive(Clone, Debug, Default)]
pub struct Excuses {
    /// A command was killed: its lock may still exist.
    pub killed: bool,
    /// A clock is or was wrong: a snapshot may be dated in the future.
    pub clock: bool,
}

pub struct World {
    pub directory: TempDir,
    pub hosts: Vec<Host>,
    pub near: Repository,
    pub mirror: Repository,
    pub other: Repository,
    /// Every snapshot of the near repository that ever existed, by id.
    pub truths: BTreeMap<String, Truth>,
    /// The current snapshots of the near repository.
    pub held: BTreeSet<String>,
    pub excuses: Excuses,
    /// Number of killed commands.
    pub kills: u64,
    pub random: Random,
    /// The commands so far, one a line.
    pub story: String,
}

impl World {
    pub fn new(seed: u64) -> std::io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("kaleem-dr-soak-").tempdir()?;
        let mut random = Random::new(seed);
        let root = directory.path();
        let password = root.join("password");
        fs::write(&password, format!("{PASSWORD}\n"))?;
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600))?;
        let hosts = ["alpha", "beta"]
            .into_iter()
            .map(|name| Host::new(root, name, &mut random))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            near: Repository::lay_out(&root.join("near"), "near", &password)?,
            mirror: Repository::at(&root.join("mirror"), &password),
            other: Repository::lay_out(&root.join("other"), "other", &password)?,
            hosts,
            directory,
            truths: BTreeMap::new(),
            held: BTreeSet::new(),
            excuses: Excuses::default(),
            kills: 0,
            random,
            story: String::new(),
        })
    }

    pub fn tell(&mut self, line: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.story, "{line}");
    }

    /// Runs a command on a host. If a killed command left a lock, it is removed like an operator
    /// would, and the command is repeated.
    pub fn run(&mut self, host: usize, args: &[&str], die: Option<&str>) -> Ended {
        let mut ended = self.hosts[host].run(args, die);
        self.note(host, args, die, &ended);
        if ended.code == Some(11) && self.excuses.killed {
            // Its process was in a namespace that no longer exists: only an operator can know that
            // it has ended.
            for (name, repository) in
                [("local", &self.near), ("mirror", &self.mirror), ("other", &self.other)]
            {
                if repository.exists() {
                    self.hosts[host]
                        .run(&["unlock", "--remove-all", "--yes", "--repo", name], None);
                }
            }
            self.excuses.killed = false;
            ended = self.hosts[host].run(args, die);
            self.note(host, args, die, &ended);
        }
        if ended.code.is_none() {
            self.excuses.killed = true;
            self.kills += 1;
        }
        ended
    }

    fn note(&mut self, host: usize, args: &[&str], die: Option<&str>, ended: &Ended) {
        let Host { name, ahead, .. } = &self.hosts[host];
        let die = die.map_or(String::new(), |die| format!(" KALEEM_DR_FAILPOINT={die}"));
        let line = format!(
            "[{name}, clock {ahead:+} s]{die} kaleem-dr {} -> {:?}",
            args.join(" "),
            ended.code
        );
        self.tell(&line);
        if matches!(ended.code, Some(code) if code != 0) {
            self.tell(&format!("    {}", ended.said().replace('\n', "\n    ")));
        }
    }

    /// Inspects the near repository after a command of a host, and records the changes: a new
    /// snapshot belongs to that host and equals its tree; a removed one must be in `may_go`.
    pub fn take_in(
        &mut self,
        host: usize,
        may_come: bool,
        may_go: &BTreeSet<String>,
    ) -> Result<Changes, String> {
        let listed = self.near.snapshots()?;
        let now: BTreeSet<String> = listed.keys().cloned().collect();
        let come: Vec<String> = now.difference(&self.held).cloned().collect();
        let gone: BTreeSet<String> = self.held.difference(&now).cloned().collect();
        if let Some(lost) = gone.iter().find(|id| !may_go.contains(*id)) {
            let of = &self.hosts[self.truths[lost].host].name;
            return Err(format!("snapshot {} of {of} is gone", &lost[..8]));
        }
        if !come.is_empty() && !may_come {
            return Err(format!("snapshots came from nowhere: {come:?}"));
        }
        for id in &come {
            if listed[id].host != self.hosts[host].name {
                return Err(format!("snapshot {} bears the host {}", &id[..8], listed[id].host));
            }
            let content =
                Arc::new(content_of(&self.hosts[host].tree).map_err(|error| error.to_string())?);
            self.truths.insert(id.clone(), Truth { host, content });
        }
        self.held = now;
        Ok(Changes { come, gone })
    }

    /// Asserts that stock restic restores one snapshot of a repository as recorded by the oracle.
    pub fn restore_equals(
        &self,
        repository: &Repository,
        id: &str,
        truth: &Truth,
    ) -> Result<(), String> {
        let tree = &self.hosts[truth.host].tree;
        let found = repository.restored(id, tree)?;
        difference(&found, &truth.content).map_or(Ok(()), |how| {
            Err(format!(
                "snapshot {} in {} is not what was saved: {how}",
                &id[..8],
                repository.directory.display()
            ))
        })
    }

    /// The current tree of a host.
    pub fn path_of(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// Keeps the directory of a failed world, and returns its path.
    pub fn keep(self) -> std::path::PathBuf {
        self.directory.keep()
    }
}

/// The changes that a command made to the near repository.
#[derive(Debug)]
pub struct Changes {
    pub come: Vec<String>,
    pub gone: BTreeSet<String>,
}

/// Describes the differences between two repositories after a pass that ended with 0; `None` if
/// there are only those that it reported.
pub fn unequal_after(near: &Repository, mirror: &Repository, pass: &Ended) -> Option<String> {
    if pass.stdout.contains("postponed") {
        return None;
    }
    // A key that another host removed is kept until that host's own pass: this host cannot know
    // that it was not lost.
    let is_kept = |key: &String| {
        let id = key.strip_prefix("keys/").unwrap_or_default();
        !id.is_empty()
            && pass.stdout.lines().any(|line| line.contains("kept") && line.contains(&id[..8]))
    };
    let mut there = mirror.objects();
    there.retain(|key, _| !is_kept(key));
    difference_of(&near.objects(), &there)
}

/// Describes the differences between the objects of two repositories; `None` if there are none.
pub fn unequal(near: &Repository, mirror: &Repository) -> Option<String> {
    difference_of(&near.objects(), &mirror.objects())
}

fn difference_of(here: &BTreeMap<String, u64>, there: &BTreeMap<String, u64>) -> Option<String> {
    let missing: Vec<_> = here
        .iter()
        .filter(|(key, size)| there.get(*key) != Some(size))
        .map(|(key, _)| key)
        .collect();
    let surplus: Vec<_> = there.keys().filter(|key| !here.contains_key(*key)).collect();
    (!missing.is_empty() || !surplus.is_empty())
        .then(|| format!("the mirror lacks {missing:?} and has in addition {surplus:?}"))
}

/// Reads an object before it is damaged.
pub fn bytes_of(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
