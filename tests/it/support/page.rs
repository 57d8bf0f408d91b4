//! The page of `kaleem-dr serve`, run as an operator runs it, and requests to it.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reqwest::{Client, Method, StatusCode, header::HeaderMap, redirect};
use serde_json::Value;

use super::{program::start, site::Site};

const PATIENCE: Duration = Duration::from_mins(1);

/// A page that is served. It ends when this value is dropped.
pub struct Page {
    child: Child,
    /// Address, with a slash at its end; of a socket, its path.
    pub place: String,
    /// The token that it printed.
    pub token: Option<String>,
}

/// An answer of the page.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    /// The value of a header; empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("not JSON: {error}: {}", self.text))
    }

    #[track_caller]
    pub fn when_ok(self) -> Self {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        self
    }
}

impl Page {
    /// The page of a site on a free port of 127.0.0.1.
    pub fn of(site: &Site) -> Self {
        Self::with(site, &["--listen", "127.0.0.1:0"])
    }

    /// The page of a site with these arguments, once it can be reached.
    pub fn with(site: &Site, args: &[&str]) -> Self {
        Self::run(site.command(), args)
    }

    /// The page that a command serves with these arguments.
    pub fn run(mut command: Command, args: &[&str]) -> Self {
        let mut child = start(command.args(["serve", "--json"]).args(args));
        let (sender, first) = mpsc::channel();
        let mut lines = BufReader::new(child.stdout.take().expect("it is a pipe")).lines();
        thread::spawn(move || sender.send(lines.next()));
        let line = first.recv_timeout(PATIENCE).expect("it prints its address").transpose();
        let Some(line) = line.expect("its output is text") else {
            let mut said = String::new();
            let stderr = child.stderr.as_mut().expect("it is a pipe");
            stderr.read_to_string(&mut said).expect("its log is text");
            panic!("it ended: {said}");
        };
        // A full pipe would stop it.
        let mut log = child.stderr.take().expect("it is a pipe");
        thread::spawn(move || std::io::copy(&mut log, &mut std::io::stderr()));
        let said: Value = serde_json::from_str(&line).expect("a document");
        Self {
            child,
            place: said["place"].as_str().expect("a place").to_owned(),
            token: said["token"].as_str().map(str::to_owned),
        }
    }

    /// A request with the token that was printed.
    pub async fn get(&self, path: &str) -> Answer {
        let token = self.token.as_deref().expect("it printed a token");
        self.ask(Method::GET, path, &[("authorization", &format!("Bearer {token}"))]).await
    }

    /// A request with these headers only. Redirections are not followed.
    pub async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        let client = Client::builder().redirect(redirect::Policy::none()).no_proxy();
        let client = client.build().expect("a client can be made");
        let url = format!("{}{}", self.place, path.trim_start_matches('/'));
        let mut request = client.request(method, url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.expect("it answers");
        Answer {
            status: response.status(),
            headers: response.headers().clone(),
            text: response.text().await.expect("the answer is complete"),
        }
    }

    /// Sends a signal; returns the exit status and the time until the end.
    pub fn end(&mut self, signal: Signal) -> (Option<i32>, Duration) {
        let began = Instant::now();
        kill(Pid::from_raw(self.child.id().try_into().expect("pids are small")), signal)
            .expect("it runs");
        let status = self.child.wait().expect("our child can be waited for");
        (status.code(), began.elapsed())
    }

    /// A request through its socket, with curl's own words: the status and the body.
    pub fn through(socket: &Path, path: &str) -> (u16, String) {
        use std::{io::Write as _, os::unix::net::UnixStream};
        let mut stream = UnixStream::connect(socket).expect("the socket can be opened");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: any.name\r\nConnection: close\r\n\r\n")
            .expect("it can be written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the answer is text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.expect("a status"), body.to_owned())
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
