//! The `kaleem-dr` program, built from this tree and run like an operator runs it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
    thread,
    time::Duration,
};

/// The built program, ready for arguments. Built once per test run, so that no test uses a stale
/// one.
pub fn kaleem_dr() -> Command {
    Command::new(built().join("kaleem-dr"))
}

/// An example in `examples/`, built in the same way.
pub fn example(name: &str) -> Command {
    Command::new(built().join("examples").join(name))
}

/// The directory of programs and examples, after building them.
fn built() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(build)
}

/// Builds into the target directory and profile of the running test,
/// `<target>/<profile>/deps/it-…`, and returns the profile's directory.
fn build() -> PathBuf {
    let test = env::current_exe().expect("a running test knows its own path");
    let profile_directory = test.ancestors().nth(2).expect("a test is in <target>/<profile>/deps");
    let target =
        profile_directory.parent().expect("a profile's directory is in the target directory");
    let profile = match profile_directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // The build script of `ring` runs again when one of these changes, and everything that depends
    // on ring is rebuilt.
    for (name, _) in env::vars_os() {
        let of_this_package =
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_", "CARGO_PRIMARY_"];
        if of_this_package.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            cargo.env_remove(name);
        }
    }
    let status = cargo
        .args(["build", "--quiet", "--profile", profile, "--target-dir"])
        .arg(target)
        // The whole workspace, like `make test`: building a part of it would select other features
        // of dependencies, and rebuild them.
        .args(["--workspace", "--bins", "--examples"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo can be run");
    assert!(status.success(), "cargo build ended with {status}");
    profile_directory.to_path_buf()
}

/// The exit code and output of a program.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs a program to its end.
pub fn run(command: &mut Command) -> Outcome {
    command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"))
        .into()
}

/// Starts a program with its output in pipes.
pub fn start(command: &mut Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"))
}

/// Runs a program to its end and measures its peak memory, in bytes.
///
/// The kernel keeps the peak itself; it is polled until the program ends, so only growth in the
/// last millisecond is missed.
pub fn run_measured(command: &mut Command) -> (Outcome, u64) {
    let child = start(command);
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let ended = thread::spawn(move || child.wait_with_output());
    let mut peak_bytes = 0;
    while !ended.is_finished() {
        peak_bytes = peak_bytes.max(peak_rss_bytes(&status).unwrap_or(0));
        thread::sleep(Duration::from_millis(1));
    }
    let output =
        ended.join().expect("waiting does not panic").expect("our child can be waited for");
    (output.into(), peak_bytes)
}

fn peak_rss_bytes(status: &Path) -> Option<u64> {
    let status = fs::read_to_string(status).ok()?;
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?;
    kib.parse::<u64>().ok().map(|kib| kib * 1024)
}
