//! The Docker engine that `dev/up` starts, and what the tests run in it.
//!
//! No image can be pulled. The servers run from one image that is empty but for links into `/usr`, where this system's own `/usr` is
//! mounted. The program's image is made by `packaging/docker/build`: from the program of this build on the same base, or from the static
//! program that `KALEEM_TEST_DOCKER_PROGRAM` names, on nothing.

mod read_only_proxy;
pub mod shop;

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{
    program::{Outcome, kaleem_dr, run},
    servers,
};

pub use shop::Shop;

/// The image of the servers.
pub const SERVERS: &str = "kaleem-dr-test/servers";
/// The image of the program, as in the Compose example.
const PROGRAM: &str = "kaleem-dr";
/// The user of n8n's image.
const NODE: u32 = 1000;
/// The relay, as it is mounted into containers.
const RELAY: &str = "/relay.py";
/// A directory that a container and this process share.
const SHARE: &str = "/share";

/// The engine.
pub struct Engine {
    directory: PathBuf,
}

impl Engine {
    /// The engine, with the image of the servers; `None` where none can run.
    pub fn running() -> Option<Self> {
        static MADE: OnceLock<()> = OnceLock::new();
        let engine = Self { directory: servers::docker_engine()? };
        MADE.get_or_init(|| engine.make_servers_image());
        Some(engine)
    }

    /// Path of its socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("docker.sock")
    }

    /// The directory of a named volume.
    pub fn volume(&self, name: &str) -> PathBuf {
        self.directory.join("data/volumes").join(name).join("_data")
    }

    /// A program that talks to the engine.
    pub fn client(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.env("DOCKER_HOST", format!("unix://{}", self.socket().display()));
        command
    }

    /// Runs `docker`, and expects success; returns its standard output.
    #[track_caller]
    pub fn docker<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> String {
        let mut command = self.client("docker");
        let outcome = run(command.args(args));
        assert_eq!(outcome.code, Some(0), "{command:?}\n{}{}", outcome.stdout, outcome.stderr);
        outcome.stdout.trim().to_owned()
    }

    /// Runs the program on the engine's host.
    pub fn on_host<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Outcome {
        let state = self.directory.ancestors().nth(2).expect("it is <state>/run/docker");
        let mut command = Command::new(repository().join("dev/docker"));
        for variable in ["KALEEM_DR_CONFIG", "RESTIC_REPOSITORY", "RESTIC_PASSWORD_FILE"] {
            command.env_remove(variable);
        }
        run(command
            .env("KALEEM_DEV_STATE", state)
            .arg("host")
            .arg(kaleem_dr().get_program())
            .args(args))
    }

    /// The image of the program, made once.
    pub fn program_image(&self) -> &'static str {
        static MADE: OnceLock<()> = OnceLock::new();
        MADE.get_or_init(|| {
            let mut command = self.client(repository().join("packaging/docker/build"));
            match given_program() {
                Some(program) => command.arg(program),
                None => command.env("BASE", SERVERS).arg(kaleem_dr().get_program()),
            };
            let made = run(command.arg(PROGRAM));
            assert_eq!(made.code, Some(0), "{}{}", made.stdout, made.stderr);
        });
        PROGRAM
    }

    /// The directories of this system that the program's image needs.
    pub fn program_mounts() -> Vec<String> {
        if given_program().is_some() { Vec::new() } else { vec!["/usr:/usr:ro".to_owned()] }
    }

    fn make_servers_image(&self) {
        let root = tempfile::tempdir().expect("a temporary directory can be made");
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
        for name in ["bin", "lib", "lib64", "sbin"] {
            symlink(format!("usr/{name}"), root.path().join(name)).expect("a link can be made");
        }
        for name in ["etc", "data", "tmp", "home/node/.n8n"] {
            fs::create_dir_all(root.path().join(name)).expect("a directory can be made");
        }
        fs::set_permissions(root.path().join("tmp"), fs::Permissions::from_mode(0o1777))
            .expect("a mode");
        chown(root.path().join("home/node/.n8n"), Some(NODE), Some(NODE))
            .expect("root can give directories away");
        fs::write(root.path().join("etc/passwd"), "root:x:0:0:root:/data:/bin/sh\n")
            .expect("a file can be written");
        let made = run(self
            .client("sh")
            .args(["-ec", "tar -C \"$0\" -c . | docker import - \"$1\""])
            .arg(root.path())
            .arg(SERVERS));
        assert_eq!(made.code, Some(0), "{}{}", made.stdout, made.stderr);
    }
}

/// A network of one test. It is removed when this value is dropped.
pub struct Network<'a> {
    engine: &'a Engine,
    pub name: &'static str,
}

impl<'a> Network<'a> {
    /// Makes it, instead of one that an earlier run left.
    pub fn new(engine: &'a Engine, name: &'static str) -> Self {
        let network = Self { engine, name };
        network.remove();
        engine.docker(["network", "create", name]);
        network
    }

    fn remove(&self) {
        // There may be none, and a drop cannot report a failure.
        let _ = run(self.engine.client("docker").args(["network", "rm", self.name]));
    }
}

impl Drop for Network<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}

/// A container with a MongoDB wire server. It is removed when this value is dropped.
pub struct MongoContainer<'a> {
    engine: &'a Engine,
    name: String,
    share: TempDir,
}

impl<'a> MongoContainer<'a> {
    /// Starts one with further options of `docker run`.
    pub fn start(engine: &'a Engine, name: &str, options: &[&str]) -> Self {
        let share = tempfile::tempdir().expect("a temporary directory can be made");
        let mut mounts = python_mounts();
        mounts.push(format!("{}:{SHARE}", share.path().display()));
        let container = Self { engine, name: name.to_owned(), share };
        container.remove();
        let mut args = vec!["run", "--detach", "--name", name];
        args.extend(mounts.iter().flat_map(|mount| ["--volume", mount.as_str()]));
        args.extend(options);
        args.push(SERVERS);
        let command = secantusd("/data/mongo");
        args.extend(command.iter().map(String::as_str));
        engine.docker(args);
        await_log(engine, name, "listening on");
        container
    }

    /// The server's address for this process.
    pub fn uri(&self) -> String {
        mongo_uri(&relay(self.engine, &self.name, self.share.path(), 27017))
    }

    fn remove(&self) {
        // There may be none, and a drop cannot report a failure.
        let _ = run(self.engine.client("docker").args(["rm", "--force", "--volumes", &self.name]));
    }
}

impl Drop for MongoContainer<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Relays a Unix socket in a directory, which is mounted in a container, to a port of the container. Returns its path.
fn relay(engine: &Engine, container: &str, share: &Path, port: u16) -> PathBuf {
    let name = format!("{port}.sock");
    let (listen, target) = (format!("unix:{SHARE}/{name}"), format!("tcp:127.0.0.1:{port}"));
    engine.docker(["exec", "--detach", container, &python(), RELAY, &listen, &target]);
    let socket = share.join(name);
    let deadline = Instant::now() + Duration::from_mins(1);
    while !socket.exists() {
        assert!(Instant::now() < deadline, "the relay in {container} does not start");
        thread::sleep(Duration::from_millis(50));
    }
    socket
}

/// The address of a MongoDB at a Unix socket.
fn mongo_uri(socket: &Path) -> String {
    let socket = socket.display().to_string().replace('/', "%2F");
    format!("mongodb://{socket}/?directConnection=true")
}

/// Waits until a container has written a word to its log.
#[track_caller]
pub fn await_log(engine: &Engine, container: &str, word: &str) {
    let deadline = Instant::now() + Duration::from_mins(2);
    loop {
        let log = run(engine.client("docker").args(["logs", container]));
        let log = log.stdout + &log.stderr;
        if log.contains(word) {
            return;
        }
        assert!(Instant::now() < deadline, "{container} does not start:\n{log}");
        thread::sleep(Duration::from_millis(200));
    }
}

/// The command of the MongoDB wire server in a container.
fn secantusd(storage: &str) -> Vec<String> {
    let program = servers::secantusd();
    let program = program.to_str().expect("UTF-8");
    ["--host", "0.0.0.0", "--port", "27017", "--cache-size", "64M", "--storage-path", storage]
        .iter()
        .fold(vec![python(), program.to_owned()], |mut command, word| {
            command.push((*word).to_owned());
            command
        })
}

/// The interpreter of the MongoDB wire server.
fn python() -> String {
    let script = fs::read_to_string(servers::secantusd()).expect("it is a script");
    let first = script.lines().next().and_then(|line| line.strip_prefix("#!"));
    first.expect("it names its interpreter").trim().to_owned()
}

/// The mounts with which that interpreter and its packages are in a container, and the relay.
fn python_mounts() -> Vec<String> {
    let python = python();
    let base = run(Command::new(&python).args(["-c", "import sys; print(sys.base_prefix)"]));
    let environment = |path: &Path| {
        let directory = path.ancestors().nth(2).expect("it is in bin/").to_path_buf();
        directory.to_str().expect("UTF-8").to_owned()
    };
    let mut places = vec![
        "/usr".to_owned(),
        base.stdout.trim().to_owned(),
        environment(Path::new(&python)),
        environment(&servers::secantusd()),
    ];
    places.retain(|place| place == "/usr" || !place.starts_with("/usr/"));
    places.sort();
    places.dedup();
    let relay = repository().join("tests/it/support/relay.py");
    let mounted = places.iter().map(|place| format!("{place}:{place}:ro"));
    mounted.chain([format!("{}:{RELAY}:ro", relay.display())]).collect()
}

fn given_program() -> Option<PathBuf> {
    env::var_os("KALEEM_TEST_DOCKER_PROGRAM").filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
