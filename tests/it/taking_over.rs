//! Files of the tools that were there before are read as those tools read them.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use crate::support::{
    program::{Outcome, kaleem_dr, run},
    servers::restic_program,
    site::Site,
};

fn private(path: &Path, content: &[u8]) {
    fs::write(path, content).expect("a file can be written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("its mode can be set");
}

/// The program without a config: variables describe the repository.
fn without_config(site: &Site, env_file: &Path, args: &[&str]) -> Outcome {
    let mut command = kaleem_dr();
    for variable in
        ["KALEEM_DR_CONFIG", "RESTIC_REPOSITORY", "RESTIC_PASSWORD", "RESTIC_PASSWORD_FILE"]
    {
        command.env_remove(variable);
    }
    run(command.env("HOME", site.path("home")).arg("--env-file").arg(env_file).args(args))
}

#[test]
fn a_password_file_that_restic_reads_opens_its_repository() {
    let site = Site::new();
    let (repository, password) = (site.path("by restic"), site.path("password"));
    let utf_16: Vec<u8> = [0xff, 0xfe]
        .into_iter()
        .chain("s3cret pass\r\n".encode_utf16().flat_map(u16::to_le_bytes))
        .collect();
    let contents: [&[u8]; 4] =
        [b"s3cret pass", b"\xef\xbb\xbfs3cret pass\n", b" s3cret pass \r\n\n", &utf_16];
    private(&password, contents[0]);
    let restic = |args: &[&str]| {
        run(Command::new(restic_program())
            .args(["-q", "--no-cache", "-r"])
            .arg(&repository)
            .arg("-p")
            .arg(&password)
            .args(args))
    };
    let made = restic(&["init"]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let variables = site.path("variables");
    private(
        &variables,
        format!(
            "export RESTIC_REPOSITORY='{}' RESTIC_PASSWORD_FILE={}\nKALEEM_DR_STATE_DIRECTORY=~/state\n",
            repository.display(),
            password.display()
        )
        .as_bytes(),
    );
    for content in contents {
        private(&password, content);
        let by_restic = restic(&["snapshots"]);
        assert_eq!(by_restic.code, Some(0), "{content:x?}: {}", by_restic.stderr);
        let ours = without_config(&site, &variables, &["snapshots"]);
        assert_eq!(ours.code, Some(0), "{content:x?}: {}", ours.stderr);
    }
    private(&password, b"another");
    assert_eq!(without_config(&site, &variables, &["snapshots"]).code, Some(12));
}

#[test]
fn an_env_file_is_read_as_the_shell_sources_it() {
    let site = Site::new();
    let home = site.path("home");
    fs::create_dir(&home).expect("a directory can be made");
    private(&home.join("pass"), b"s3cret");
    fs::create_dir(home.join("data")).expect("a directory can be made");
    fs::write(home.join("data/file"), "content").expect("a file can be written");
    let variables = site.path("variables");
    private(
        &variables,
        format!(
            "# as for restic\nexport RESTIC_REPOSITORY=~/repository RESTIC_PASSWORD_FILE=~/pass; KEEP_DAILY=7\n\
             export KALEEM_DR_STATE_DIRECTORY=~/state RESTIC_CACHE_DIR=~/cache\nBACKUP_PATHS={}/data\n",
            home.display()
        )
        .as_bytes(),
    );
    for args in [&["init"][..], &["backup"]] {
        let outcome = without_config(&site, &variables, args);
        assert_eq!(outcome.code, Some(0), "{}{}", outcome.stdout, outcome.stderr);
    }
    for made in ["repository/config", "state"] {
        assert!(home.join(made).exists(), "{made} is in the home directory");
    }
    assert!(!Path::new("~").exists(), "no directory is named `~`");

    private(&variables, b"export A=1\nrm -rf canary\n");
    let refused = without_config(&site, &variables, &["snapshots"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stdout);
    assert!(
        refused.stderr.contains("line 2") && !refused.stderr.contains("canary"),
        "{}",
        refused.stderr
    );
}

#[test]
fn a_template_is_written_to_the_config_that_is_named() {
    let site = Site::new();
    let path = site.path("new/kaleem-dr.toml");
    let init = |args: &[&str]| {
        run(kaleem_dr().env_remove("KALEEM_DR_CONFIG").arg("--config").arg(&path).args(args))
    };
    let written = init(&["config", "init"]);
    assert_eq!(written.code, Some(0), "{}", written.stderr);
    assert!(written.stdout.contains("new/kaleem-dr.toml"), "{}", written.stdout);
    assert!(fs::read_to_string(&path).expect("it is there").contains("[repository.local]"));
    let again = init(&["config", "init"]);
    assert_eq!(again.code, Some(2), "{}", again.stdout);
    let elsewhere = site.path("other.toml");
    let written = init(&["config", "init", elsewhere.to_str().expect("UTF-8")]);
    assert_eq!(written.code, Some(0), "{}", written.stderr);
    assert!(elsewhere.exists(), "a path of its own has precedence");
}
