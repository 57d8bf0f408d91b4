//! Reads the points of a snapshot file with Qdrant's own engine, without a server.
//!
//! The engine is a separate program (`examples/qdrant-engine`): it is larger than this whole
//! project, and nothing else needs it. It reads the file from standard input and prints one page of
//! points per line, in the format of the scroll API. So the points can be digested like a server's,
//! which detects an altered component of a vector; Qdrant itself does not.

use std::{
    collections::VecDeque,
    env,
    io::{self, BufRead as _, BufReader, Read},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    thread,
};

use bytes::{Buf as _, Bytes};
use kaleem_dr_core::{
    engine::manifest::ArtifactRecord,
    ground::{Cause, SourceError, digest::MultisetDigest, error_chain},
    recovery::point::PointReader,
};
use serde_json::{Value, json};
use tar::Header;

use super::{
    contents::{Files, Stored},
    pipe,
    points::{Content, Page},
    tar_edit::{InDirectory, TarEditor},
};

/// Name of the member with a collection's shard keys.
const KEYS: &[u8] = b"shard_key_mapping.json";
const BLOCK_BYTES: usize = 512;
const PIECE_BYTES: usize = 64 << 10;

/// Limit for the part of the program's error output that is reported, in bytes.
const COMPLAINT_BYTES: u64 = 2000;

/// The content of a collection in a point according to the engine, or the reason why it does not
/// read its files. Those of single shards are read one after another.
///
/// # Errors
/// If the point cannot be read, or the program cannot be run: that proves nothing about the files.
pub(super) async fn read_stored(
    point: &PointReader,
    stored: &Stored,
    program: &Path,
) -> Result<Result<Content, Cause>, SourceError> {
    let mut digest = MultisetDigest::default();
    let one = |record: &ArtifactRecord, shard: Option<u32>| {
        let (path, program) = (record.path.clone(), program.to_path_buf());
        let keys = key_mapping(stored);
        async move {
            let artifact = point.artifact(&path).await?;
            let read = move |file: &mut dyn Read| match shard {
                None => content(&program, file),
                Some(id) => content(&program, &mut ShardAsCollection::new(id, &keys, file)),
            };
            pipe::through(artifact, &point.cancellation(), read).await?
        }
    };
    let read = match &stored.files {
        Files::Whole(record) => vec![one(record, None).await?],
        Files::Shards(records) => {
            let mut read = Vec::new();
            for (&id, record) in records {
                let content = one(record, Some(id)).await?;
                read.push(
                    content.map_err(|why| format!("shard {id}: {}", error_chain(&*why)).into()),
                );
            }
            read
        }
    };
    for content in read {
        match content {
            Ok(content) => digest.merge(&content),
            Err(why) => return Ok(Err(why)),
        }
    }
    Ok(Ok(Content { points: digest.items(), digest: digest.to_hex() }))
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

/// The snapshot of a shard in the form of a collection's, which the engine reads.
struct ShardAsCollection<'a> {
    file: &'a mut dyn Read,
    editor: Option<TarEditor<InDirectory>>,
    ready: VecDeque<Bytes>,
}

impl<'a> ShardAsCollection<'a> {
    fn new(shard: u32, keys: &[u8], file: &'a mut dyn Read) -> Self {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[..KEYS.len()].copy_from_slice(KEYS);
        header.set_size(keys.len() as u64);
        header.set_mode(0o600);
        header.set_cksum();
        let mut first = [header.as_bytes(), keys].concat();
        first.resize(first.len().next_multiple_of(BLOCK_BYTES), 0);
        Self { file, editor: Some(InDirectory::of(shard)), ready: [first.into()].into() }
    }
}

impl Read for ShardAsCollection<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.ready.is_empty() {
            let Some(editor) = &mut self.editor else { return Ok(0) };
            let mut piece = vec![0; PIECE_BYTES];
            let length = self.file.read(&mut piece)?;
            piece.truncate(length);
            let mut out = Vec::new();
            editor.push(piece.into(), &mut out)?;
            if length == 0
                && let Some(editor) = self.editor.take()
            {
                editor.finish(&mut out)?;
            }
            self.ready.extend(out.into_iter().filter(|bytes| !bytes.is_empty()));
        }
        let Some(first) = self.ready.front_mut() else { return Ok(0) };
        let taken = first.len().min(buffer.len());
        first.copy_to_slice(&mut buffer[..taken]);
        if first.is_empty() {
            self.ready.pop_front();
        }
        Ok(taken)
    }
}

/// The points in a snapshot file according to the engine, or the reason why it does not read the
/// file.
///
/// # Errors
/// If the program cannot be run, which proves nothing about the file.
fn content(
    program: &Path,
    file: &mut dyn Read,
) -> Result<Result<MultisetDigest, Cause>, SourceError> {
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

fn read(mut child: Child, file: &mut dyn Read) -> Result<MultisetDigest, Cause> {
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
    digested
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
        assert_eq!(read.items(), 2);
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
