//! Stands between a program and a MongoDB server, and does to single commands what networks and busy servers do.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
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
}

impl MongoProxy {
    /// Listens before the server of an address such as `mongodb://127.0.0.1:27017/`.
    pub fn before(uri: &str, judge: impl Fn(&Document) -> Fate + Send + Sync + 'static) -> Self {
        let server = uri.trim_start_matches("mongodb://").split('/').next().unwrap_or_default();
        let server = server.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it has an address").port();
        let judge: Arc<Judge> = Arc::new(judge);
        let uuids = Arc::new(Uuids::default());
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let Ok(server) = TcpStream::connect(&server) else { continue };
                let (judge, uuids) = (judge.clone(), uuids.clone());
                thread::spawn(move || drop(serve(&client, &server, &*judge, uuids)));
            }
        });
        Self { port }
    }

    /// Its own address. The server names another one for itself, so it is asked directly.
    pub fn uri(&self) -> String {
        format!("mongodb://127.0.0.1:{}/?directConnection=true", self.port)
    }
}

/// A rename preserves the UUID of a collection, but the test server gives it another one. So listings show collections that the
/// tests' writer renamed from `madeN` to `keptN` with the UUID that they had before.
#[derive(Default)]
struct Uuids(Mutex<BTreeMap<String, Bson>>);

impl Uuids {
    fn preserved(&self, message: Vec<u8>) -> Vec<u8> {
        let Some(mut reply) = command(&message) else { return message };
        let Ok(cursor) = reply.get_document_mut("cursor") else { return message };
        if !cursor.get_str("ns").is_ok_and(|name| name.ends_with("$cmd.listCollections")) {
            return message;
        }
        let mut known = self.0.lock().expect("no other thread failed");
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

fn serve(
    mut client: &TcpStream,
    mut server: &TcpStream,
    judge: &Judge,
    uuids: Arc<Uuids>,
) -> std::io::Result<()> {
    let answers = Arc::new(Mutex::new(client.try_clone()?));
    let (mut from, to) = (server.try_clone()?, answers.clone());
    let end = client.try_clone()?;
    thread::spawn(move || {
        while let Ok(message) = message(&mut from) {
            let message = uuids.preserved(message);
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
        match command(&message).map_or(Fate::Passes, |command| judge(&command)) {
            Fate::Passes => server.write_all(&message)?,
            Fate::Waits(time) => {
                thread::sleep(time);
                server.write_all(&message)?;
            }
            Fate::Is(answer) => {
                let answer = reply(&message, &answer);
                answers.lock().expect("no other thread failed").write_all(&answer)?;
            }
            Fate::Cut => break Ok(()),
        }
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
