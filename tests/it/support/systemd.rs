//! The systemd that `dev/up` boots, in which the jobs of `schedule install` really run.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use super::{
    program::{Outcome, kaleem_dr, run},
    servers,
};

/// Our units have the same names in every test.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The booted system, for one test at a time.
pub struct Systemd {
    /// A directory with the same path there and here.
    pub share: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

impl Systemd {
    /// The system, without the units of an earlier test; `None` where it cannot be booted.
    pub fn booted() -> Option<Self> {
        let share = servers::systemd_share()?;
        // A test that failed has already been reported.
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let system = Self { share, _turn: turn };
        system.succeed("rm -rf /etc/systemd/system/kaleem-dr-* /etc/systemd/system/*/kaleem-dr-*; systemctl daemon-reload");
        Some(system)
    }

    /// A copy of the program in the shared directory, made once in each run of the tests: an earlier run may have left another.
    pub fn program(&self) -> PathBuf {
        static MADE: OnceLock<()> = OnceLock::new();
        let program = self.share.join("kaleem-dr");
        MADE.get_or_init(|| {
            let part = self.share.join("kaleem-dr.part");
            fs::copy(kaleem_dr().get_program(), &part).expect("the program can be copied");
            fs::rename(&part, &program).expect("the copy can be renamed");
        });
        program
    }

    /// Runs a shell command as root in the system.
    pub fn run(&self, command: &str) -> Outcome {
        let state = self.share.ancestors().nth(3).expect("it is <state>/run/systemd/share");
        run(Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("dev/systemd"))
            .args(["run", "/bin/sh", "-c", command])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("KALEEM_DEV_STATE", state)
            .stdin(Stdio::null()))
    }

    /// Runs a shell command that must succeed; returns its standard output.
    #[track_caller]
    pub fn succeed(&self, command: &str) -> String {
        let outcome = self.run(command);
        assert_eq!(outcome.code, Some(0), "{command}\n{}{}", outcome.stdout, outcome.stderr);
        outcome.stdout
    }

    /// Starts a service and waits for its end. Returns its result (`success`, `exit-code`, …), and what its run wrote to the journal.
    pub fn start(&self, service: &str) -> (String, String) {
        self.run(&format!("systemctl reset-failed; systemctl start {service}"));
        self.ended(service)
    }

    /// The result of the newest run of a service, and what it wrote to the journal.
    pub fn ended(&self, service: &str) -> (String, String) {
        let show = |property: &str| {
            self.succeed(&format!("systemctl show --value -p {property} '{service}'"))
                .trim()
                .to_owned()
        };
        let invocation = show("InvocationID");
        self.succeed("journalctl --sync");
        let journal = self.succeed(&format!(
            "journalctl --no-pager -o cat _SYSTEMD_INVOCATION_ID={invocation} + INVOCATION_ID={invocation}"
        ));
        (show("Result"), journal)
    }
}
