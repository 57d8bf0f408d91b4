//! The first minute: `config init` writes a config and its secrets, and the commands that it prints work as pasted.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::Path,
    process::Command,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    program::{Outcome, kaleem_dr, run},
    restic::Restic,
    terminal::{Question, on_terminal},
    tree::names,
};

/// A machine's directories: data in `home`, an empty `srv`, and a config in `etc`.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().expect("a temporary directory can be made"));
        for directory in ["home", "srv"] {
            fs::create_dir(place.0.path().join(directory)).expect("a directory can be made");
        }
        fs::write(place.0.path().join("home/letter"), "Dear reader")
            .expect("a file can be written");
        place
    }

    fn at(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    fn config(&self) -> String {
        self.at("etc/kaleem-dr.toml")
    }

    /// The program, without the variables and the state of this machine.
    fn program(&self) -> Command {
        let mut program = kaleem_dr();
        for variable in ["KALEEM_DR_CONFIG", "RESTIC_REPOSITORY", "RESTIC_PASSWORD"] {
            program.env_remove(variable);
        }
        program.env("KALEEM_DR__STATE_DIRECTORY", self.at("state")).env("HOME", self.at(""));
        program
    }

    fn init(&self, args: &[&str]) -> Outcome {
        run(self.program().args(["config", "init", &self.config()]).args(args))
    }

    /// Runs a line as a shell does in which the program is on the `PATH`.
    fn paste(&self, line: &str) -> Outcome {
        let program = self.program();
        let directory = Path::new(program.get_program()).parent().expect("it has a directory");
        run(Command::new("sh")
            .args(["-c", line])
            .env("PATH", format!("{}:/usr/bin:/bin", directory.display()))
            .env("KALEEM_DR__STATE_DIRECTORY", self.at("state")))
    }
}

/// The commands after `next:`.
fn next(outcome: &Outcome) -> Vec<&str> {
    let lines = outcome.stdout.lines().skip_while(|line| *line != "next:").skip(1);
    lines.map(str::trim).collect()
}

fn mode(path: &str) -> u32 {
    fs::metadata(path).expect("it exists").permissions().mode() & 0o7777
}

#[test]
fn the_printed_commands_work_as_pasted_and_stock_restic_opens_the_repository() {
    let place = Place::new();
    let source = format!("files:{}", place.at("home"));
    let repository = place.at("srv/backup");
    let args = ["--source", &source, "--repository", &repository];
    let made = place.init(&args);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let password = place.at("etc/repository.pass");
    assert_eq!((mode(&place.config()), mode(&password)), (0o600, 0o600));
    let commands = next(&made);
    assert_eq!(commands.len(), 2, "{}", made.stdout);
    for command in commands {
        let ended = place.paste(command);
        assert_eq!(ended.code, Some(0), "{command}: {}{}", ended.stdout, ended.stderr);
    }
    let secret = fs::read_to_string(&password).expect("it can be read");
    assert!(secret.trim().len() > 40, "a long random password");
    let listed =
        Restic::on_directory(Path::new(&repository), secret.trim()).succeed(["ls", "latest"]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("home/letter"), "{listed}");

    let before = fs::read(place.config()).expect("it can be read");
    let again = place.init(&args);
    assert_eq!(again.code, Some(2), "{}", again.stdout);
    assert!(again.stderr.contains("exists; it is not overwritten"), "{}", again.stderr);
    assert_eq!(fs::read(place.config()).expect("it can be read"), before);
}

#[test]
fn an_editor_finds_the_schema_that_the_file_names() {
    let place = Place::new();
    let source = format!("files:{}", place.at("home"));
    place.init(&["--source", &source, "--repository", &place.at("srv/backup")]);
    let text = fs::read_to_string(place.config()).expect("it was written");
    let named = text.lines().next().and_then(|line| line.strip_prefix("#:schema ./"));
    let schema = place.at(&format!("etc/{}", named.expect("the first line names a schema")));
    let schema: Value =
        serde_json::from_slice(&fs::read(schema).expect("it is there")).expect("JSON");
    assert!(schema["properties"]["repository"].is_object(), "{schema}");
}

#[test]
fn paths_that_cannot_be_meant_are_refused_together_and_nothing_is_written() {
    let place = Place::new();
    fs::write(place.at("srv/occupied"), "").expect("a file can be written");
    let home = format!("files:{}", place.at("home"));
    let missing = format!("files:{}", place.at("hoem"));
    let good = place.at("srv/backup");
    let below = place.at("srv/no/such/backup");
    let (itself, full) = (place.at("home"), place.at("srv"));
    let inside = format!("files:{}/data", place.at("home"));
    fs::create_dir(place.at("home/data")).expect("a directory can be made");
    for (args, faults) in [
        (
            &["--source", &missing, "--repository", &below][..],
            &["hoem: No such file", "mount its disk"][..],
        ),
        (
            &["--source", "files:data", "--repository", "backup"],
            &["data is relative; write /", "backup is relative; write /"],
        ),
        (&["--source", "fils:/home", "--repository", &good], &["write one of files:DIRECTORY"]),
        (&["--source", &home, "--repository", &itself], &["is not a repository"]),
        (&["--source", &home, "--repository", &full], &["is not a repository"]),
        (
            &["--source", "mongodb://backup:canary@db/shop", "--repository", &good],
            &["contains a password"],
        ),
        (
            &["--source", "rabbitmq:http://admin:canary@mq:15672", "--repository", &good],
            &["contains a password"],
        ),
        (
            &["--source", &inside, "--source", "qdrant:nonsense", "--repository", &good],
            &["http://127.0.0.1:6333"],
        ),
        (&["--source", &home], &["name the repository with --repository"]),
        (&["--repository", &good], &["name the sources with --source"]),
    ] {
        let refused = place.init(args);
        assert_eq!(refused.code, Some(2), "{args:?}: {}", refused.stdout);
        for fault in faults {
            assert!(refused.stderr.contains(fault), "{args:?}: {}", refused.stderr);
        }
        assert!(!refused.stderr.contains("canary"), "{}", refused.stderr);
        assert!(!Path::new(&place.at("etc")).exists(), "{args:?}");
    }
}

#[test]
fn a_repository_below_a_source_is_left_out_of_its_own_backups() {
    let place = Place::new();
    let source = format!("files:{}", place.at(""));
    let made = place.init(&["--source", &source, "--repository", &place.at("srv/backup")]);
    for command in next(&made) {
        assert_eq!(place.paste(command).code, Some(0), "{command}");
    }
    let listed =
        run(place.program().args(["--config", &place.config(), "find", "letter", "config"]));
    assert!(listed.stdout.contains("home/letter"), "{}{}", listed.stdout, listed.stderr);
    assert!(!listed.stdout.contains("srv/backup/config"), "{}", listed.stdout);
}

#[test]
fn without_a_terminal_missing_secrets_are_named_with_their_files() {
    let place = Place::new();
    let args = [
        "--source",
        "mongodb://backup@127.0.0.1:1/shop",
        "--source",
        "rabbitmq:http://admin@127.0.0.1:1",
        "--source",
        "qdrant:http://127.0.0.1:1",
        "--repository",
        &place.at("srv/backup"),
    ];
    let refused = place.init(&args);
    assert_eq!(refused.code, Some(2), "{}", refused.stdout);
    for file in ["etc/mongo.uri", "etc/rabbitmq.pass"] {
        assert!(refused.stderr.contains(&place.at(file)), "{}", refused.stderr);
    }
    assert!(!Path::new(&place.at("etc")).exists(), "nothing is written");

    fs::create_dir(place.at("etc")).expect("a directory can be made");
    for (file, secret) in
        [("mongo.uri", "mongodb://backup:s3cret@127.0.0.1:1/shop"), ("rabbitmq.pass", "s3cret")]
    {
        let path = place.at(&format!("etc/{file}"));
        fs::write(&path, secret).expect("a file can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode can be set");
    }
    let made = place.init(&args);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let text = fs::read_to_string(place.config()).expect("it was written");
    for wanted in ["[source.mongo]", "[source.rabbitmq]", "username = \"admin\"", "[source.qdrant]"]
    {
        assert!(text.contains(wanted), "{text}");
    }
    assert!(!text.contains("api_key") && !text.contains("s3cret"), "{text}");
    assert_eq!(fs::read_to_string(place.at("etc/rabbitmq.pass")).expect("it exists"), "s3cret");
    let checked = run(place.program().args(["--config", &place.config(), "config", "check"]));
    assert_eq!(checked.code, Some(0), "{}{}", checked.stdout, checked.stderr);
}

#[test]
fn a_terminal_is_asked_for_what_is_missing_and_secrets_are_not_shown() {
    let place = Place::new();
    let program = place.program().get_program().to_str().expect("UTF-8").to_owned();
    let home: &'static str = place.at("home").leak();
    let repository: &'static str = place.at("srv/backup").leak();
    let (code, seen) = on_terminal(
        &format!("{program} config init {}", place.config()),
        place.0.path(),
        &[
            Question::shown("[files]: ", "file"),
            Question::shown("[files]: ", ""),
            Question::shown("DIRECTORY: ", "nowhere"),
            Question::shown("DIRECTORY: ", home),
            Question::shown("(empty: nothing): ", "mongodb"),
            Question::shown("DATABASE: ", "mongodb://backup@127.0.0.1:27017/shop"),
            Question::shown("(empty: nothing): ", ""),
            Question::shown("[/srv/backup]: ", repository),
            Question::hidden("MongoDB user backup: ", "p@ss:word"),
        ],
    );
    assert_eq!(code, Some(0), "{seen}");
    assert!(seen.contains("unknown kind `file`") && seen.contains("nowhere is relative"), "{seen}");
    assert!(!seen.contains("p@ss") && !seen.contains("p%40ss"), "{seen}");
    let uri = place.at("etc/mongo.uri");
    assert_eq!(mode(&uri), 0o600);
    assert_eq!(
        fs::read_to_string(uri).expect("it was written").trim(),
        "mongodb://backup:p%40ss%3Aword@127.0.0.1:27017/shop"
    );
    let text = fs::read_to_string(place.config()).expect("it was written");
    assert!(text.contains("[source.home]") && text.contains("[source.mongo]"), "{text}");
}

#[test]
fn an_existing_repository_keeps_its_password() {
    let place = Place::new();
    let source = format!("files:{}", place.at("home"));
    let args = ["--source", &source, "--repository", &place.at("srv/backup")];
    let made = place.init(&args);
    assert_eq!(place.paste(next(&made)[0]).code, Some(0));
    fs::rename(place.at("etc"), place.at("old")).expect("it can be renamed");
    let refused = place.init(&args);
    assert_eq!(refused.code, Some(2), "a random password would open nothing: {}", refused.stdout);
    assert!(refused.stderr.contains("password of the existing repository"), "{}", refused.stderr);
    fs::create_dir(place.at("etc")).expect("a directory can be made");
    fs::rename(place.at("old/repository.pass"), place.at("etc/repository.pass")).expect("a file");
    let taken = place.init(&args);
    assert_eq!(taken.code, Some(0), "{}", taken.stderr);
    let commands = next(&taken);
    assert_eq!(commands.len(), 1, "there is nothing to create: {}", taken.stdout);
    assert_eq!(place.paste(commands[0]).code, Some(0));
}

#[test]
fn a_user_has_config_state_and_cache_at_home() {
    const USER: u32 = 54321;
    let place = Place::new();
    let own = nix::unistd::geteuid();
    let user = if own.is_root() { USER } else { own.as_raw() };
    for path in ["", "home", "home/letter", "srv"] {
        chown(place.at(path), Some(user), Some(user)).expect("root can give files away");
    }
    // Where everyone can reach it.
    let program = place.at("kaleem-dr");
    let built = kaleem_dr();
    fs::hard_link(built.get_program(), &program)
        .or_else(|_| fs::copy(built.get_program(), &program).map(drop))
        .expect("the program can be copied");
    let as_user = |args: &[&str]| {
        run(Command::new(&program)
            .args(args)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", place.at(""))
            .current_dir(place.at(""))
            .uid(user)
            .gid(user))
    };
    let source = format!("files:{}", place.at("home"));
    let missing = as_user(&["snapshots"]);
    assert_eq!(missing.code, Some(2));
    let config = place.at(".config/kaleem-dr/kaleem-dr.toml");
    assert!(missing.stderr.contains(&config), "{}", missing.stderr);
    let made =
        as_user(&["config", "init", "--source", &source, "--repository", &place.at("srv/backup")]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    assert!(made.stdout.contains(&format!("wrote {config}\n")), "{}", made.stdout);
    assert_eq!(next(&made), ["kaleem-dr init", "kaleem-dr backup"]);
    for command in [&["init"][..], &["backup"], &["verify"], &["status"]] {
        let ended = as_user(command);
        assert_eq!(ended.code, Some(0), "{command:?}: {}{}", ended.stdout, ended.stderr);
    }
    assert!(
        names(Path::new(&place.at(".local/state/kaleem-dr"))).contains(&"ledger.sqlite".to_owned())
    );
    let refused = as_user(&["schedule", "install"]);
    assert_ne!(refused.code, Some(0));
    assert!(
        refused.stderr.contains("/etc/systemd/system")
            && refused.stderr.contains("schedule install --user"),
        "{}",
        refused.stderr
    );
    let refused =
        as_user(&["config", "init", "/etc/kaleem-dr-of-root/kaleem-dr.toml", "--template"]);
    assert!(refused.stderr.contains("/etc/kaleem-dr-of-root"), "the path: {}", refused.stderr);
}

#[test]
fn a_command_prints_the_password_in_the_config_and_in_restics_variable() {
    let place = Place::new();
    let source = format!("files:{}", place.at("home"));
    let made = place.init(&["--source", &source, "--repository", &place.at("srv/backup")]);
    assert_eq!(place.paste(next(&made)[0]).code, Some(0));
    let kept = place.at("etc/in a store");
    fs::rename(place.at("etc/repository.pass"), &kept).expect("it can be renamed");
    let file = format!("{{ file = \"{}\" }}", place.at("etc/repository.pass"));
    let text = fs::read_to_string(place.config()).expect("it was written");
    let with_command = text.replace(&file, &format!("{{ command = [\"cat\", \"{kept}\"] }}"));
    assert_ne!(with_command, text);
    fs::write(place.config(), &with_command).expect("it can be written");
    let saved = run(place.program().args(["--config", &place.config(), "backup"]));
    assert_eq!(saved.code, Some(0), "{}{}", saved.stdout, saved.stderr);

    let listed = run(place
        .program()
        .env("RESTIC_REPOSITORY", place.at("srv/backup"))
        .env("RESTIC_PASSWORD_COMMAND", format!("cat '{kept}'"))
        .args(["snapshots"]));
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    assert!(listed.stdout.contains("home"), "{}", listed.stdout);

    fs::write(place.config(), with_command.replace("\"cat\"", "\"false\""))
        .expect("it can be written");
    let failed = run(place.program().args(["--config", &place.config(), "backup"]));
    assert_eq!(failed.code, Some(2), "{}", failed.stdout);
    assert!(failed.stderr.contains("the command false"), "{}", failed.stderr);
}
