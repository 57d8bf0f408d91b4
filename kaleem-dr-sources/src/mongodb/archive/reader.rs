//! Reads a complete archive, checks everything that the format allows to check, and passes on each
//! document.
//!
//! It writes nothing to disk; the receiver of the documents decides where they go.

use std::{fmt, io::Read};

use kaleem_dr_core::ground::SourceError;

use super::{
    format::{BlockHeader, Entry, Header, MAGIC},
    frames::{Frame, Frames},
    prelude::{Blocks, Namespace, Prelude},
};
use crate::mongodb::server::listing::CollectionKind;

/// Receives the content of an archive.
pub(super) trait Contents {
    /// Receives the next document of a namespace, given by its index in the prelude.
    ///
    /// # Errors
    /// If the document cannot be processed; this stops the reading.
    fn document(&mut self, namespace: usize, document: &[u8]) -> Result<(), SourceError>;
}

/// The reason why an archive could not be read.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The archive is damaged.
    Damaged(Damage),
    /// The receiver of the documents failed.
    Contents(SourceError),
}

/// The position of the damage, and how much of the archive is intact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    /// Offset in the uncompressed stream, in bytes.
    at: u64,
    /// The damaged namespace.
    namespace: Option<Broken>,
    why: String,
    /// The number of complete namespaces with a correct CRC, and of all namespaces. `None` if not
    /// even the prelude is complete.
    whole: Option<(usize, usize)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Broken {
    name: String,
    documents: u64,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {} of the uncompressed archive", self.at)?;
        if let Some(broken) = &self.namespace {
            write!(f, ", in {}", broken.name)?;
        }
        write!(f, ": {}; ", self.why)?;
        match self.whole {
            None => write!(
                f,
                "nothing of it can be read, because the description of its collections is incomplete"
            ),
            Some((whole, all)) => {
                write!(f, "{whole} of its {all} namespaces are intact")?;
                match &self.namespace {
                    Some(broken) => write!(
                        f,
                        ", and {} documents of {} can be read",
                        broken.documents, broken.name
                    ),
                    None => Ok(()),
                }
            }
        }
    }
}

/// Reads an uncompressed archive to its end.
///
/// # Errors
/// The first damage. If only a checksum is wrong, the rest is still read, without passing it on, so
/// that the error can report what else is intact.
pub(super) fn read(input: impl Read, contents: &mut impl Contents) -> Result<Prelude, ReadError> {
    let mut frames = Frames::new(input);
    let (prelude, blocks) = read_prelude(&mut frames).map_err(|why| {
        ReadError::Damaged(Damage { at: frames.at(), namespace: None, why, whole: None })
    })?;
    let bodies = prelude.namespaces.iter().map(|_| Body::default()).collect();
    let mut reading =
        Reading { prelude: &prelude, blocks, bodies, current: None, contents, damage: None };
    match reading.blocks(&mut frames) {
        Err(ReadError::Damaged(damage)) => Err(ReadError::Damaged(reading.counted(damage))),
        Err(error) => Err(error),
        Ok(()) => match reading.damage.take() {
            Some(damage) => Err(ReadError::Damaged(reading.counted(damage))),
            None => Ok(prelude),
        },
    }
}

fn read_prelude<R: Read>(frames: &mut Frames<R>) -> Result<(Prelude, Blocks), String> {
    match frames.magic()? {
        Some(MAGIC) => {}
        Some(_) => return Err("it does not begin like a mongodump archive".to_owned()),
        None => return Err("it is too short for a mongodump archive".to_owned()),
    }
    let header = match frames.next()? {
        Frame::Document(document) => {
            Header::read(document).map_err(|why| format!("the archive's header: {why}"))?
        }
        Frame::Terminator | Frame::End => return Err("it has no header".to_owned()),
    };
    let mut namespaces = Vec::new();
    let mut blocks = Blocks::default();
    loop {
        match frames.next()? {
            Frame::Document(document) => {
                let entry = Entry::read(document).map_err(|why| {
                    format!("entry {} of the prelude: {why}", namespaces.len() + 1)
                })?;
                let namespace = Namespace::of_entry(entry)?;
                blocks.add(namespaces.len(), &namespace)?;
                namespaces.push(namespace);
            }
            Frame::Terminator if namespaces.is_empty() => {
                return Err(
                    "it lists no collection: the program that wrote it found nothing to dump"
                        .to_owned(),
                );
            }
            Frame::Terminator => return Ok((Prelude { header, namespaces }, blocks)),
            Frame::End => return Err("it ends inside the list of its collections".to_owned()),
        }
    }
}

/// The state of one namespace.
#[derive(Default)]
struct Body {
    crc: crc64fast::Digest,
    documents: u64,
    ended: bool,
    /// The namespace ended with the correct checksum.
    whole: bool,
}

struct Reading<'a, C> {
    prelude: &'a Prelude,
    blocks: Blocks,
    bodies: Vec<Body>,
    /// Index of the current block's namespace.
    current: Option<usize>,
    contents: &'a mut C,
    /// A wrong checksum, kept while the rest is read.
    damage: Option<Damage>,
}

impl<C: Contents> Reading<'_, C> {
    fn blocks<R: Read>(&mut self, frames: &mut Frames<R>) -> Result<(), ReadError> {
        loop {
            self.current = None;
            let header = match frames.next() {
                Ok(Frame::Document(document)) => BlockHeader::read(document)
                    .map_err(|why| format!("the header of a block: {why}")),
                Ok(Frame::Terminator) => Err("a block has no header".to_owned()),
                Ok(Frame::End) => break,
                Err(why) => Err(why),
            };
            let begun = header.and_then(|header| self.begin(header));
            let ended = begun.map_err(|why| ReadError::Damaged(self.damaged(frames.at(), why)))?;
            if let Some(crc) = ended {
                self.end(crc, frames.at());
            }
            self.documents(frames, ended.is_some())?;
        }
        match self.bodies.iter().position(|body| !body.ended) {
            None => Ok(()),
            Some(open) => {
                self.current = Some(open);
                Err(ReadError::Damaged(self.damaged(
                    frames.at(),
                    "the archive ends before this namespace does".to_owned(),
                )))
            }
        }
    }

    /// Starts a block. Returns the CRC if the namespace ends with it.
    fn begin(&mut self, header: BlockHeader) -> Result<Option<u64>, String> {
        let BlockHeader { database, collection, end } = header;
        let name = format!("{database}.{collection}");
        let Some(at) = self.blocks.find(database, collection) else {
            return Err(format!("a block belongs to {name}, which the prelude does not list"));
        };
        self.current = Some(at);
        if self.bodies[at].ended {
            Err("a block comes after the end of its namespace".to_owned())
        } else {
            Ok(end)
        }
    }

    fn end(&mut self, expected: u64, at: u64) {
        let Some(body) = self.current.and_then(|current| self.bodies.get_mut(current)) else {
            return;
        };
        body.ended = true;
        let found = body.crc.sum64();
        body.whole = found == expected;
        if !body.whole && self.damage.is_none() {
            let why = format!(
                "its documents have the CRC {found:016x} instead of {expected:016x}, so some of them are changed or missing"
            );
            self.damage = Some(self.damaged(at, why));
        }
    }

    /// Reads the documents of a block, up to its terminator.
    fn documents<R: Read>(&mut self, frames: &mut Frames<R>, ended: bool) -> Result<(), ReadError> {
        let Some(current) = self.current else { return Ok(()) };
        let is_view = self.prelude.namespaces[current].kind() == Some(CollectionKind::View);
        loop {
            let why = match frames.next() {
                Ok(Frame::Terminator) => return Ok(()),
                Ok(Frame::Document(_)) if ended => {
                    "a document comes after the end of its namespace".to_owned()
                }
                Ok(Frame::Document(_)) if is_view => "a view has documents".to_owned(),
                Ok(Frame::Document(document)) => {
                    let body = &mut self.bodies[current];
                    body.crc.write(document);
                    body.documents += 1;
                    if self.damage.is_none() {
                        self.contents.document(current, document).map_err(ReadError::Contents)?;
                    }
                    continue;
                }
                Ok(Frame::End) => "it ends inside a block".to_owned(),
                Err(why) => why,
            };
            return Err(ReadError::Damaged(self.damaged(frames.at(), why)));
        }
    }

    /// The damage to report: an earlier checksum error takes precedence.
    fn damaged(&self, at: u64, why: String) -> Damage {
        self.damage.clone().unwrap_or_else(|| Damage {
            at,
            namespace: self.current.map(|current| Broken {
                name: self.prelude.namespaces[current].name(),
                documents: self.bodies[current].documents,
            }),
            why,
            whole: None,
        })
    }

    fn counted(&self, damage: Damage) -> Damage {
        let whole = self.bodies.iter().filter(|body| body.whole).count();
        Damage { whole: Some((whole, self.bodies.len())), ..damage }
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;
    use crate::mongodb::archive::sample::{Kept, Sample, document, everything};

    fn refusal(sample: &Sample) -> String {
        match read(&sample.0[..], &mut Kept::default()) {
            Err(ReadError::Damaged(damage)) => damage.to_string(),
            other => panic!("{other:?}"),
        }
    }

    fn accept(sample: &Sample) -> (Vec<String>, Vec<Vec<u8>>) {
        let mut kept = Kept::default();
        let prelude = read(&sample.0[..], &mut kept).unwrap_or_else(|error| panic!("{error:?}"));
        kept.0.resize(prelude.namespaces.len(), Vec::new());
        (prelude.namespaces.iter().map(Namespace::name).collect(), kept.0)
    }

    /// An archive with one collection `d.a`, up to its first block.
    fn begun() -> Sample {
        let mut sample = Sample::new();
        sample.entry("d", "a", "collection").end_block();
        sample
    }

    #[test]
    fn name_spaces_in_turns_are_put_together_again() {
        let (names, contents) = accept(&everything());
        assert_eq!(
            names,
            ["d.series", "d.a", "d.empty", "d.view", "d.$admin.system.users", "oplog"]
        );
        let lengths: Vec<usize> = contents.iter().map(Vec::len).collect();
        let series = document(3, "three").len() + document(4, "").len();
        let a = document(1, "one").len() + document(2, &"2".repeat(70)).len() + series;
        assert_eq!(lengths[..5], [series, a, 0, 0, 0]);
        assert!(lengths[5] > 0);
    }

    #[test]
    fn what_mongorestore_takes_is_taken() {
        let documents = [document(1, "a"), document(2, "b"), document(3, "c")];
        let mut per_document = begun();
        for document in &documents {
            per_document.block("d", "a", std::slice::from_ref(document));
        }
        accept(per_document.end("d", "a", &documents));
        accept(begun().end("d", "a", &[]));

        let largest = document(1, &"x".repeat((16 << 20) - document(1, "").len()));
        assert_eq!(largest.len(), 16 << 20);
        let largest = [largest];
        accept(begun().block("d", "a", &largest).end("d", "a", &largest));

        let mut unknown = Sample(super::MAGIC.to_vec());
        unknown
            .put(&rawdoc! { "version": "0.1", "server_version": "8.0.4", "tool_version": "", "new": 1 })
            .put(&rawdoc! { "db": "d", "collection": "a", "metadata": "", "size": 0, "type": "collection", "new": 1 })
            .end_block();
        accept(unknown.end("d", "a", &[]));
    }

    #[test]
    fn the_metadata_of_older_releases_is_completed() {
        let mut old = Sample::new();
        let metadata =
            r#"{"options":{},"indexes":[{"v":2,"key":{"z":1,"a":-1},"name":"za"}],"uuid":"00"}"#;
        old.put(&rawdoc! { "db": "d", "collection": "a", "metadata": metadata, "size": 0 })
            .end_block()
            .end("d", "a", &[]);
        let prelude = read(&old.0[..], &mut Kept::default()).unwrap();
        let described = prelude.namespaces[0].described.as_ref().unwrap();
        assert_eq!(described.spec.kind, CollectionKind::Collection);
        let key = described.spec.indexes[0].get_document("key").unwrap();
        assert_eq!(key.keys().collect::<Vec<_>>(), ["z", "a"]);
        assert!(
            described.json.contains(r#""collectionName":"a","type":"collection""#),
            "{}",
            described.json
        );
    }

    #[test]
    fn what_mongorestore_refuses_is_refused_with_the_place() {
        let documents = [document(1, "a")];
        let whole = || begun().block("d", "a", &documents).end("d", "a", &documents).clone();
        accept(&whole());
        let length = whole().0.len();
        let after = |bytes: &[u8]| Sample([&whole().0[..], bytes].concat());
        let changed = |at: usize| {
            let mut sample = whole();
            sample.0[at] ^= 1;
            sample
        };
        let mut extra_field = begun();
        extra_field
            .put(&rawdoc! { "db": "d", "collection": "a", "EOF": false, "CRC": 0_i64, "x": 1 })
            .end_block();
        let mut late_document = begun();
        late_document.end("d", "a", &[]);
        late_document.0.truncate(late_document.0.len() - 4);
        late_document.0.extend_from_slice(&documents[0]);
        late_document.end_block();
        let too_large = [document(1, &"x".repeat((16 << 20) + 1 - document(1, "").len()))];
        let begins = begun().0.len();
        for (sample, why) in [
            (Sample(Vec::new()), "too short".to_owned()),
            (changed(0), "does not begin like a mongodump archive".to_owned()),
            (
                Sample(whole().0[..40].to_vec()),
                "at byte 4 of the uncompressed archive: it ends inside a document".to_owned(),
            ),
            (
                extra_field,
                format!(
                    "at byte {begins} of the uncompressed archive: the header of a block: it has an unknown field `x`"
                ),
            ),
            (
                begun().block("d", "b", &[]).clone(),
                "d.b, which the prelude does not list".to_owned(),
            ),
            (
                whole().block("d", "a", &[]).clone(),
                format!(
                    "at byte {length} of the uncompressed archive, in d.a: a block comes after"
                ),
            ),
            (late_document, "a document comes after the end of its namespace".to_owned()),
            (
                begun().block("d", "a", &documents).clone(),
                "in d.a: the archive ends before this namespace does; 0 of its 1".to_owned(),
            ),
            (begun(), "the archive ends before this namespace does".to_owned()),
            (
                Sample(whole().0[..length - 1].to_vec()),
                "it ends inside the length of a document".to_owned(),
            ),
            (after(&[0]), "it ends inside the length".to_owned()),
            (
                after(&[0; 512]),
                format!(
                    "at byte {length} of the uncompressed archive: 0 is neither the length of a document"
                ),
            ),
            (after(&super::super::format::TERMINATOR), "a block has no header".to_owned()),
            (
                begun().block("d", "a", &too_large).clone(),
                "16777217 is neither the length of a document".to_owned(),
            ),
            (
                begun().block("d", "a", &documents).end("d", "a", &[]).clone(),
                "instead of 0000000000000000".to_owned(),
            ),
            (Sample::new().end_block().clone(), "it lists no collection".to_owned()),
            (
                Sample::new()
                    .entry("d", "a", "collection")
                    .entry("d", "a", "view")
                    .end_block()
                    .clone(),
                "d.a is listed twice".to_owned(),
            ),
            (
                Sample::new().entry("", "a", "collection").end_block().clone(),
                "belongs to no database".to_owned(),
            ),
            (
                Sample::new().entry("d", "a", "odd").end_block().clone(),
                "unknown type `odd`".to_owned(),
            ),
        ] {
            let refusal = refusal(&sample);
            assert!(refusal.contains(&why), "{why:?} is not in {refusal:?}");
        }
        let mut view = Sample::new();
        view.entry("d", "v", "view").end_block().block("d", "v", &documents);
        assert!(refusal(&view).contains("a view has documents"));
    }

    #[test]
    fn a_break_says_what_can_be_read() {
        let documents = [document(1, "a"), document(2, "b"), document(3, "c")];
        let mut sample = Sample::new();
        sample
            .entry("d", "a", "collection")
            .entry("d", "b", "collection")
            .entry("d", "c", "collection")
            .end_block();
        sample.block("d", "a", &documents).end("d", "a", &documents).block("d", "b", &documents);
        let cut = Sample(sample.0[..sample.0.len() - 10].to_vec());
        let refusal_of_cut = refusal(&cut);
        assert!(
            refusal_of_cut
                .contains("1 of its 3 namespaces are intact, and 2 documents of d.b can be read"),
            "{refusal_of_cut}"
        );

        // After a wrong checksum the blocks are still well-formed, so the other namespaces are checked.
        sample.end("d", "b", &documents[..2]).block("d", "c", &documents).end("d", "c", &documents);
        let refusal = refusal(&sample);
        assert!(refusal.contains("in d.b: its documents have the CRC"), "{refusal}");
        assert!(refusal.contains("2 of its 3 namespaces are intact"), "{refusal}");
    }
}
