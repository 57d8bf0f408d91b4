//! An AMQP 0-9-1 connection with an exclusive queue: only a connection can own one, and the management API has none.
//!
//! It speaks as much of the protocol as that takes. The queue exists until this value is dropped.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

/// The end of every frame.
const FRAME_END: u8 = 0xCE;
/// The flag of an exclusive queue in `queue.declare`.
const EXCLUSIVE: u8 = 1 << 2;

/// An open connection.
#[derive(Debug)]
pub struct AmqpConnection(TcpStream);

impl AmqpConnection {
    /// Logs in and declares an exclusive queue, bound to a fanout exchange.
    pub fn with_exclusive_queue(
        port: u16,
        (user, password): (&str, &str),
        vhost: &str,
        exchange: &str,
        queue: &str,
    ) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the broker takes connections");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket has a time-out");
        let mut connection = Self(stream);
        connection.0.write_all(b"AMQP\0\0\x09\x01").expect("the broker listens");
        connection.expect((10, 10));
        let login = format!("\0{user}\0{password}");
        let arguments =
            [vec![0; 4], short("PLAIN"), long(login.as_bytes()), short("en_US")].concat();
        connection.send(0, (10, 11), &arguments);
        let mut tune = connection.expect((10, 30));
        // No heartbeats: the test is over before one is due.
        tune.truncate(6);
        tune.extend([0, 0]);
        connection.send(0, (10, 31), &tune);
        connection.send(0, (10, 40), &[short(vhost), short(""), vec![0]].concat());
        connection.expect((10, 41));
        connection.send(1, (20, 10), &short(""));
        connection.expect((20, 11));
        let declare = [vec![0, 0], short(queue), vec![EXCLUSIVE], vec![0; 4]].concat();
        connection.send(1, (50, 10), &declare);
        connection.expect((50, 11));
        let bind =
            [vec![0, 0], short(queue), short(exchange), short(""), vec![0], vec![0; 4]].concat();
        connection.send(1, (50, 20), &bind);
        connection.expect((50, 21));
        connection
    }

    fn send(&mut self, channel: u16, (class, method): (u16, u16), arguments: &[u8]) {
        let payload = [&class.to_be_bytes()[..], &method.to_be_bytes()[..], arguments].concat();
        let size = u32::try_from(payload.len()).expect("a short frame");
        let mut frame = vec![1];
        frame.extend(channel.to_be_bytes());
        frame.extend(size.to_be_bytes());
        frame.extend(payload);
        frame.push(FRAME_END);
        self.0.write_all(&frame).expect("the broker listens");
    }

    /// Reads the next frame, which must contain this method. Returns its arguments.
    fn expect(&mut self, method: (u16, u16)) -> Vec<u8> {
        let mut head = [0; 7];
        self.0.read_exact(&mut head).expect("the broker answers");
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        let mut payload = vec![0; size as usize + 1];
        self.0.read_exact(&mut payload).expect("the broker completes its answer");
        assert_eq!(payload.pop(), Some(FRAME_END), "a frame ends");
        let number = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
        assert_eq!((number(0), number(2)), method, "{}", String::from_utf8_lossy(&payload));
        payload.split_off(4)
    }
}

fn short(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("a short string");
    [&[length], text.as_bytes()].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("a long string");
    [&length.to_be_bytes()[..], bytes].concat()
}
