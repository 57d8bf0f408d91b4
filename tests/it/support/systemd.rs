//! The systemd that `dev/up` boots, in which the jobs of `schedule install` really run.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{
    program::{Outcome, kaleem_dr, run},
    servers::{self, script},
};

/// Our units have the same names in every test.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A booted system.
pub struct Systemd {
    /// A directory with the same path there and here.
    pub share: PathBuf,
    use_of: Use,
}

/// The use of a booted system.
enum Use {
    /// The shared one, for one test at a time.
    Turn { _turn: MutexGuard<'static, ()> },
    /// One that belongs to one test. It is stopped, and its disk is removed, when this value is dropped.
    Own { state: TempDir },
}

impl Systemd {
    /// The system, without the units of an earlier test; `None` where it cannot be booted.
    pub fn booted() -> Option<Self> {
        let share = servers::systemd_share()?;
        // A test that failed has already been reported.
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let system = Self { share, use_of: Use::Turn { _turn: turn } };
        system.succeed("rm -rf /etc/systemd/system/kaleem-dr-* /etc/systemd/system/*/kaleem-dr-*; systemctl daemon-reload");
        Some(system)
    }

    /// A machine for one test, as Debian's installer leaves it, with this host name; `None` where none can be booted.
    pub fn machine(host: &str) -> Option<Self> {
        let shared = servers::systemd_share()?;
        // Next to the shared one, because its disk can hold the changes of a booted system.
        let state =
            tempfile::tempdir_in(state_of(&shared)).expect("a temporary directory can be made");
        let output = script("dev/up", &state)
            .env_remove("KALEEM_TEST_SYSTEMD")
            .env("KALEEM_DEV_HOST_NAME", host)
            .output()
            .expect("dev/up can be run");
        assert!(output.status.success(), "dev/up: {}", String::from_utf8_lossy(&output.stderr));
        let share = state.path().join("run/systemd/share");
        Some(Self { share, use_of: Use::Own { state } })
    }

    /// The path here of a path there.
    pub fn at(&self, path: &str) -> PathBuf {
        let root = state_of(&self.share).join("run/systemd.pid");
        let text = fs::read_to_string(root).expect("its pid file");
        let maker = text.split_whitespace().next().expect("a pid");
        // The booted systemd is its only child, and has the mounts.
        let children =
            fs::read_to_string(format!("/proc/{maker}/task/{maker}/children")).expect("it runs");
        Path::new("/proc").join(children.trim()).join("root").join(path.trim_start_matches('/'))
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
        run(Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("dev/systemd"))
            .args(["run", "/bin/sh", "-c", command])
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("KALEEM_DEV_STATE", state_of(&self.share))
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

    /// Lets the timer of a job elapse now instead of tonight, and waits until the job that it starts has ended.
    pub fn await_timer(&self, job: &str) -> (String, String) {
        let drop_in = format!("/run/systemd/system/kaleem-dr-{job}.timer.d");
        self.succeed(&format!(
            "mkdir -p {drop_in}; printf '[Timer]\\nOnActiveSec=1s\\nRandomizedDelaySec=0\\nAccuracySec=1s\\n' >{drop_in}/now.conf
             systemctl daemon-reload; systemctl restart kaleem-dr-{job}.timer"
        ));
        let service = format!("kaleem-dr-{job}.service");
        let deadline = Instant::now() + Duration::from_mins(2);
        loop {
            let shown = self.succeed(&format!(
                "systemctl show -p ActiveState -p InvocationID -p TriggeredBy {service}"
            ));
            let has_run = !shown.contains("InvocationID=\n");
            if has_run && (shown.contains("=inactive") || shown.contains("=failed")) {
                self.succeed(&format!("rm -r {drop_in}; systemctl daemon-reload"));
                return self.ended(&service);
            }
            assert!(Instant::now() < deadline, "the timer of {job} elapses: {shown}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        if let Use::Own { state } = &self.use_of {
            // A drop cannot report a failure; the leftovers are in a temporary directory.
            let _ = script("dev/down", state).status();
        }
    }
}

/// The directory of the set of servers that a shared directory belongs to.
fn state_of(share: &Path) -> &Path {
    share.ancestors().nth(3).expect("it is <state>/run/systemd/share")
}
