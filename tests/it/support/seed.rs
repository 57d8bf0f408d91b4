//! Test data for servers and directories: small, and with everything that tends to get lost.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{Seek as _, SeekFrom, Write as _},
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _, fs::symlink},
    path::Path,
    time::{Duration, SystemTime},
};

use nix::{
    fcntl::AT_FDCWD,
    sys::{
        stat::{Mode, UtimensatFlags, utimensat},
        time::TimeSpec,
    },
    unistd::mkfifo,
};
use serde_json::{Value, json};

/// Definitions of a virtual host with one of each kind in RabbitMQ, and names that need escaping.
/// Users have the virtual host's name, so that tests do not interfere.
pub fn definitions(vhost: &str) -> Value {
    let user = format!("{vhost} user");
    json!({
        "vhosts": [{"name": vhost, "metadata": {"description": "orders of the shop", "tags": ["shop"]}}],
        "users": [{
            "name": user,
            // Of `test12`, salted with 90 8D C6 0A: the example of RabbitMQ's documentation on passwords.
            "password_hash": "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR",
            "hashing_algorithm": "rabbit_password_hashing_sha256",
            "tags": ["monitoring"],
            "limits": {},
        }],
        "permissions": [{"user": user, "vhost": vhost, "configure": "^orders", "write": ".*", "read": ".*"}],
        "topic_permissions": [{"user": user, "vhost": vhost, "exchange": "amq.topic", "write": "^eu\\.", "read": ".*"}],
        "parameters": [{"vhost": vhost, "component": "vhost-limits", "name": "limits", "value": {"max-queues": 100}}],
        "policies": [{
            "vhost": vhost, "name": "expire", "pattern": "^orders\\.", "apply-to": "queues", "priority": 3,
            "definition": {"message-ttl": 60_000, "max-length": 1000},
        }],
        "exchanges": [
            {"name": "orders", "vhost": vhost, "type": "topic", "durable": true, "auto_delete": false, "internal": false,
             "arguments": {"alternate-exchange": "unrouted"}},
            {"name": "unrouted", "vhost": vhost, "type": "fanout", "durable": true, "auto_delete": false, "internal": false,
             "arguments": {}},
        ],
        "queues": [
            {"name": "orders.new", "vhost": vhost, "durable": true, "auto_delete": false,
             "arguments": {"x-queue-type": "classic", "x-max-priority": 5}},
            {"name": "orders.الطلبات/%2F ü", "vhost": vhost, "durable": true, "auto_delete": false,
             "arguments": {"x-queue-type": "quorum"}},
        ],
        "bindings": [
            {"source": "orders", "vhost": vhost, "destination": "orders.new", "destination_type": "queue",
             "routing_key": "eu.#", "arguments": {}},
            {"source": "orders", "vhost": vhost, "destination": "unrouted", "destination_type": "exchange",
             "routing_key": "lost", "arguments": {"x-match": "all", "n": 7}},
            {"source": "unrouted", "vhost": vhost, "destination": "orders.الطلبات/%2F ü", "destination_type": "queue",
             "routing_key": "", "arguments": {}},
        ],
    })
}

/// Fills a directory with what a file backup tends to lose: names that are not ASCII or not even
/// UTF-8, links of both kinds, a hole, a pipe, unusual modes and times, extended attributes (if the
/// file system supports them).
pub fn file_tree(root: &Path) {
    let directory =
        |path: &str| fs::create_dir_all(root.join(path)).expect("a directory can be made");
    directory("etc/nginx/conf.d");
    directory("empty");
    directory("نسخ احتياطية");

    write(&root.join("etc/nginx/nginx.conf"), b"worker_processes auto;\n");
    write(&root.join("etc/nginx/conf.d/default.conf"), b"server { listen 80; }\n");
    write(&root.join("empty file"), b"");
    write(&root.join("نسخ احتياطية/ملف \u{202e}.txt"), "مرحبا\n".as_bytes());
    write(&root.join(OsStr::from_bytes(b"latin-1 caf\xe9")), b"not UTF-8\n");
    write(&root.join("new\nline 'quotes\" $HOME *"), b"awkward\n");
    write(&root.join("--help"), b"looks like an option\n");
    write(
        &root.join("large"),
        &(0..3_000_000_u32)
            .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0])
            .collect::<Vec<_>>(),
    );

    let mut sparse = File::create(root.join("sparse")).expect("a file can be made");
    sparse.seek(SeekFrom::Start(5 << 20)).expect("a file can be longer than what was written");
    sparse.write_all(b"after the hole").expect("a file can be written");

    fs::hard_link(root.join("large"), root.join("etc/large hard link"))
        .expect("a hard link can be made");
    symlink("nginx.conf", root.join("etc/nginx/link")).expect("a symbolic link can be made");
    // Not a target that is invalid UTF-8: stock restic before 0.16 does not restore it itself.
    symlink("/nowhere/مقهى", root.join("dangling")).expect("a symbolic link can be made");
    mkfifo(&root.join("pipe"), Mode::from_bits_truncate(0o640)).expect("a named pipe can be made");

    for (path, mode) in
        [("etc/nginx/nginx.conf", 0o640), ("--help", 0o4755), ("large", 0o400), ("empty", 0o3770)]
    {
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode))
            .expect("our file's mode can be set");
    }
    // Some file systems do not support them (tmpfs before Linux 6.6); then there are none to lose.
    let _ = xattr::set(root.join("empty file"), "user.comment", b"\x00\xffbytes");
    let _ = xattr::set(root.join("etc"), "user.note", "ملاحظة".as_bytes());

    // Times last, and a directory's after those of its content.
    set_modified(&root.join("etc/nginx/nginx.conf"), Duration::new(1_000_000_000, 123_456_789));
    set_modified(&root.join("empty file"), Duration::ZERO);
    set_modified(&root.join("etc/nginx"), Duration::new(1_234_567_890, 1));
    utimensat(
        AT_FDCWD,
        &root.join("dangling"),
        &TimeSpec::new(0, 0),
        &TimeSpec::new(86_400, 5),
        UtimensatFlags::NoFollowSymlink,
    )
    .expect("our link's time can be set");
}

fn write(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn set_modified(path: &Path, since_epoch: Duration) {
    File::open(path)
        .and_then(|file| file.set_modified(SystemTime::UNIX_EPOCH + since_epoch))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
