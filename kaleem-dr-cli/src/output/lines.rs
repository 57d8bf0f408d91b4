//! Many lines on standard output, of any bytes.

use std::{
    fmt::Write as _,
    io::{self, BufWriter, IsTerminal as _, Stdout, Write as _},
    ops::ControlFlow,
};

use serde::Serialize;

use super::stdout::Printed;

/// Buffered lines. Names are printed as they are, but on a terminal without the characters that would control it.
pub struct Lines {
    out: BufWriter<Stdout>,
    is_terminal: bool,
    failed: Option<io::Error>,
}

impl Lines {
    pub fn begin() -> Self {
        let out = io::stdout();
        let is_terminal = out.is_terminal();
        Self { out: BufWriter::new(out), is_terminal, failed: None }
    }

    /// Prints a line; breaks once nothing more can be printed.
    pub fn line(&mut self, line: &[u8]) -> ControlFlow<()> {
        let written = if self.is_terminal {
            writeln!(self.out, "{}", harmless(line))
        } else {
            self.out.write_all(line).and_then(|()| self.out.write_all(b"\n"))
        };
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failed = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    /// Prints a line of JSON.
    pub fn document(&mut self, value: &impl Serialize) -> ControlFlow<()> {
        match serde_json::to_vec(value) {
            Ok(json) => self.line(&json),
            Err(error) => {
                self.failed = Some(error.into());
                ControlFlow::Break(())
            }
        }
    }

    /// Prints what is buffered. A reader that has seen enough is not a failure.
    pub fn finish(mut self) -> Printed {
        let flushed = self.out.flush();
        match self.failed.map_or(flushed, Err) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            done => Ok(done?),
        }
    }
}

/// Text without control characters and without those that change the direction of writing.
fn harmless(line: &[u8]) -> String {
    let mut text = String::with_capacity(line.len());
    for chunk in line.utf8_chunks() {
        for character in chunk.valid().chars() {
            let is_direction =
                matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if character.is_control() || is_direction {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            // Writing to a string does not fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_controlled_by_names() {
        assert_eq!(harmless(b"caf\xe9 \x1b[2J\n"), "caf\\xe9 \\u{1b}[2J\\n");
        assert_eq!(harmless("ملف \u{202e}.txt".as_bytes()), "ملف \\u{202e}.txt");
    }
}
