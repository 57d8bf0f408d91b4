//! A stand-in that speaks just enough of MongoDB's wire protocol to receive commands: for tests of
//! our requests where no test server supports the command. It records every command.

use std::sync::{Arc, Mutex};

use bson::{Document, doc};
use kaleem_dr_core::operate::config::secret::{SecretRef, SecretString};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::connection::Connection;

const OP_REPLY: i32 = 1;
const OP_QUERY: i32 = 2004;
const OP_MSG: i32 = 2013;

/// Replies to a command; `None` for an unknown one.
pub(crate) type Answer = dyn Fn(&Document) -> Option<Document> + Send + Sync;

/// The stand-in, and the commands that it has received.
pub(crate) struct Recorder {
    pub(crate) connection: Arc<Connection>,
    commands: Arc<Mutex<Vec<Document>>>,
}

impl Recorder {
    /// Listens on a free port, as a member of a replica set of version 8.0.
    pub(crate) async fn start(
        answer: impl Fn(&Document) -> Option<Document> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("mongodb://{}/?directConnection=true", listener.local_addr().unwrap());
        let commands = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (commands.clone(), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A connection ends when the driver closes it.
                tokio::spawn(serve(stream, seen.clone(), answer.clone()));
            }
        });
        let connection = Arc::new(
            Connection::new(SecretString::from(uri), &SecretRef::Env("M".into())).unwrap(),
        );
        Self { connection, commands }
    }

    /// The commands with this name, without the fields that every command has.
    pub(crate) fn sent(&self, name: &str) -> Vec<Document> {
        let commands = self.commands.lock().unwrap();
        commands
            .iter()
            .filter(|command| command.keys().next().is_some_and(|first| first == name))
            .map(|command| {
                command.iter().filter(|(key, _)| {
                    !["lsid", "$clusterTime", "$readPreference"].contains(&key.as_str())
                })
            })
            .map(|fields| fields.map(|(key, value)| (key.clone(), value.clone())).collect())
            .collect()
    }
}

async fn serve(
    mut stream: TcpStream,
    commands: Arc<Mutex<Vec<Document>>>,
    answer: Arc<Answer>,
) -> std::io::Result<()> {
    loop {
        let mut head = [0; 16];
        stream.read_exact(&mut head).await?;
        let field = |at: usize| i32::from_le_bytes(head[at..at + 4].try_into().unwrap());
        let mut body = vec![0; usize::try_from(field(0)).unwrap() - 16];
        stream.read_exact(&mut body).await?;
        let (request, operation) = (field(4), field(12));
        let command = match operation {
            // Flags, then one section of kind 0: the document.
            OP_MSG => &body[5..],
            // Flags, the collection's name, two numbers, the document.
            OP_QUERY => &body[4 + body[4..].iter().position(|byte| *byte == 0).unwrap() + 9..],
            other => panic!("the driver sent operation {other}"),
        };
        let command: Document = bson::deserialize_from_slice(command).unwrap();
        commands.lock().unwrap().push(command.clone());
        let reply = bson::serialize_to_vec(&reply(&command, &*answer)).unwrap();
        let (operation, prefix) =
            if operation == OP_MSG { (OP_MSG, vec![0; 5]) } else { (OP_REPLY, reply_prefix()) };
        let length = i32::try_from(16 + prefix.len() + reply.len()).unwrap();
        let mut message = Vec::new();
        for number in [length, request, request, operation] {
            message.extend_from_slice(&number.to_le_bytes());
        }
        message.extend_from_slice(&prefix);
        message.extend_from_slice(&reply);
        stream.write_all(&message).await?;
    }
}

/// Flags, cursor, offset, and a count of one document.
fn reply_prefix() -> Vec<u8> {
    let mut prefix = vec![0; 16];
    prefix.extend_from_slice(&1_i32.to_le_bytes());
    prefix
}

fn reply(command: &Document, answer: &Answer) -> Document {
    let name = command.keys().next().map(String::as_str).unwrap_or_default();
    let known = match name {
        "hello" | "isMaster" | "ismaster" => Some(doc! {
            "ismaster": true, "isWritablePrimary": true, "helloOk": true, "maxBsonObjectSize": 16 << 20, "maxMessageSizeBytes": 48_000_000,
            "maxWriteBatchSize": 100_000, "minWireVersion": 0, "maxWireVersion": 25, "setName": "rs", "me": "a:1", "hosts": ["a:1"],
        }),
        "buildInfo" => Some(doc! { "version": "8.0.4" }),
        "endSessions" => Some(doc! {}),
        _ => answer(command),
    };
    let mut reply = known.unwrap_or_else(
        || doc! { "ok": 0.0, "code": 59, "codeName": "CommandNotFound", "errmsg": format!("no such command: '{name}'") },
    );
    if !reply.contains_key("ok") {
        reply.insert("ok", 1.0);
    }
    reply
}
