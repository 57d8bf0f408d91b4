//! A proxy in front of the engine that passes on only `GET` requests, and keeps a list of all requests.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
};

/// The proxy. Its threads end with the process.
pub struct ReadOnlyProxy {
    seen: Arc<Mutex<Vec<String>>>,
}

impl ReadOnlyProxy {
    /// Listens on a new socket.
    pub fn start(socket: &Path, engine: PathBuf) -> Self {
        let listener = UnixListener::bind(socket).expect("a socket can be made");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let all = seen.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (engine, seen) = (engine.clone(), all.clone());
                // A connection that breaks ends itself.
                thread::spawn(move || drop(pass_on(&client, &engine, &seen)));
            }
        });
        Self { seen }
    }

    /// The first line of each request.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("no thread panics with it").clone()
    }
}

fn pass_on(client: &UnixStream, engine: &Path, seen: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut requests = BufReader::new(client.try_clone()?);
    let mut server = UnixStream::connect(engine)?;
    let (mut replies, mut answered) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || drop(io::copy(&mut replies, &mut answered)));
    loop {
        // A GET has no body.
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if requests.read_line(&mut head)? == 0 {
                return server.shutdown(Shutdown::Both);
            }
        }
        let line = head.lines().next().unwrap_or_default().to_owned();
        let is_read = line.starts_with("GET ");
        seen.lock().expect("no thread panics with it").push(line);
        if !is_read {
            (&mut &*client).write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")?;
            return server.shutdown(Shutdown::Both);
        }
        server.write_all(head.as_bytes())?;
    }
}
