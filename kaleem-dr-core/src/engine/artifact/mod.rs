//! The pipe between an async source and the blocking archiver.
//!
//! A source opens artifacts in path order and may then write several at once. Each has a bounded channel: a source that is faster
//! than the repository waits, so memory is limited to channel depth times piece size, however large the data are. Bytes are
//! counted and hashed on the way. The archiver of `rustic_core` logs a reader's error and saves the snapshot all the same, so
//! every reader here records its own end in the capture's state, which the commit gate evaluates.

mod capture;
mod drain;
mod entry;
mod state;

pub(crate) use self::state::{CaptureOutcome, CaptureState};
pub use self::{
    capture::{ArtifactWriter, Capture},
    drain::{Drained, drain},
    entry::{Entry, EntryKind, EntryMeta, OpenFile, StreamReader},
};

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use std::{
        io,
        path::{Path, PathBuf},
        sync::Arc,
    };

    use bytes::Bytes;
    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    use super::{capture::PIECE_BYTES, *};
    use crate::ground::{ArtifactPath, digest::ByteDigest};

    fn begin() -> (Capture, mpsc::Receiver<Vec<Entry>>, Arc<CaptureState>) {
        Capture::begin(Arc::default(), CancellationToken::new())
    }

    fn path(name: &str) -> ArtifactPath {
        ArtifactPath::join(["t", name]).unwrap()
    }

    /// Reads every stream to its end on a thread of its own, as the archiver does.
    fn read_all(
        mut entries: mpsc::Receiver<Vec<Entry>>,
    ) -> std::thread::JoinHandle<Vec<(PathBuf, io::Result<Vec<u8>>)>> {
        std::thread::spawn(move || {
            let mut seen = Vec::new();
            while let Some(entry) = entries.blocking_recv().and_then(|mut one| one.pop()) {
                if let EntryKind::Stream(mut reader) = entry.kind {
                    let mut bytes = Vec::new();
                    seen.push((entry.path, reader.read_to_end(&mut bytes).map(|_| bytes)));
                }
            }
            seen
        })
    }

    #[tokio::test]
    async fn what_goes_in_comes_out_and_is_recorded() {
        let (mut capture, entries, state) = begin();
        let reader = read_all(entries);
        let body = Bytes::from(vec![7; 3 * PIECE_BYTES + 11]);
        capture.whole(path("a"), body.clone(), Some(3)).await.unwrap();
        capture.whole(path("b"), Bytes::new(), None).await.unwrap();
        drop(capture);
        let seen = reader.join().unwrap();
        assert_eq!(seen[0].1.as_ref().unwrap(), &body);
        assert!(seen[1].1.as_ref().unwrap().is_empty());
        let outcome = state.conclude().unwrap();
        assert_eq!(outcome.artifacts[0].sha256, ByteDigest::of(&body));
        assert_eq!(outcome.artifacts[0].items, Some(3));
        assert_eq!(outcome.sizes[Path::new("/t/a")], body.len() as u64);
        assert_eq!(outcome.tree.directories, 1, "the parent directory is made up once");
    }

    #[tokio::test]
    async fn a_dropped_writer_spoils_the_capture_and_breaks_the_stream() {
        let (mut capture, entries, state) = begin();
        let reader = read_all(entries);
        let mut writer = capture.artifact(path("a")).await.unwrap();
        writer.write(Bytes::from_static(b"half")).await.unwrap();
        drop(writer);
        drop(capture);
        assert!(reader.join().unwrap()[0].1.is_err());
        assert!(state.conclude().unwrap_err().contains("/t/a"));
    }

    #[tokio::test]
    async fn a_stream_nobody_read_to_its_end_is_not_committed() {
        let (mut capture, mut entries, state) = begin();
        capture.whole(path("a"), Bytes::from_static(b"abc"), None).await.unwrap();
        drop(capture);
        while entries.recv().await.is_some() {}
        assert!(state.conclude().unwrap_err().contains("did not read it to its end"));
    }

    #[tokio::test]
    async fn a_cancelled_capture_stops_in_the_middle_of_a_file() {
        let stop = CancellationToken::new();
        let (_capture, _entries, state) = Capture::begin(Arc::default(), stop.clone());
        let endless = EntryKind::File(Box::new(|| Ok(Box::new(io::repeat(7)))));
        let mut reader = Entry::open(endless, "/a".into(), 0, state.clone()).unwrap();
        assert_eq!(reader.read(&mut [0; 9]).unwrap(), 9);
        stop.cancel();
        assert_eq!(reader.read(&mut [0; 9]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        let another = EntryKind::File(Box::new(|| panic!("it is not even opened")));
        assert!(Entry::open(another, "/b".into(), 0, state.clone()).is_err());
        assert!(state.conclude().unwrap().incomplete.is_empty(), "that is not a fault of the file");
    }

    #[tokio::test]
    async fn paths_must_ascend() {
        let (mut capture, entries, _state) = begin();
        let reader = read_all(entries);
        capture.whole(path("b"), Bytes::new(), None).await.unwrap();
        let error = capture.artifact(path("a")).await.unwrap_err();
        assert!(error.to_string().contains("must ascend"), "{error}");
        drop(capture);
        reader.join().unwrap();
    }
}
