//! Finds management panels that listen on every address (proc(5), `/proc/net/tcp` and `tcp6`).

use std::{collections::BTreeSet, fs, io};

use super::Host;
use crate::ground::diagnosis::Diagnosis;

/// Panels that show everything to anyone who knows or guesses a password.
const PANELS: [(u16, &str, &str); 3] = [
    (
        15672,
        "RabbitMQ's management",
        "set `management.tcp.ip = 127.0.0.1` in rabbitmq.conf, or publish the port as 127.0.0.1:15672:15672",
    ),
    (
        15671,
        "RabbitMQ's management over TLS",
        "set `management.ssl.ip = 127.0.0.1` in rabbitmq.conf, or block the port in the firewall",
    ),
    (8081, "mongo-express", "publish the port as 127.0.0.1:8081:8081, or stop the panel"),
];
/// State `TCP_LISTEN`.
const LISTEN: &str = "0A";

/// Reports panels that listen on every address.
pub(super) fn examine(host: &Host) -> Vec<Diagnosis> {
    let mut open = BTreeSet::new();
    let mut read = 0;
    let mut found = Vec::new();
    for path in ["/proc/net/tcp", "/proc/net/tcp6"] {
        match fs::read_to_string(host.at(path)) {
            Ok(table) => {
                read += 1;
                open.extend(open_to_all(&table));
            }
            // A kernel without IPv6 has no such file.
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.ends_with('6') => {}
            Err(error) => {
                found.push(Diagnosis::unseen(
                    &format!("the listening ports ({path})"),
                    &error.to_string(),
                ));
            }
        }
    }
    for (port, panel, fix) in PANELS {
        if open.contains(&port) {
            found.push(
                Diagnosis::warning(
                    "panel-open",
                    format!("port {port} ({panel}) listens on every address of this machine"),
                )
                .because("everyone who can reach the machine can reach the panel")
                .fix(fix),
            );
        }
    }
    if found.is_empty() && read > 0 {
        found.push(Diagnosis::ok("panels", "no management panel listens on every address"));
    }
    found
}

fn open_to_all(table: &str) -> impl Iterator<Item = u16> {
    table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (address, port) = fields.next()?.split_once(':')?;
        let listens = fields.nth(1)? == LISTEN;
        (listens && address.bytes().all(|digit| digit == b'0'))
            .then(|| u16::from_str_radix(port, 16).ok())
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_listens_on_every_address_is_open() {
        let table = "  sl  local_address rem_address   st\n\
            0: 00000000:3D38 00000000:0000 0A 0\n\
            1: 0100007F:1F91 00000000:0000 0A 0\n\
            2: 00000000:1F92 00000000:0000 01 0\n\
            3: 00000000000000000000000000000000:1F93 00000000000000000000000000000000:0000 0A 0\n";
        assert_eq!(open_to_all(table).collect::<Vec<_>>(), [15672, 0x1F93]);
    }
}
