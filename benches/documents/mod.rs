//! Documents as an application's database has them: users, orders, messages. The same ones each time.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
};

use bson::{Bson, DateTime, Document, doc, oid::ObjectId};

/// Writes documents back to back until there are as many bytes; gives how many bytes and documents there are.
pub fn seed(plain: &Path, bytes: usize) -> (usize, u64) {
    let mut random = Random(1);
    let words: Vec<String> = (0..4000).map(|_| random.word()).collect();
    let mut out = BufWriter::new(File::create(plain).expect("a file"));
    let (mut written, mut count) = (0, 0);
    while written < bytes {
        let document = match random.below(3) {
            0 => user(&mut random, &words),
            1 => order(&mut random, &words),
            _ => message(&mut random, &words),
        };
        let raw = bson::serialize_to_vec(&document).expect("bytes");
        out.write_all(&raw).expect("the file can be written");
        written += raw.len();
        count += 1;
    }
    out.flush().expect("the file can be written");
    (written, count)
}

fn user(random: &mut Random, words: &[String]) -> Document {
    let (first, last) = (random.pick(words), random.pick(words));
    doc! {
        "_id": random.id(), "email": format!("{first}.{last}{}@example.org", random.below(1000)), "name": format!("{first} {last}"),
        "passwordHash": format!("$2b$12${:016x}{:016x}{:016x}", random.next(), random.next(), random.next()),
        "roles": ["user", if random.below(10) == 0 { "admin" } else { "editor" }], "createdAt": random.date(), "updatedAt": random.date(),
        "settings": { "language": if random.below(2) == 0 { "ar" } else { "en" }, "theme": "dark", "notifications": true },
        "score": f64::from(u32::try_from(random.below(100_000)).unwrap_or(0)) / 100.0, "active": random.below(5) > 0,
    }
}

fn order(random: &mut Random, words: &[String]) -> Document {
    let lines: Vec<Bson> = (0..=random.below(6))
        .map(|_| {
            let amount = i32::try_from(random.below(20)).unwrap_or(0);
            let price = i64::try_from(random.below(100_000)).unwrap_or(0);
            Bson::Document(doc! { "sku": format!("SKU-{:06}", random.below(5000)), "title": random.text(words, 4), "amount": amount, "price": price })
        })
        .collect();
    doc! {
        "_id": random.id(), "customer": random.id(), "lines": lines, "status": random.pick(&["paid", "sent", "open", "returned"].map(String::from)),
        "placedAt": random.date(), "address": { "street": random.text(words, 2), "city": random.pick(words), "zip": format!("{:05}", random.below(100_000)) },
    }
}

fn message(random: &mut Random, words: &[String]) -> Document {
    let length = 5 + random.below(60);
    doc! {
        "_id": random.id(), "conversation": random.id(), "author": random.id(), "at": random.date(), "text": random.text(words, length),
        "read": random.below(2) == 0, "tokens": i32::try_from(random.below(3000)).unwrap_or(0),
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("it is below a usize")
    }

    /// Some words come often and most seldom, as in a language.
    fn pick(&mut self, words: &[String]) -> String {
        let limit = 1 + self.below(words.len());
        words[self.below(limit)].clone()
    }

    fn word(&mut self) -> String {
        (0..2 + self.below(9))
            .map(|_| char::from(b"etaoinshrdlucmfwypvbgk"[self.below(22)]))
            .collect()
    }

    fn text(&mut self, words: &[String], length: usize) -> String {
        (0..length).map(|_| self.pick(words)).collect::<Vec<_>>().join(" ")
    }

    /// As a driver makes them: a time, something of the process, a counter.
    fn id(&mut self) -> ObjectId {
        let mut bytes = [0x66, 0x40, 0, 0, 0x5a, 0x31, 0xc0, 0x7d, 0x11, 0, 0, 0];
        bytes[2..4].copy_from_slice(&self.next().to_be_bytes()[..2]);
        bytes[9..].copy_from_slice(&self.next().to_be_bytes()[..3]);
        ObjectId::from_bytes(bytes)
    }

    fn date(&mut self) -> DateTime {
        DateTime::from_millis(
            1_700_000_000_000 + i64::try_from(self.below(60_000_000_000)).unwrap_or(0),
        )
    }
}
