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
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use kaleem_dr_core::{
    engine::manifest::ArtifactRecord,
    ground::{Cause, SourceError, digest::MultisetDigest, error_chain},
    recovery::point::PointReader,
};
use serde_json::{Value, json};

use super::{
    as_collection::ShardAsCollection,
    contents::{Files, Stored},
    pipe,
    points::{Content, Page},
};

/// Limit for the part of the program's error output that is reported, in bytes.
const COMPLAINT_BYTES: u64 = 2000;

/// Takes each line of the program's output: a page of points.
pub(super) type Lines = Arc<dyn Fn(&[u8]) -> Result<(), Cause> + Send + Sync>;

/// The content of a collection in a point according to the engine, or the reason why it does not
/// read its files.
///
/// # Errors
/// As [`pages`].
pub(super) async fn read_stored(
    point: &PointReader,
    stored: &Stored,
    program: &Path,
) -> Result<Result<Content, Cause>, SourceError> {
    let digest = Arc::new(Mutex::new(MultisetDigest::default()));
    let sum = digest.clone();
    let lines: Lines = Arc::new(move |line| {
        let page = Page::of(line)?;
        sum.lock().unwrap_or_else(PoisonError::into_inner).merge(&page.digest);
        Ok(())
    });
    let read = pages(point, stored, program, lines).await?;
    let digest = digest.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(read.map(|()| Content { points: digest.items(), digest: digest.to_hex() }))
}

/// Passes every page of points in a collection's files to `lines`, or returns the reason why the
/// engine does not read them. Files of single shards are read one after another.
///
/// # Errors
/// If the point cannot be read, or the program cannot be run: that proves nothing about the files.
pub(super) async fn pages(
    point: &PointReader,
    stored: &Stored,
    program: &Path,
    lines: Lines,
) -> Result<Result<(), Cause>, SourceError> {
    let files: Vec<(Option<u32>, &ArtifactRecord)> = match &stored.files {
        Files::Whole(record) => vec![(None, record)],
        Files::Shards(records) => records.iter().map(|(id, record)| (Some(*id), record)).collect(),
    };
    let keys = key_mapping(stored);
    for (shard, record) in files {
        let artifact = point.artifact(&record.path).await?;
        let (program, keys, lines) = (program.to_path_buf(), keys.clone(), lines.clone());
        let read = move |file: &mut dyn Read| match shard {
            None => run(&program, file, &lines),
            Some(id) => run(&program, &mut ShardAsCollection::new(id, &keys, file), &lines),
        };
        if let Err(why) = pipe::through(artifact, &point.cancellation(), read).await?? {
            let shard = shard.map_or(String::new(), |id| format!("shard {id}: "));
            return Ok(Err(format!("{shard}{}", error_chain(&*why)).into()));
        }
    }
    Ok(Ok(()))
}

/// The shard keys as in the snapshot of a collection. The engine adds the key of its shard to each
/// point.
fn key_mapping(stored: &Stored) -> Vec<u8> {
    let keyed = stored.description.shards.iter().filter_map(|shard| {
        let key = shard.shard_key.as_ref()?;
        Some(json!({ "key": key, "shard_ids": [shard.shard_id] }))
    });
    Value::Array(keyed.collect()).to_string().into_bytes()
}

/// Passes every page of points in a snapshot file to `lines`, or returns the reason why the engine
/// does not read it.
///
/// # Errors
/// If the program cannot be run, which proves nothing about the file.
fn run(
    program: &Path,
    file: &mut dyn Read,
    lines: &Lines,
) -> Result<Result<(), Cause>, SourceError> {
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
    Ok(read(child, file, lines.clone()))
}

fn read(mut child: Child, file: &mut dyn Read, lines: Lines) -> Result<(), Cause> {
    let (output, complaints) = (child.stdout.take(), child.stderr.take());
    let passed = thread::spawn(move || output.map_or(Ok(()), |output| pass(output, &lines)));
    let complained = thread::spawn(move || {
        let mut said = String::new();
        // The output is for people; an incomplete one is better than none.
        let _ = complaints.map(|pipe| pipe.take(COMPLAINT_BYTES).read_to_string(&mut said));
        said
    });
    let fed = feed(&mut child, file);
    let status = child.wait()?;
    let passed = passed.join().map_err(|_| "reading its output failed")?;
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
    passed
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

fn pass(output: impl Read, lines: &Lines) -> Result<(), Cause> {
    let (mut output, mut line) = (BufReader::new(output), Vec::new());
    while output.read_until(b'\n', &mut line)? > 0 {
        lines(&line)?;
        line.clear();
    }
    Ok(())
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

    /// The number of points in a file.
    fn content(program: &Path, file: &mut dyn Read) -> Result<Result<u64, Cause>, SourceError> {
        let count = Arc::new(Mutex::new(0));
        let sum = count.clone();
        let lines: Lines = Arc::new(move |line| {
            *sum.lock().unwrap() += Page::of(line)?.digest.items();
            Ok(())
        });
        Ok(run(program, file, &lines)?.map(|()| *count.lock().unwrap()))
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
        assert_eq!(read, 2);
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
