//! Runs programs, and keeps their output.

use std::{
    env,
    path::PathBuf,
    process::{Command, Stdio},
};

/// The exit code and output of a program.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    pub fn is_done(&self) -> bool {
        self.code == Some(0)
    }

    /// The complete output, for a report.
    pub fn said(&self) -> String {
        format!("{:?}: {} {}", self.code, self.stdout.trim(), self.stderr.trim())
    }
}

pub fn run(command: &mut Command) -> Ended {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The built program: `<target>/<profile>/kaleem-dr`, where this test is in
/// `<target>/<profile>/deps`.
pub fn kaleem_dr() -> PathBuf {
    let test = env::current_exe().expect("a running test knows its own path");
    let program =
        test.ancestors().nth(2).expect("a test is in <target>/<profile>/deps").join("kaleem-dr");
    assert!(
        program.exists(),
        "{} is not built: `cargo build --workspace --bins`",
        program.display()
    );
    program
}
