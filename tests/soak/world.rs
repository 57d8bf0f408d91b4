//! Two hosts, one repository, its mirror and another repository, with an oracle of what each snapshot holds.

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

/// What a snapshot must hold, and of which host it is.
#[derive(Clone, Debug)]
pub struct Truth {
    pub host: usize,
    pub content: Arc<Content>,
}

/// Why a command may refuse for a while.
#[derive(Clone, Debug, Default)]
pub struct Excuses {
    /// A command was killed: its lock may be in the way.
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
    /// Every snapshot of the near repository that was ever seen, by id.
    pub truths: BTreeMap<String, Truth>,
    /// The snapshots that the near repository holds.
    pub held: BTreeSet<String>,
    pub excuses: Excuses,
    /// Commands that were killed.
    pub kills: u64,
    pub random: Random,
    /// What was done so far, a line a command.
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
        // Writing to a string does not fail.
        let _ = writeln!(self.story, "{line}");
    }

    /// Runs a command on a host. A lock that a killed command left is removed as an operator would, and the command repeated.
    pub fn run(&mut self, host: usize, args: &[&str], die: Option<&str>) -> Ended {
        let mut ended = self.hosts[host].run(args, die);
        self.note(host, args, die, &ended);
        if ended.code == Some(11) && self.excuses.killed {
            // Its process was in a namespace that is gone: only an operator can say that it is over.
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

    /// Looks at the near repository after a command of a host, and takes in what it did: a snapshot more is of that host and equals its
    /// tree; what is gone must be among `may_go`.
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

    /// A restore of one snapshot of a repository by stock restic equals what the oracle has of it.
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

    /// The tree of a host as it is now.
    pub fn path_of(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// Keeps the directory of a world that failed, and says where it is.
    pub fn keep(self) -> std::path::PathBuf {
        self.directory.keep()
    }
}

/// What a command did to the near repository.
#[derive(Debug)]
pub struct Changes {
    pub come: Vec<String>,
    pub gone: BTreeSet<String>,
}

/// What differs between the objects of two repositories after a pass that ended with 0; `None` when nothing does but what it said.
pub fn unequal_after(near: &Repository, mirror: &Repository, pass: &Ended) -> Option<String> {
    if pass.stdout.contains("postponed") {
        return None;
    }
    // A key that another host removed is kept until that host's own pass: this one cannot know that it was not lost.
    let is_kept = |key: &String| {
        let id = key.strip_prefix("keys/").unwrap_or_default();
        !id.is_empty()
            && pass.stdout.lines().any(|line| line.contains("kept") && line.contains(&id[..8]))
    };
    let mut there = mirror.objects();
    there.retain(|key, _| !is_kept(key));
    difference_of(&near.objects(), &there)
}

/// What differs between the objects of two repositories; `None` when nothing does.
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
        .then(|| format!("the mirror lacks {missing:?} and has besides {surplus:?}"))
}

/// Reads an object that is about to be damaged.
pub fn bytes_of(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
