//! A host: a name, processes that other hosts do not see, a clock that may be wrong, files to save,
//! and a config.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    program::{self, Ended},
    random::Random,
    tree,
};

/// Debian's libfaketime, for multi-threaded programs.
const FAKETIME: &str = "faketime/libfaketimeMT.so.1";

#[derive(Debug)]
pub struct Host {
    pub name: String,
    pub tree: PathBuf,
    /// Offset of its clock, in seconds.
    pub ahead: i64,
    config: PathBuf,
}

impl Host {
    /// Creates a host of a world, with files.
    pub fn new(world: &Path, name: &str, random: &mut Random) -> io::Result<Self> {
        let home = world.join(name);
        // All hosts have a source with the same name, but different files.
        let tree = home.join("tree");
        tree::plant(&tree, random)?;
        let config = home.join("kaleem-dr.toml");
        let place = |what: &str| world.join(what).display().to_string();
        let toml = format!(
            "state_directory = '{home}/state'\ncache_directory = '{home}/cache'\n\
             [repository.local]\nlocation = '{}'\npassword = {{ file = '{pass}' }}\n\
             [repository.mirror]\nlocation = '{}'\nmirror_of = 'local'\npassword = {{ file = '{pass}' }}\n\
             [repository.other]\nlocation = '{}'\npassword = {{ file = '{pass}' }}\n\
             [source.configs]\ntype = 'files'\npaths = ['{}']\n",
            place("near"),
            place("mirror"),
            place("other"),
            tree.display(),
            home = home.display(),
            pass = place("password"),
        );
        fs::write(&config, toml)?;
        Ok(Self { name: name.to_owned(), tree, ahead: 0, config })
    }

    /// The program on this host, ready for arguments: in namespaces of its own, like a container.
    pub fn command(&self) -> Command {
        let mut command = Command::new("unshare");
        // Without root, as the root of a user namespace.
        if !nix::unistd::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        command.args(["--uts", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"]);
        // Keeps the shell, because the first process of a namespace cannot kill itself.
        command.arg(r#"hostname "$1" && shift && "$@"; exit $?"#).arg("sh").arg(&self.name);
        if self.ahead != 0 {
            command.arg("env").arg(format!("LD_PRELOAD=/usr/lib/x86_64-linux-gnu/{FAKETIME}"));
            // Only the wall clock is shifted: time-outs are not affected.
            command
                .args(["DONT_FAKE_MONOTONIC=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"])
                .arg(format!("FAKETIME={:+}s", self.ahead));
        }
        command
            .arg(program::kaleem_dr())
            .env_remove("KALEEM_DR_FAILPOINT")
            .env("KALEEM_DR_CONFIG", &self.config);
        command
    }

    /// Runs the program; `die` is the value of `KALEEM_DR_FAILPOINT`.
    pub fn run(&self, args: &[&str], die: Option<&str>) -> Ended {
        let mut command = self.command();
        if let Some(die) = die {
            command.env("KALEEM_DR_FAILPOINT", die);
        }
        let mut ended = program::run(command.args(args));
        // The exit code of a shell, and of `unshare`, for a signal.
        if ended.code == Some(137) {
            ended.code = None;
        }
        ended
    }
}
