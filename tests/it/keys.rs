//! Keys: listed, added, removed and changed; stock restic confirms each time which passwords open
//! the repository.

use std::{
    fs,
    io::{Read as _, Write as _},
    process::Stdio,
};

use serde_json::Value;

use crate::support::{
    program::run,
    restic::Restic,
    seed,
    site::{PASSWORD, Site},
};

fn site() -> Site {
    let site = Site::new();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    let site = site.with_files("configs", &[&tree]).initialised();
    site.succeed(["backup"]);
    site
}

fn keys(site: &Site) -> Vec<Value> {
    let (outcome, lines) = site.json(["key", "list"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    lines[0].as_array().expect("a list of keys").clone()
}

fn restic_keys(restic: &Restic) -> Vec<Value> {
    serde_json::from_slice(&restic.succeed(["key", "list", "--json"]).stdout)
        .expect("restic prints JSON")
}

fn opens(site: &Site, password: &str) -> bool {
    Restic::on_directory(&site.repository(), password).run(["snapshots"]).status.success()
}

fn add(site: &Site, password: &str) -> Value {
    let file = site.secret("new.pass", password);
    let (outcome, lines) =
        site.json(["key", "add", "--new-password-file", file.to_str().expect("UTF-8")]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    lines[0].clone()
}

#[test]
fn a_key_that_is_added_opens_and_one_that_is_removed_does_not() {
    let site = site();
    // Non-ASCII letters, and a space inside.
    let password = "كلمة السر ü";
    let added = add(&site, password);
    assert!(opens(&site, password) && opens(&site, PASSWORD));

    let (ours, theirs) = (keys(&site), restic_keys(&site.restic()));
    assert_eq!(ours.len(), 2);
    for key in &ours {
        assert!(theirs.contains(key), "restic lists {key} the same: {theirs:?}");
    }
    let current = ours.iter().find(|key| key["current"] == true).expect("one is in use");
    assert_ne!(current["id"], added["id"]);

    let removed = site.run(["key", "remove", added["id"].as_str().expect("an id")]);
    assert_eq!(removed.code, Some(0), "{}", removed.stderr);
    assert!(!opens(&site, password) && opens(&site, PASSWORD));
    assert_eq!(restic_keys(&site.restic()).len(), 1);
    site.restic().check_read_data();
}

#[test]
fn a_key_of_restics_is_listed_and_opens_and_can_be_removed() {
    let site = site();
    let file = site.secret("theirs.pass", "theirs");
    site.restic().succeed([
        "key",
        "add",
        "--new-password-file",
        file.to_str().expect("UTF-8"),
        "--user",
        "ada",
        "--host",
        "hal",
    ]);
    let listed = keys(&site);
    let theirs =
        listed.iter().find(|key| key["userName"] == "ada").expect("restic's key is listed");
    assert_eq!(theirs["hostName"], "hal");
    assert_eq!(theirs["current"], false);

    // With theirs in use, ours can be removed; then theirs is the last.
    let ours =
        listed.iter().find(|key| key["current"] == true).expect("one is in use")["id"].clone();
    site.secret("repository.pass", "theirs");
    site.succeed(["key", "remove", ours.as_str().expect("an id")]);
    assert!(opens(&site, "theirs") && !opens(&site, PASSWORD));
    let last = site.run(["key", "remove", theirs["id"].as_str().expect("an id")]);
    assert_eq!(last.code, Some(5), "{}", last.stderr);
    assert!(last.stderr.contains(theirs["id"].as_str().expect("an id")), "{}", last.stderr);
    assert!(opens(&site, "theirs"));
}

#[test]
fn a_changed_password_opens_and_the_old_one_does_not() {
    let site = site();
    let before = keys(&site)[0]["id"].clone();
    let outcome =
        run(site.command().args(["key", "passwd"]).env("KALEEM_DR_NEW_PASSWORD", "another"));
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(!outcome.stdout.contains("another") && !outcome.stderr.contains("another"));
    assert!(opens(&site, "another") && !opens(&site, PASSWORD));
    assert_eq!(site.run(["snapshots"]).code, Some(12));
    site.secret("repository.pass", "another");
    let after = keys(&site);
    assert_eq!(after.len(), 1);
    assert_ne!(after[0]["id"], before);
    assert_eq!(site.snapshots().len(), 1);
    Restic::on_directory(&site.repository(), "another").check_read_data();
}

#[test]
fn what_would_shut_us_out_is_refused() {
    let site = site();
    let current = keys(&site)[0]["id"].as_str().expect("an id").to_owned();
    add(&site, "second");
    let in_use = site.run(["key", "remove", &current]);
    assert_eq!(in_use.code, Some(5), "{}", in_use.stderr);
    assert!(in_use.stderr.contains(&current), "it says which: {}", in_use.stderr);
    assert_eq!(site.run(["key", "remove", ""]).code, Some(1), "an empty name is refused");
    assert_eq!(site.run(["key", "remove", "zz"]).code, Some(1));

    let empty = site.path("empty.pass");
    fs::write(&empty, "").expect("a file");
    fs::set_permissions(&empty, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("its mode can be set");
    let refused = site.run(["key", "add", "--new-password-file", empty.to_str().expect("UTF-8")]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    // A file would be read without the space, here as by restic.
    let mut spaced = site.command();
    spaced.args(["key", "add"]).env("KALEEM_DR_NEW_PASSWORD", " led by a space");
    let refused = run(&mut spaced);
    assert_eq!(refused.code, Some(5), "{}", refused.stderr);
    let file = site.secret("open.pass", "exposed");
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .expect("its mode can be set");
    let exposed = site.run(["key", "add", "--new-password-file", file.to_str().expect("UTF-8")]);
    assert_eq!(exposed.code, Some(2), "{}", exposed.stderr);
    let nobody = site.run(["key", "add"]);
    assert_eq!(nobody.code, Some(2), "there is no terminal to ask on: {}", nobody.stderr);
    assert_eq!(keys(&site).len(), 2);
    site.restic().check_read_data();
}

#[test]
fn a_password_is_asked_for_twice_and_not_shown() {
    let site = site();
    let ask = |answers: [&str; 2]| {
        let program = site.command();
        let line = format!("{} key add", program.get_program().to_str().expect("UTF-8"));
        // `script` (util-linux) provides a terminal.
        let mut child = std::process::Command::new("script")
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .env("KALEEM_DR_CONFIG", site.config_path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script runs");
        let (mut input, mut output) =
            (child.stdin.take().expect("its input"), child.stdout.take().expect("its output"));
        let mut seen = Vec::new();
        let mut byte = [0];
        for (prompt, answer) in ["new password: ", "repeat the password: "].into_iter().zip(answers)
        {
            while !String::from_utf8_lossy(&seen).contains(prompt) {
                let read = output.read(&mut byte).expect("the terminal can be read");
                assert_eq!(read, 1, "it ended: {}", String::from_utf8_lossy(&seen));
                seen.push(byte[0]);
            }
            // Input before the echo is disabled is discarded, and the test cannot observe the
            // terminal's state.
            std::thread::sleep(std::time::Duration::from_millis(300));
            writeln!(input, "{answer}").expect("an answer can be typed");
        }
        output.read_to_end(&mut seen).expect("the terminal can be read");
        let code = child.wait().expect("it ends").code();
        let seen = String::from_utf8_lossy(&seen).into_owned();
        assert!(!seen.contains(answers[0]), "{seen}");
        (code, seen)
    };
    let (code, seen) = ask(["tippfehler", "tipffehler"]);
    assert_eq!(code, Some(2), "{seen}");
    assert_eq!(keys(&site).len(), 1);
    let (code, seen) = ask(["geheimnis", "geheimnis"]);
    assert_eq!(code, Some(0), "{seen}");
    assert!(opens(&site, "geheimnis"));
}

#[test]
fn a_rotten_or_hostile_key_is_passed_over_where_a_good_one_is_there() {
    let site = site();
    let directory = site.repository().join("keys");
    let good =
        fs::read_dir(&directory).expect("keys").next().expect("a key").expect("an entry").path();
    let good: Value =
        serde_json::from_slice(&fs::read(good).expect("a key can be read")).expect("a key is JSON");
    let mut hostile = good.clone();
    hostile["N"] = (1_u64 << 31).into();
    // Names that sort before and after any other.
    fs::write(directory.join("0".repeat(64)), "").expect("a file can be written");
    fs::write(directory.join(format!("{}1", "0".repeat(63))), hostile.to_string())
        .expect("a file can be written");
    fs::write(directory.join("f".repeat(64)), "{}").expect("a file can be written");
    for command in [&["backup"][..], &["verify"]] {
        let outcome = site.succeed(command.iter().copied());
        assert!(outcome.stderr.contains("MiB of memory"), "{command:?}: {}", outcome.stderr);
    }
    let listed = keys(&site);
    assert_eq!(listed.iter().filter(|key| key["problem"].is_string()).count(), 3, "{listed:?}");
    assert_eq!(site.run(["check"]).code, Some(4));
    site.succeed(["key", "remove", &"0".repeat(64)]);
    site.succeed(["key", "remove", &format!("{}1", "0".repeat(63))]);
    site.succeed(["key", "remove", &"f".repeat(64)]);
    site.succeed(["check"]);
}
