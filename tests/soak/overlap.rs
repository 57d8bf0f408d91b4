//! Two hosts at work at the same time: a command that needs the repository exclusively is refused,
//! whatever the clocks show.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::world::World;

/// Commands that need the repository exclusively.
const NEED_IT_ALONE: [&[&str]; 2] =
    [&["prune", "--yes", "--instant"], &["forget", "--keep-last", "1", "--yes", "--prune"]];

/// A backup of one host is held while it has its lock, and the other host tries to forget or prune.
/// Then an operator ends the backup.
pub fn overlap(world: &mut World, host: usize) -> Result<(), String> {
    let other = (host + 1) % world.hosts.len();
    if world.excuses.killed {
        // An abandoned lock would refuse, too.
        return Ok(());
    }
    let mut backup = world.hosts[host].command();
    backup.arg("backup").env("KALEEM_DR_FAILPOINT", "pack=hang");
    let spawned = backup.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| error.to_string())?;
    let mut log = BufReader::new(child.stderr.take().expect("it is a pipe"));
    let (mut said, mut line) = (String::new(), String::new());
    while log.read_line(&mut line).map_err(|error| error.to_string())? > 0
        && !line.contains("failpoint reached")
    {
        said.push_str(&std::mem::take(&mut line));
    }
    if line.is_empty() {
        let code = child.wait().map_err(|error| error.to_string())?.code();
        return Err(format!("a backup ended with {code:?} before its snapshot: {said}"));
    }
    world.tell(&format!("a backup of {} is at work", world.hosts[host].name));
    let args = *world.random.pick(&NEED_IT_ALONE);
    let ended = world.hosts[other].run(args, None);
    world.tell(&format!(
        "[{}] kaleem-dr {} -> {:?}",
        world.hosts[other].name,
        args.join(" "),
        ended.code
    ));
    let interrupted = interrupt(&mut child);
    let mut rest = String::new();
    // The end of the process closes the pipe.
    log.read_to_string(&mut rest).map_err(|error| error.to_string())?;
    let code = child.wait().map_err(|error| error.to_string())?.code();
    interrupted?;
    world.take_in(host, false, &BTreeSet::new())?;
    if !matches!(ended.code, Some(5 | 11)) {
        return Err(format!("{args:?} while a backup was at work: {}", ended.said()));
    }
    if code != Some(130) {
        return Err(format!("a backup that was sent SIGTERM ended with {code:?}: {rest}"));
    }
    let locks = fs::read_dir(world.near.directory.join("locks"))
        .map_err(|error| error.to_string())?
        .count();
    if locks > 0 {
        Err(format!("{locks} locks are left after a backup that was sent SIGTERM"))
    } else {
        Ok(())
    }
}

/// Sends SIGTERM to the program itself, below `unshare` and its shell.
fn interrupt(child: &mut Child) -> Result<(), String> {
    let below = |pid: u32| {
        let children =
            fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        children.split_whitespace().next().and_then(|pid| pid.parse::<u32>().ok())
    };
    let program =
        below(child.id()).and_then(below).ok_or("the program that was held up is gone")?;
    let pid = Pid::from_raw(i32::try_from(program).map_err(|error| error.to_string())?);
    kill(pid, Signal::SIGTERM).map_err(|error| error.to_string())
}
