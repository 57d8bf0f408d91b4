//! Stands between a program and a MongoDB server, and does to single commands what networks and busy servers do.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

use mongodb::bson::{Bson, Document, deserialize_from_slice, doc, serialize_to_vec};

/// What becomes of a command.
pub enum Fate {
    /// The server answers it.
    Passes,
    /// The server answers it, but later.
    Waits(Duration),
    /// This is the answer.
    Is(Document),
    /// The connection is cut before the server hears of it.
    Cut,
}

impl Fate {
    /// The answer to a command that fails with a code.
    pub fn fails(code: i32, name: &str) -> Self {
        let why = format!("the proxy says {name}");
        Self::Is(doc! { "ok": 0.0, "code": code, "codeName": name, "errmsg": why })
    }
}

type Judge = dyn Fn(&Document) -> Fate + Send + Sync;

/// A proxy on a port of its own. It ends with the tests.
pub struct MongoProxy {
    port: u16,
    server: String,
    renames: Arc<Renames>,
}

impl MongoProxy {
    /// Listens before the server of an address such as `mongodb://127.0.0.1:27017/`.
    pub fn before(uri: &str, judge: impl Fn(&Document) -> Fate + Send + Sync + 'static) -> Self {
        let server = uri.trim_start_matches("mongodb://").split('/').next().unwrap_or_default();
        Self::listening(server.to_owned(), Arc::default(), Arc::new(judge))
    }

    /// Another proxy, which passes everything on. Writers that rename collections go through it; see [`Renames`].
    pub fn for_writers(&self) -> Self {
        Self::listening(self.server.clone(), self.renames.clone(), Arc::new(|_: &_| Fate::Passes))
    }

    fn listening(server: String, renames: Arc<Renames>, judge: Arc<Judge>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it has an address").port();
        let proxy = Self { port, server: server.clone(), renames: renames.clone() };
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let Ok(server) = TcpStream::connect(&server) else { continue };
                let (judge, turns) = (judge.clone(), Arc::new(Turns::of(&renames)));
                thread::spawn(move || drop(serve(&client, &server, &*judge, &turns)));
            }
        });
        proxy
    }

    /// Its own address. The server names another one for itself, so it is asked directly.
    pub fn uri(&self) -> String {
        format!("mongodb://127.0.0.1:{}/?directConnection=true", self.port)
    }
}

/// A real server renames at once, and preserves the UUID. The test server copies and drops, and gives another UUID. So renames and
/// reads take turns, and listings show collections that the tests' writer renamed from `madeN` to `keptN` with their first UUID.
#[derive(Default)]
struct Renames {
    uuids: Mutex<BTreeMap<String, Bson>>,
    /// The number of reads under way, or -1 while a collection is renamed; and the number of renames that wait, before which no
    /// other read begins.
    under_way: Mutex<(i64, u32)>,
    changed: Condvar,
}

impl Renames {
    fn begin(&self, turn: Turn) {
        let mut under_way = self.under_way.lock().expect("no other thread failed");
        under_way.1 += u32::from(turn == Turn::Rename);
        loop {
            match (turn, *under_way) {
                (Turn::Read, (0.., 0)) => break under_way.0 += 1,
                (Turn::Rename, (0, _)) => {
                    under_way.0 = -1;
                    break under_way.1 -= 1;
                }
                _ => under_way = self.changed.wait(under_way).expect("no other thread failed"),
            }
        }
    }

    fn end(&self, turn: Turn) {
        let mut under_way = self.under_way.lock().expect("no other thread failed");
        under_way.0 += if turn == Turn::Read { -1 } else { 1 };
        self.changed.notify_all();
    }

    fn with_first_uuids(&self, message: Vec<u8>) -> Vec<u8> {
        let Some(mut reply) = command(&message) else { return message };
        let Ok(cursor) = reply.get_document_mut("cursor") else { return message };
        if !cursor.get_str("ns").is_ok_and(|name| name.ends_with("$cmd.listCollections")) {
            return message;
        }
        let mut known = self.uuids.lock().expect("no other thread failed");
        for listed in cursor.get_array_mut("firstBatch").into_iter().flatten() {
            let Some(listed) = listed.as_document_mut() else { continue };
            let name = listed.get_str("name").unwrap_or_default().to_owned();
            let Ok(info) = listed.get_document_mut("info") else { continue };
            let before = name.strip_prefix("kept").and_then(|n| known.get(&format!("made{n}")));
            if let Some(uuid) = before {
                info.insert("uuid", uuid.clone());
            } else if let Some(uuid) = info.get("uuid") {
                known.insert(name, uuid.clone());
            }
        }
        encoded(&message[4..12], &reply)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Turn {
    Read,
    Rename,
}

/// The turns that the requests of one connection have, by the ids of the requests. They end with their replies, or with it.
struct Turns {
    renames: Arc<Renames>,
    begun: Mutex<BTreeMap<[u8; 4], Turn>>,
}

impl Turns {
    fn of(renames: &Arc<Renames>) -> Self {
        Self { renames: renames.clone(), begun: Mutex::default() }
    }

    fn begin(&self, message: &[u8], command: Option<&Document>) {
        const READS: [&str; 6] =
            ["find", "getMore", "aggregate", "listCollections", "listIndexes", "collStats"];
        let turn = match command.and_then(|command| command.keys().next()) {
            Some(name) if name == "renameCollection" => Turn::Rename,
            Some(name) if READS.contains(&name.as_str()) => Turn::Read,
            _ => return,
        };
        self.renames.begin(turn);
        let id = message[4..8].try_into().expect("four bytes");
        self.begun.lock().expect("no other thread failed").insert(id, turn);
    }

    fn end(&self, reply: &[u8]) {
        let id: [u8; 4] = reply[8..12].try_into().expect("four bytes");
        if let Some(turn) = self.begun.lock().expect("no other thread failed").remove(&id) {
            self.renames.end(turn);
        }
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        for (_, turn) in std::mem::take(&mut *self.begun.lock().expect("no other thread failed")) {
            self.renames.end(turn);
        }
    }
}

fn serve(
    mut client: &TcpStream,
    mut server: &TcpStream,
    judge: &Judge,
    turns: &Arc<Turns>,
) -> std::io::Result<()> {
    let answers = Arc::new(Mutex::new(client.try_clone()?));
    let (mut from, to) = (server.try_clone()?, answers.clone());
    let end = client.try_clone()?;
    let replied = turns.clone();
    thread::spawn(move || {
        while let Ok(message) = message(&mut from) {
            let message = replied.renames.with_first_uuids(message);
            replied.end(&message);
            let mut to = to.lock().expect("no other thread failed");
            if to.write_all(&message).is_err() {
                break;
            }
        }
        drop(end.shutdown(Shutdown::Both));
    });
    let result = loop {
        let message = match message(&mut client) {
            Ok(message) => message,
            Err(error) => break Err(error),
        };
        let command = command(&message);
        match command.as_ref().map_or(Fate::Passes, judge) {
            Fate::Passes => {}
            Fate::Waits(time) => thread::sleep(time),
            Fate::Is(answer) => {
                let answer = reply(&message, &answer);
                answers.lock().expect("no other thread failed").write_all(&answer)?;
                continue;
            }
            Fate::Cut => break Ok(()),
        }
        turns.begin(&message, command.as_ref());
        server.write_all(&message)?;
    };
    drop(client.shutdown(Shutdown::Both));
    drop(server.shutdown(Shutdown::Both));
    result
}

/// One message of the wire protocol, with its length in front.
fn message(stream: &mut impl std::io::Read) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut message = length.to_vec();
    let rest = u64::from(u32::from_le_bytes(length)).saturating_sub(4);
    stream.by_ref().take(rest).read_to_end(&mut message)?;
    if message.len() as u64 == rest + 4 {
        Ok(message)
    } else {
        Err(std::io::ErrorKind::UnexpectedEof.into())
    }
}

/// The command of an `OP_MSG`: flags, then a section of kind 0, which is the document.
fn command(message: &[u8]) -> Option<Document> {
    const OP_MSG: [u8; 4] = 2013_i32.to_le_bytes();
    if message.get(12..16) != Some(&OP_MSG) || message.get(20) != Some(&0) {
        return None;
    }
    let body = message.get(21..)?;
    let length = u32::from_le_bytes(body.get(..4)?.try_into().ok()?) as usize;
    deserialize_from_slice(body.get(..length)?).ok()
}

fn reply(to: &[u8], answer: &Document) -> Vec<u8> {
    encoded(&[&to[4..8], &to[4..8]].concat(), answer)
}

/// A message with these two ids, its own and that of the request.
fn encoded(ids: &[u8], answer: &Document) -> Vec<u8> {
    let body = serialize_to_vec(answer).expect("it is BSON");
    let length = i32::try_from(21 + body.len()).expect("it is short");
    let mut message = length.to_le_bytes().to_vec();
    message.extend_from_slice(ids);
    message.extend_from_slice(&2013_i32.to_le_bytes());
    message.extend_from_slice(&[0; 5]);
    message.extend_from_slice(&body);
    message
}
