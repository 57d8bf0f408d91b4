//! The last lines of the log, in memory, for notifications about the end of a job.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, PoisonError},
};

/// Maximum size in bytes: that of the largest body that is sent.
const KEPT_BYTES: usize = 128 << 10;

/// The end of the log. Clones share it; the program's logging writes to one.
#[derive(Clone, Debug, Default)]
pub struct LogTail(Arc<Mutex<VecDeque<u8>>>);

impl LogTail {
    /// The end of the log as text.
    #[must_use]
    pub fn text(&self) -> String {
        let kept: Vec<u8> =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        String::from_utf8_lossy(&kept).into_owned()
    }
}

impl io::Write for LogTail {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(bytes);
        let surplus = kept.len().saturating_sub(KEPT_BYTES);
        kept.drain(..surplus);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The end of a text that fits, starting at the beginning of a line if possible.
pub(crate) fn end_of(text: &str, limit_bytes: usize) -> &str {
    if text.len() <= limit_bytes {
        return text;
    }
    let mut from = text.len() - limit_bytes;
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let end = &text[from..];
    match end.find('\n') {
        Some(line) if line + 1 < end.len() => &end[line + 1..],
        _ => end,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn only_the_end_is_kept_and_it_begins_with_a_line() {
        let mut tail = LogTail::default();
        for number in 0..40_000 {
            writeln!(tail, "line {number}").unwrap();
        }
        let text = tail.text();
        assert!(text.len() <= KEPT_BYTES && text.ends_with("line 39999\n"));
        assert_eq!(end_of("one\ntwo\nthree\n", 11), "two\nthree\n");
        assert_eq!(end_of("one\ntwo\nthree\n", 8), "three\n");
        assert_eq!(end_of("صباح", 3), "ح", "no letter is cut");
        assert_eq!(end_of("abc", 3), "abc");
    }
}
