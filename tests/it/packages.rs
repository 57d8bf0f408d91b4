//! The packages of `make dist`: their content, and their life on a fresh Debian with a booted systemd, by the commands of the README.
//!
//! Where no systemd can be booted, the tests of the second kind do nothing; `dev/test` reports that.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    program::{kaleem_dr, run},
    systemd::Systemd,
    tree::names,
};

/// Made once for all tests, of the program that they run.
fn packages() -> &'static Path {
    static MADE: OnceLock<TempDir> = OnceLock::new();
    MADE.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let program = kaleem_dr().get_program().to_owned();
        let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("dev/dist");
        let made = run(Command::new(dist).args([&program, &program]).arg(directory.path()));
        assert_eq!(made.code, Some(0), "dev/dist: {}", made.stderr);
        directory
    })
    .path()
}

/// The package with this ending.
fn package(ending: &str) -> PathBuf {
    let name = names(packages()).into_iter().find(|name| name.ends_with(ending));
    packages().join(name.unwrap_or_else(|| panic!("no {ending} was made")))
}

/// Runs a tool on the package with this ending; returns what it prints.
fn about(ending: &str, tool: &str) -> String {
    let mut words = tool.split_whitespace();
    let mut command = Command::new(words.next().expect("a program"));
    let outcome = run(command.args(words).arg(package(ending)));
    assert_eq!(outcome.code, Some(0), "{tool}: {}", outcome.stderr);
    outcome.stdout
}

#[test]
fn the_packages_contain_what_an_operator_expects_and_no_active_config() {
    let files = [
        "bin/kaleem-dr",
        "share/man/man1/kaleem-dr.1.gz",
        "share/man/man1/kaleem-dr-schedule-install.1.gz",
        "share/bash-completion/completions/kaleem-dr",
        "share/fish/vendor_completions.d/kaleem-dr.fish",
        "share/kaleem-dr/kaleem-dr.schema.json",
        "share/doc/kaleem-dr/copyright",
        "share/doc/kaleem-dr/third-party.gz",
        "share/doc/kaleem-dr/examples/kaleem-dr.toml",
        "share/doc/kaleem-dr/examples/kaleem-dr.rules.yml",
    ];
    for (ending, list, zsh) in [
        (".deb", "dpkg-deb --contents", "zsh/vendor-completions/_kaleem-dr"),
        (".rpm", "rpm --query --package --list", "zsh/site-functions/_kaleem-dr"),
        (".tar.gz", "tar -tzf", "zsh/site-functions/_kaleem-dr"),
    ] {
        let listed = about(ending, list);
        for file in files.into_iter().chain([zsh]) {
            assert!(listed.lines().any(|line| line.ends_with(file)), "{ending}: {file}: {listed}");
        }
        for line in listed.lines() {
            assert!(!line.contains("etc/kaleem-dr/") || line.ends_with('/'), "a file: {line}");
            assert!(!line.contains("systemd"), "units are made from the config: {line}");
        }
    }
    let listed = about(".deb", "dpkg-deb --contents");
    assert!(listed.lines().all(|line| line.contains(" root/root ")), "{listed}");
    for directory in ["./etc/kaleem-dr/", "./var/lib/kaleem-dr/"] {
        let line = listed.lines().find(|line| line.ends_with(directory)).expect("it is there");
        assert!(line.starts_with("drwx------"), "{line}");
    }
}

#[test]
fn the_metadata_name_the_version_the_libraries_and_every_crate() {
    let fields = about(".deb", "dpkg-deb --field");
    let version = run(kaleem_dr().arg("--version")).stdout.trim().replace("kaleem-dr ", "");
    assert!(fields.contains(&format!("Version: {version}\n")), "{fields}");
    assert!(fields.contains("Depends: libc6 (>= 2."), "{fields}");
    assert!(about(".rpm", "rpm --query --package --requires").contains("libc.so.6(GLIBC_2."));
    assert!(about(".rpm", "rpm --query --package --scripts").contains("disabled-timers"));
    let sbom: Value = serde_json::from_slice(&fs::read(package(".cdx.json")).expect("it is there"))
        .expect("JSON");
    let components = sbom["components"].as_array().expect("a list");
    for name in ["rustic_core", "opendal", "kaleem-dr-core"] {
        let component = components.iter().find(|component| component["name"] == name);
        let component = component.unwrap_or_else(|| panic!("{name} is missing"));
        assert!(component["licenses"][0]["expression"].is_string(), "{component}");
        let has_hash = component["hashes"][0]["content"].is_string();
        assert_eq!(has_hash, name != "kaleem-dr-core", "{component}");
    }
    assert!(components.iter().all(|component| component["name"] != "clap_derive"), "a macro");
    let text = sbom.to_string();
    assert!(!text.contains("file://") && !text.contains("path+"), "a path of this machine");
    let checked =
        run(Command::new("sha256sum").args(["--check", "SHA256SUMS"]).current_dir(packages()));
    assert_eq!(checked.stdout.matches(": OK").count(), 4, "{}{}", checked.stdout, checked.stderr);
}

/// The commands of the README's quick start, from the installation on.
fn quick_start() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(path).expect("it can be read");
    let section = readme.split("\n## Quick start\n").nth(1).expect("the README has a quick start");
    let block = section.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next());
    let lines = block.expect("it has commands").lines();
    let commands = lines.map(|line| line.split(" #").next().unwrap_or_default().trim().to_owned());
    commands.filter(|command| !command.is_empty()).collect()
}

/// Data to back up, and a directory with the packages.
fn fresh(host: &str) -> Option<Systemd> {
    let machine = Systemd::machine(host)?;
    machine.succeed("mkdir -p /home/ops; echo 'Dear reader' >/home/ops/letter");
    for name in names(packages()) {
        fs::copy(packages().join(&name), machine.at(&format!("/root/{name}")))
            .expect("it can be copied");
    }
    Some(machine)
}

/// Runs the quick start after the installation, lets timers fire, and looks at the status.
fn set_up(machine: &Systemd, commands: &[String]) {
    assert!(commands.iter().any(|command| command == "kaleem-dr schedule install"), "{commands:?}");
    for command in commands {
        let outcome = machine.run(&format!("cd /root; {command}"));
        assert_eq!(outcome.code, Some(0), "{command}: {}{}", outcome.stdout, outcome.stderr);
        if command.contains("config init") {
            // What it prints is what the README continues with.
            let next = outcome.stdout.lines().skip_while(|line| *line != "next:").skip(1);
            for next in next.map(str::trim) {
                assert!(commands.iter().any(|command| command == next), "{next}: {commands:?}");
            }
        }
    }
    for job in ["backup", "verify"] {
        let (result, journal) = machine.await_timer(job);
        assert_eq!(result, "success", "{job}: {journal}");
    }
    let status = machine.succeed("kaleem-dr status");
    assert!(status.contains("home"), "{status}");
    let points: Value =
        serde_json::from_str(&machine.succeed("kaleem-dr points --json")).expect("JSON");
    assert_eq!(points.as_array().map(Vec::len), Some(2), "by hand and by the timer: {points}");
    assert_eq!(machine.succeed("kaleem-dr dump home /home/ops/letter"), "Dear reader\n");
}

/// The content of a tree that must not change.
fn content(machine: &Systemd, directories: &str) -> String {
    machine.succeed(&format!("find {directories} -type f -exec sha256sum {{}} + | sort -k2"))
}

#[test]
fn the_deb_is_installed_used_removed_and_purged_on_a_fresh_debian() {
    let Some(machine) = fresh("deb1") else { return };
    let architecture = about(".deb", "dpkg-deb --field")
        .lines()
        .find_map(|line| line.strip_prefix("Architecture: ").map(str::to_owned));
    let architecture = architecture.expect("it has one");
    let commands: Vec<String> = quick_start()
        .iter()
        .map(|command| command.replace("_amd64.deb", &format!("_{architecture}.deb")))
        .collect();
    assert!(commands[0].starts_with("apt install ./kaleem-dr_"), "{commands:?}");
    set_up(&machine, &commands);
    assert!(
        machine
            .succeed("head -n 1 /etc/kaleem-dr/kaleem-dr.toml")
            .contains("/usr/share/kaleem-dr/")
    );
    let units = machine.succeed("systemctl cat kaleem-dr-backup.service");
    assert!(
        units.contains("ExecStart=/usr/bin/kaleem-dr --config /etc/kaleem-dr/kaleem-dr.toml"),
        "{units}"
    );

    let kept = "/etc/kaleem-dr /var/lib/kaleem-dr/ledger.sqlite /srv/backup";
    let before = content(&machine, kept);
    // An upgrade leaves the timers alone.
    let timers = "systemctl list-timers --no-legend 'kaleem-dr-*' | wc -l";
    let running = machine.succeed(timers);
    assert_ne!(running, "0\n");
    machine.succeed("dpkg --install /root/kaleem-dr_*.deb");
    assert_eq!(machine.succeed(timers), running);

    machine.succeed("apt-get remove -y kaleem-dr");
    assert_eq!(machine.succeed(timers), "0\n", "nothing starts a missing program");
    assert_ne!(machine.run("command -v kaleem-dr").code, Some(0));
    assert_eq!(content(&machine, kept), before);
    machine.succeed("cd /root; apt-get install -y ./kaleem-dr_*.deb");
    assert_eq!(machine.succeed(timers), running, "the schedule is back");
    machine.succeed("kaleem-dr status");

    machine.succeed("apt-get purge -y kaleem-dr");
    assert_eq!(
        content(&machine, kept),
        before,
        "the repository, its password and the history are kept"
    );
    let left = machine.succeed(
        "find / -xdev -name '*kaleem*' -not -path '/root/*' -not -path '/proc/*' -not -path '/tmp/*' -not -path '/run/*' -not -path '/var/log/*' | sort",
    );
    for path in left.lines() {
        assert!(
            path.starts_with("/etc/kaleem-dr") || path.starts_with("/var/lib/kaleem-dr"),
            "{left}"
        );
    }
    let failed = machine.succeed("systemctl --failed --no-legend --plain");
    assert!(!failed.contains("kaleem-dr"), "{failed}");
}

#[test]
fn the_tarball_is_an_installation_below_any_directory() {
    let Some(machine) = fresh("tar1") else { return };
    machine.succeed("tar -xzf /root/kaleem-dr-*.tar.gz -C /usr/local --strip-components=1");
    set_up(&machine, &quick_start()[1..]);
    let first = machine.succeed("head -n 1 /etc/kaleem-dr/kaleem-dr.toml");
    assert_eq!(first, "#:schema file:///usr/local/share/kaleem-dr/kaleem-dr.schema.json\n");
    assert_eq!(
        fs::metadata(machine.at("/usr/local/bin/kaleem-dr"))
            .expect("it is there")
            .permissions()
            .mode()
            & 0o7777,
        0o755
    );
}
