//! A program on a terminal, with answers to its questions.

use std::{
    io::{Read as _, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

/// Something that a program asks, and the answer.
pub struct Question {
    /// The end of the prompt.
    pub prompt: &'static str,
    pub answer: &'static str,
    /// The program turns the echo off, and discards what was typed before.
    pub is_hidden: bool,
}

impl Question {
    pub fn shown(prompt: &'static str, answer: &'static str) -> Self {
        Self { prompt, answer, is_hidden: false }
    }

    pub fn hidden(prompt: &'static str, answer: &'static str) -> Self {
        Self { prompt, answer, is_hidden: true }
    }
}

/// Runs a shell command on a terminal in this home directory, and answers in this order. Returns its exit code and everything that the
/// terminal showed.
pub fn on_terminal(command: &str, home: &Path, questions: &[Question]) -> (Option<i32>, String) {
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--command", command, "/dev/null"])
        .env("HOME", home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script runs");
    let mut input = child.stdin.take().expect("its input");
    let mut output = child.stdout.take().expect("its output");
    let (mut seen, mut read_to) = (Vec::new(), 0);
    for Question { prompt, answer, is_hidden } in questions {
        let mut byte = [0];
        while !String::from_utf8_lossy(&seen[read_to..]).contains(prompt) {
            let read = output.read(&mut byte).expect("the terminal can be read");
            assert_eq!(read, 1, "{prompt}: it ended: {}", String::from_utf8_lossy(&seen));
            seen.push(byte[0]);
        }
        read_to = seen.len();
        if *is_hidden {
            // Input before the echo is disabled is discarded, and the test cannot observe the terminal's state.
            std::thread::sleep(Duration::from_millis(300));
        }
        writeln!(input, "{answer}").expect("an answer can be typed");
    }
    output.read_to_end(&mut seen).expect("the terminal can be read");
    let code = child.wait().expect("it ends").code();
    (code, String::from_utf8_lossy(&seen).into_owned())
}
