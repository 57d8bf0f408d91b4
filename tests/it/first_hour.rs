//! What a newcomer meets in the first hour: completions in a real shell, and a config whose faults are all named at once.

use std::{fs, path::Path, process::Command};

use crate::support::{
    program::{kaleem_dr, run},
    site::Site,
};

/// The words that bash offers after a command line, of which the last word is being typed.
fn offered(line: &[&str]) -> String {
    let script = r#"
        source <(kaleem-dr completions bash)
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_TYPE=9
        function=$(complete -p kaleem-dr | sed 's/.*-F \([^ ]*\).*/\1/')
        "$function" kaleem-dr "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        echo "${COMPREPLY[*]}""#;
    let outcome = run(on_path(Command::new("bash").args(["-c", script, "bash"])).args(line));
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    outcome.stdout
}

/// With our program on the `PATH`.
fn on_path(command: &mut Command) -> &mut Command {
    let program = kaleem_dr();
    let directory = Path::new(program.get_program()).parent().expect("it has a directory");
    command.env("PATH", format!("{}:/usr/bin:/bin", directory.display()))
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
        for word in wanted.split(' ') {
            assert!(offered.contains(word), "{line:?}: {offered}");
        }
    }
}

/// A site with two sources, two repositories and one run.
fn to_complete() -> Site {
    let site = Site::new().named("shop1");
    let tree = site.path("tree");
    fs::create_dir(&tree).expect("a directory can be made");
    fs::write(tree.join("letter"), "Dear reader").expect("a file can be written");
    let mirror = site.path("mirror");
    let site = site
        .with_files("configs", &[&tree])
        .with_files("letters", &[&tree])
        .with_mirror("r2", &mirror);
    site.initialised_and_backed_up();
    site
}

#[test]
fn bash_completes_sources_repositories_points_and_hosts_of_the_config() {
    let site = to_complete();
    let config = site.config_path();
    let config = config.to_str().expect("UTF-8");
    let ids: Vec<String> = site
        .snapshots()
        .iter()
        .map(|snapshot| snapshot["short_id"].as_str().expect("an id").to_owned())
        .collect();
    for (line, wanted, unwanted) in [
        (&["backup", ""][..], &["configs", "letters"][..], "r2"),
        (&["restore", "con"], &["configs"], "letters"),
        (&["--repo", ""], &["local", "r2"], "configs"),
        (&["replicate", ""], &["r2"], "configs"),
        (&["--host", ""], &["shop1", "any"], "configs"),
        (&["verify", "--point", ""], &["latest", "latest~1", &ids[0], &ids[1]], "configs"),
        (&["ls", ""], &["latest", &ids[0], "configs"], "r2"),
        (&["forget", ""], &[&ids[0], &ids[1]], "latest"),
    ] {
        let words = [&["kaleem-dr", "--config", config], line].concat();
        let offered = offered(&words);
        for word in wanted {
            assert!(offered.contains(word), "{line:?}: {word}: {offered}");
        }
        assert!(!offered.split_whitespace().any(|word| word == unwanted), "{line:?}: {offered}");
    }
    assert_eq!(offered(&["kaleem-dr", "--config", "/nonexistent.toml", "backup", "c"]).trim(), "");
}

#[test]
fn an_interactive_zsh_completes_commands_and_sources() {
    let site = to_complete();
    let functions = site.path("functions");
    fs::create_dir(&functions).expect("a directory can be made");
    let script = run(kaleem_dr().args(["completions", "zsh"])).stdout;
    fs::write(functions.join("_kaleem-dr"), script).expect("a file can be written");
    // A terminal of its own, in which keys are pressed, as an operator does.
    let driver = r#"
        zmodload zsh/zpty
        zpty z 'env PS1="> " zsh -fi'
        typed() { zpty -w -n z "$1" }
        until_seen() { zpty -r z part "*$1*" || exit 1; print -rn -- $part }
        typed 'fpath=('$1' $fpath); autoload -U compinit; compinit -u -D; print rea''dy'$'\n'
        until_seen ready >/dev/null
        typed $'kaleem-dr veri\t'
        until_seen 'verify'
        typed $'con\t'
        until_seen 'configs'
        typed $'--level par\t'
        until_seen 'parsed'"#;
    let mut zsh = Command::new("timeout");
    zsh.args(["60", "zsh", "-f", "-c", driver, "zsh"]).arg(&functions);
    let outcome =
        run(on_path(&mut zsh).env("KALEEM_DR_CONFIG", site.config_path()).env("TERM", "dumb"));
    assert_eq!(outcome.code, Some(0), "{}{}", outcome.stdout, outcome.stderr);
}

#[test]
fn every_command_has_a_manual_page() {
    let site = Site::new();
    let pages = site.path("man");
    fs::create_dir(&pages).expect("a directory can be made");
    let written = run(kaleem_dr().arg("man").arg("--directory").arg(&pages));
    assert_eq!(written.code, Some(0), "{}", written.stderr);
    let help = run(kaleem_dr().arg("--help")).stdout;
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands: Vec<&str> = commands
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect();
    assert!(commands.len() > 30, "{commands:?}");
    for command in commands.into_iter().chain(["schedule-install", "config-init"]) {
        let page = fs::read_to_string(pages.join(format!("kaleem-dr-{command}.1")));
        assert!(page.is_ok_and(|page| page.contains(".SH SYNOPSIS")), "{command}");
    }
    let printed = run(kaleem_dr().args(["man", "schedule", "install"])).stdout;
    assert!(printed.contains("kaleem\\-dr\\-schedule\\-install"), "{printed}");
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
    for args in [&["config", "init", "--template", "--config"][..], &["config", "init"]] {
        let written = run(kaleem_dr().args(args).arg(&path));
        assert_eq!(written.code, Some(0), "{}", written.stderr);
        let named = format!("kaleem-dr --config {} config check", path.display());
        assert!(written.stdout.contains(&named), "{}", written.stdout);
        fs::remove_file(&path).expect("it was written");
    }
}

/// A site with one small tree.
fn small() -> Site {
    let site = Site::new();
    let tree = site.path("tree");
    fs::create_dir(&tree).expect("a directory can be made");
    fs::write(tree.join("letter"), "Dear reader").expect("a file can be written");
    site.with_files("letters", &[&tree])
}

#[test]
fn a_quiet_job_that_ends_well_prints_nothing_and_one_that_does_not_prints_its_report() {
    let site = small().initialised();
    for job in [&["-q", "backup"][..], &["-q", "verify"], &["-q", "check"]] {
        let done = site.succeed(job.iter().copied());
        assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""), "{job:?}");
    }
    assert_ne!(site.succeed(["-q", "snapshots"]).stdout, "", "this is what it was asked for");
    assert_ne!(site.succeed(["-q", "--json", "backup"]).stdout, "");
    let site = site.with("[source.missing]\ntype = \"files\"\npaths = [\"/nonexistent\"]");
    let partly = site.run(["-q", "backup"]);
    assert_eq!(partly.code, Some(3), "{}", partly.stderr);
    assert!(
        partly.stdout.contains("letters") && partly.stdout.contains("missing"),
        "{}",
        partly.stdout
    );
}

#[test]
fn lists_for_people_begin_with_the_newest() {
    let site = small();
    site.initialised_and_backed_up();
    site.succeed(["backup"]);
    let newest =
        site.snapshots().last().expect("two")["short_id"].as_str().expect("an id").to_owned();
    let listed = site.succeed(["snapshots"]).stdout;
    let first = listed.lines().find(|line| line.contains("letters")).expect("a snapshot");
    assert!(first.contains(&newest), "{listed}");
    let history = site.succeed(["history"]).stdout;
    let jobs: Vec<&str> = history.lines().filter(|line| line.contains("backup")).collect();
    let points = site.succeed(["points"]).stdout;
    let run = jobs[0].split_whitespace().next().expect("a run");
    let first = points.lines().find(|line| line.contains("letters")).expect("a point");
    assert!(first.contains(run), "{points}{history}");
}

#[test]
fn the_runbooks_commands_use_its_config_and_it_is_available_as_json() {
    let site = small();
    let text = site.succeed(["runbook"]).stdout;
    let export = format!("export KALEEM_DR_CONFIG={}", site.config_path().display());
    let (before, after) = text.split_once(&export).expect("it names the config");
    assert!(!before.contains("    kaleem-dr ") && after.contains("    kaleem-dr "), "{text}");
    let (_, lines) = site.json(["runbook", "--lang", "ar"]);
    assert_eq!(
        (&lines[0]["message_type"], &lines[0]["language"]),
        (&"runbook".into(), &"ar".into())
    );
    assert!(lines[0]["markdown"].as_str().is_some_and(|text| text.contains(&export)), "{lines:?}");
}

#[test]
fn a_backup_before_init_does_not_spoil_the_weekly_list() {
    let site = small();
    let failures = |site: &Site| {
        let (_, lines) = site.json(["checklist", "weekly"]);
        let text = lines[0].to_string();
        text.contains("with exit 10")
    };
    let early = site.run(["backup"]);
    assert_eq!(early.code, Some(10), "{}", early.stderr);
    assert!(failures(&site), "nothing has succeeded yet");
    site.initialised_and_backed_up();
    assert!(!failures(&site));
    fs::rename(site.repository(), site.path("elsewhere")).expect("it can be moved");
    assert_eq!(site.run(["backup"]).code, Some(10));
    fs::rename(site.path("elsewhere"), site.repository()).expect("it can be moved");
    site.succeed(["backup"]);
    assert!(failures(&site), "a repository that was lost for a night is a failure");
}
