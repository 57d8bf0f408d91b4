//! Processes of the program that are stopped and continued.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use nix::unistd::Pid;

/// Waits until a child has stopped itself.
pub fn await_stopped(pid: Pid) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while state(pid) != Some('T') {
        assert!(
            state(pid).is_some_and(|state| state != 'Z'),
            "the program ended before it came to the step"
        );
        assert!(Instant::now() < deadline, "the program did not come to the step");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The state letter in `/proc/PID/stat` (proc(5)).
fn state(pid: Pid) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}
