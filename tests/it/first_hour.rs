//! What a newcomer meets in the first hour: completions in a real shell, and a config whose faults are all named at once.

use std::{fs, process::Command};

use crate::support::{
    program::{kaleem_dr, run},
    site::Site,
};

/// The words that bash offers after a command line, of which the last word is being typed.
fn offered(line: &[&str]) -> String {
    let script = r#"
        source <("$0" completions bash)
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        function=$(complete -p kaleem-dr | sed 's/.*-F \([^ ]*\).*/\1/')
        "$function" kaleem-dr "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        echo "${COMPREPLY[*]}""#;
    let program = kaleem_dr().get_program().to_owned();
    let outcome = run(Command::new("bash").arg("-c").arg(script).arg(program).args(line));
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    outcome.stdout
}

#[test]
fn bash_completes_commands_options_and_values() {
    for (line, wanted) in [
        (&["kaleem-dr", "veri"][..], "verify"),
        (&["kaleem-dr", "verify", "--lev"], "--level"),
        (&["kaleem-dr", "verify", "--level", ""], "stored readable parsed restored"),
        (&["kaleem-dr", "drill", "--lang", ""], "en ar"),
        (&["kaleem-dr", "checklist", ""], "daily weekly monthly"),
        (&["kaleem-dr", "schedule", "ins"], "install"),
        (&["kaleem-dr", "config", ""], "check"),
        (&["kaleem-dr", "completions", "ba"], "bash"),
    ] {
        let offered = offered(line);
        assert!(offered.contains(wanted), "{line:?}: {offered}");
    }
}

#[test]
fn all_faults_of_a_config_are_named_at_once() {
    let site = Site::new();
    let missing = site.path("missing.pass");
    let site = site.with(&format!(
        "[repository.far]\nlocation = '/srv/far'\npassword = {{ file = '{}' }}\n\
         [source.home]\ntype = \"files\"\npaths = [\"~/data\"]\n\
         [source.etc]\ntype = \"files\"\npaths = [\"/etc\"]\nexclude = [\"[\"]",
        missing.display()
    ));
    let checked = site.run(["config", "check"]);
    assert_eq!(checked.code, Some(2), "{}{}", checked.stdout, checked.stderr);
    for fault in [
        "3 faults",
        "repository far: ",
        "missing.pass",
        "source home: ",
        "~/data must be absolute",
        "source etc: ",
    ] {
        assert!(checked.stderr.contains(fault), "{fault}: {}", checked.stderr);
    }
}

#[test]
fn a_valid_config_that_is_probably_wrong_is_warned_of() {
    let site = Site::new();
    let (there, missing) = (site.path("there"), site.path("mistyped"));
    fs::create_dir(&there).expect("a directory can be made");
    let site = site.with_files("configs", &[&there, &missing]).with(
        "[repository.relative]\nlocation = \"backups\"\npassword = { env = \"PASSWORD_OF_RELATIVE\" }",
    );
    let checked = run(site.command().env("PASSWORD_OF_RELATIVE", "x").args(["config", "check"]));
    assert_eq!(checked.code, Some(0), "{}{}", checked.stdout, checked.stderr);
    assert!(
        checked.stdout.contains("warning: source configs: ")
            && checked.stdout.contains("mistyped does not exist on this machine"),
        "{}",
        checked.stdout
    );
    assert!(
        checked.stdout.contains("warning: repository relative: backups is relative"),
        "{}",
        checked.stdout
    );
    assert_eq!(checked.stdout.matches("warning").count(), 2, "{}", checked.stdout);
}

#[test]
fn a_secret_that_only_a_unit_has_is_a_warning_and_a_missing_file_a_fault() {
    let of = |secret: &str| {
        format!("[source.mongo]\ntype = \"mongodb\"\ndatabases = [\"a\"]\nuri = {{ {secret} }}")
    };
    for (secret, code) in [
        ("credential = \"mongo-uri\"", 0),
        ("env = \"URI_OF_NO_ONE\"", 0),
        ("file = \"/nonexistent/mongo.uri\"", 2),
    ] {
        let site = Site::new().with(&of(secret));
        let checked = site.run(["config", "check"]);
        assert_eq!(checked.code, Some(code), "{secret}: {}{}", checked.stdout, checked.stderr);
        let said = if code == 0 { &checked.stdout } else { &checked.stderr };
        assert!(said.contains("source mongo: "), "{secret}: {said}");
    }
}

#[test]
fn the_next_command_that_config_init_names_finds_the_new_config() {
    let site = Site::new();
    let path = site.path("new.toml");
    for args in [&["config", "init", "--config"][..], &["config", "init"]] {
        let written = run(kaleem_dr().args(args).arg(&path));
        assert_eq!(written.code, Some(0), "{}", written.stderr);
        let named = format!("kaleem-dr --config {} config check", path.display());
        assert!(written.stdout.contains(&named), "{}", written.stdout);
        fs::remove_file(&path).expect("it was written");
    }
}
