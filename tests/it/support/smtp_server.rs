//! A real SMTP server on loopback, for one test: aiosmtpd, run by `smtp_server.py`.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde_json::Value;

use super::servers::variable;

const PATIENCE: Duration = Duration::from_secs(30);

/// A running server. It ends when this value is dropped.
pub struct SmtpServer {
    child: Child,
    pub port: u16,
    messages: mpsc::Receiver<Value>,
}

impl SmtpServer {
    /// A server with this encryption (`tls`, `starttls`, `none`), login (two words, or none), and number of messages to refuse first.
    pub fn start(mode: &str, login: &[&str], refused: usize) -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut child = Command::new(variable("KALEEM_TEST_SMTP_PYTHON"))
            .arg(here.join("tests/it/support/smtp_server.py"))
            .arg(mode)
            .args([fixture("server.pem"), fixture("server.key")])
            .args(login)
            .env("FAILURES", refused.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python can be run");
        let mut lines = BufReader::new(child.stdout.take().expect("it is a pipe")).lines();
        let port = lines.next().expect("it prints its port").expect("UTF-8");
        let (sender, messages) = mpsc::channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let message = serde_json::from_str(&line).expect("a message is a line of JSON");
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        Self { child, port: port.parse().expect("a port"), messages }
    }

    /// The next message that it received.
    #[track_caller]
    pub fn message(&self) -> Value {
        self.messages.recv_timeout(PATIENCE).expect("a message arrives")
    }

    /// Reports whether it has received nothing more.
    pub fn is_quiet(&self) -> bool {
        self.messages.try_recv().is_err()
    }
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The authority that the server's certificate is of.
pub fn authority() -> PathBuf {
    fixture("ca.pem")
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/smtp").join(name)
}
