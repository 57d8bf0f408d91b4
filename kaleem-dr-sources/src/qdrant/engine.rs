//! Reads the points of a snapshot file with Qdrant's own engine, without a server.
//!
//! The engine is a separate program (`examples/qdrant-engine`): it is larger than this whole
//! project, and nothing else needs it. It reads the file from standard input and prints one page of
//! points per line, in the format of the scroll API. So the points can be digested like a server's,
//! which detects an altered component of a vector; Qdrant itself does not.

use std::{
    env,
    io::{self, BufRead as _, BufReader, Read},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    thread,
};

use kaleem_dr_core::ground::{Cause, SourceError, digest::MultisetDigest};

use super::points::{Content, Page};

/// Limit for the part of the program's error output that is reported, in bytes.
const COMPLAINT_BYTES: u64 = 2000;

/// The content of a snapshot file according to the engine, or the reason why it does not read the
/// file.
///
/// # Errors
/// If the program cannot be run, which proves nothing about the file.
pub(super) fn content(
    program: &Path,
    file: &mut dyn Read,
) -> Result<Result<Content, Cause>, SourceError> {
    let child = Command::new(program)
        .env_clear()
        .envs(["PATH", "TMPDIR"].iter().filter_map(|name| Some((name, env::var_os(name)?))))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| {
            SourceError::Unsupported(format!(
                "cannot run `engine` {}: {error}; install it with `cargo install --path examples/qdrant-engine`, or remove \
                 `engine`",
                program.display()
            ))
        })?;
    Ok(read(child, file))
}

fn read(mut child: Child, file: &mut dyn Read) -> Result<Content, Cause> {
    let (output, complaints) = (child.stdout.take(), child.stderr.take());
    let digested =
        thread::spawn(move || output.map_or_else(|| Ok(MultisetDigest::default()), digest));
    let complained = thread::spawn(move || {
        let mut said = String::new();
        // The output is for people; an incomplete one is better than none.
        let _ = complaints.map(|pipe| pipe.take(COMPLAINT_BYTES).read_to_string(&mut said));
        said
    });
    let fed = feed(&mut child, file);
    let status = child.wait()?;
    let digested = digested.join().map_err(|_| "reading its output failed")?;
    let complaint = complained.join().unwrap_or_default();
    if !status.success() {
        let why = complaint
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("it gives no reason");
        return Err(why.trim_start_matches("error: ").into());
    }
    fed?;
    let digest = digested?;
    Ok(Content { points: digest.items(), digest: digest.to_hex() })
}

/// Passes the file to the program. A program that has read enough, or has failed, closes the pipe;
/// then its status decides.
fn feed(child: &mut Child, file: &mut dyn Read) -> io::Result<()> {
    let mut pipe: Option<ChildStdin> = child.stdin.take();
    let Some(into) = &mut pipe else { return Ok(()) };
    match io::copy(file, into) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        copied => copied.map(drop),
    }
}

fn digest(output: impl Read) -> Result<MultisetDigest, Cause> {
    let mut digest = MultisetDigest::default();
    let (mut lines, mut line) = (BufReader::new(output), Vec::new());
    while lines.read_until(b'\n', &mut line)? > 0 {
        digest.merge(&Page::of(&line)?.digest);
        line.clear();
    }
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

    use super::*;

    fn program(home: &Path, script: &str) -> PathBuf {
        let path = home.join("engine");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn pages_are_summed_and_a_failure_is_never_a_count() {
        let home = tempfile::tempdir().unwrap();
        let page = |id: u64| {
            format!(
                r#"{{"shard":0,"result":{{"points":[{{"id":{id},"payload":null,"vector":[0.5]}}]}}}}"#
            )
        };
        let pages = format!("cat >/dev/null; echo '{}'; echo '{}'", page(1), page(2));
        let read =
            content(&program(home.path(), &pages), &mut &b"a snapshot"[..]).unwrap().unwrap();
        assert_eq!(read.points, 2);
        let fails = format!("{pages}; echo 'error: shard 1: no segment' >&2; exit 1");
        let why =
            content(&program(home.path(), &fails), &mut &b"a snapshot"[..]).unwrap().unwrap_err();
        assert_eq!(why.to_string(), "shard 1: no segment");
        // It hangs up before it has read everything.
        let hangs_up = program(home.path(), "echo 'error: not a tar' >&2; exit 1");
        let why = content(&hangs_up, &mut io::repeat(0).take(1 << 24)).unwrap().unwrap_err();
        assert_eq!(why.to_string(), "not a tar");
        content(&program(home.path(), "cat >/dev/null; echo '{\"shard\":'"), &mut &b""[..])
            .unwrap()
            .unwrap_err();
        let absent = content(&home.path().join("absent"), &mut &b""[..]).unwrap_err().to_string();
        assert!(absent.contains("cannot run"), "{absent}");
    }
}
