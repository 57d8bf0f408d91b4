//! The jobs that a config or the defaults schedule, and their files.

use super::*;
use crate::operate::{
    config::Config,
    schedule::{Style, planned_files},
};

const TWO: &str = "[repository.local]\nlocation = \"/srv/a 50%\"\npassword = { file = \"/p\" }\n[repository.r2]\n\
    location = \"/srv/far\"\npassword = { credential = \"far\" }\n";

fn plan(text: &str, root: &Path) -> Result<Plan, ScheduleError> {
    let environment = Environment::default();
    let path = Path::new("/etc/kaleem-dr/kaleem-dr.toml");
    let config = Config::parse(text, path, &[], &environment).unwrap();
    Plan::of(&Premises {
        program: "/usr/bin/kaleem-dr".into(),
        config: path.into(),
        settings: &config.settings,
        references: References::of(text, path).unwrap(),
        environment: &environment,
        clock_fits: true,
        root: root.into(),
        commands: config.commands(),
        manager: Manager::System,
    })
}

fn jobs(text: &str) -> Vec<(String, String, String)> {
    let plan = plan(text, Path::new("/")).unwrap();
    plan.jobs
        .iter()
        .map(|job| (job.name.clone(), job.when.to_string(), job.args.join(" ")))
        .collect()
}

fn content(plan: &Plan, style: Style, name: &str) -> String {
    planned_files(plan, style)
        .unwrap()
        .into_iter()
        .find(|file| file.path.ends_with(name))
        .unwrap()
        .content
}

#[test]
fn the_defaults_are_the_handbooks_times() {
    let of =
        |name: &str, when: &str, args: &str| (name.to_owned(), when.to_owned(), args.to_owned());
    let alone = [
        of("backup", "daily 03:00", "backup"),
        of("verify", "daily 04:30", "verify"),
        of("check", "weekly sun 05:00", "check"),
        of("drill", "monthly 1 03:20", "drill"),
    ];
    assert_eq!(jobs(TWO), alone, "nothing feeds r2, so there is nothing to drill");
    let mut mirrored = alone.to_vec();
    mirrored.insert(1, of("replicate", "daily 03:30", "replicate"));
    mirrored.push(of("drill-r2", "monthly 1 04:20", "--repo r2 drill"));
    mirrored.push(of("drill-from-nothing", "quarterly 2 04:20", "--repo r2 drill --from-nothing"));
    assert_eq!(jobs(&format!("{TWO}mirror_of = \"local\"\n")), mirrored);
    let copied = jobs(&format!(
        "{TWO}[backup]\nalso = [\"r2\"]\n[schedule]\ncheck = \"off\"\ndrill_of = {{ r2 = \"weekly mon 01:00\" }}\n"
    ));
    let words: Vec<String> =
        copied.iter().map(|(name, when, _)| format!("{name} {when}")).collect();
    assert_eq!(
        words,
        [
            "backup daily 03:00",
            "verify daily 04:30",
            "drill monthly 1 03:20",
            "drill-r2 weekly mon 01:00",
            "drill-from-nothing quarterly 2 04:20"
        ]
    );
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for (more, words) in [
        ("[schedule]\nreplicate = \"hourly\"\n", "mirror_of"),
        ("[schedule]\ndrill_of = { local = \"hourly\" }\n", "drill_of.local"),
        ("[schedule]\ndrill_of = { other = \"hourly\" }\n", "drill_of.other"),
    ] {
        let error = plan(&format!("{TWO}{more}"), Path::new("/")).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let unclear = TWO.replace("repository.local", "repository.near");
    assert!(plan(&unclear, Path::new("/")).unwrap_err().to_string().contains("`local`"));
    let text = "[schedule]\nbackup = \"nightly\"\n";
    let error = Config::parse(text, Path::new("t.toml"), &[], &Environment::default())
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("t.toml:2:") && error.contains("daily 03:00"), "{error}");
}

#[test]
fn paths_reach_systemd_and_cron_as_they_are() {
    let plan = plan(TWO, Path::new("/")).unwrap();
    let service = content(&plan, Style::Systemd, "kaleem-dr-backup.service");
    assert!(service.lines().any(|line| line == "ReadWritePaths=\"-/srv/a 50%%\""), "{service}");
    assert!(
        service.contains("StateDirectory=kaleem-dr\nStateDirectoryMode=0700\n")
            && service.contains("PrivateTmp=yes")
    );
    let mut odd = plan.clone();
    odd.config = "/etc/it's 100%.toml".into();
    let cron = content(&odd, Style::Cron, "kaleem-dr");
    assert!(cron.contains(r"--config '/etc/it'\''s 100\%.toml' "), "{cron}");
    odd.config = format!("/{}", "x".repeat(500)).into();
    assert!(
        planned_files(&odd, Style::Cron).unwrap_err().to_string().contains("too long for cron")
    );
}

#[test]
fn a_credential_that_is_sealed_is_loaded_sealed() {
    let root = tempfile::tempdir().unwrap();
    let plain =
        content(&plan(TWO, root.path()).unwrap(), Style::Systemd, "kaleem-dr-backup.service");
    assert!(plain.contains("LoadCredential=far:/etc/kaleem-dr/credentials/far\n"), "{plain}");
    fs::create_dir_all(root.path().join("etc/credstore.encrypted")).unwrap();
    fs::write(root.path().join("etc/credstore.encrypted/far"), "sealed").unwrap();
    let sealed =
        content(&plan(TWO, root.path()).unwrap(), Style::Systemd, "kaleem-dr-backup.service");
    assert!(
        sealed.contains("LoadCredentialEncrypted=far:/etc/credstore.encrypted/far\n"),
        "{sealed}"
    );
    let failed =
        content(&plan(TWO, root.path()).unwrap(), Style::Systemd, "kaleem-dr-failed@.service");
    assert!(
        !failed.contains("LoadCredential"),
        "a notice needs only what `monitoring` refers to: {failed}"
    );
}

#[test]
fn each_job_waits_for_those_that_begin_before_it() {
    let plan = plan(&format!("{TWO}mirror_of = \"local\"\n"), Path::new("/")).unwrap();
    let replicate = content(&plan, Style::Systemd, "kaleem-dr-replicate.service");
    assert!(replicate.contains("\nAfter=kaleem-dr-backup.service\n"), "{replicate}");
    let check = content(&plan, Style::Systemd, "kaleem-dr-check.service");
    assert!(
        check.contains("\nAfter=kaleem-dr-backup.service kaleem-dr-replicate.service kaleem-dr-verify.service\n"),
        "{check}"
    );
}

#[test]
fn the_page_has_a_service_only_if_the_config_has_it_and_the_service_can_be_reached() {
    let alone = plan(TWO, Path::new("/")).unwrap();
    assert!(alone.page.is_none());
    let names = |plan: &Plan, style| -> Vec<String> {
        let files = planned_files(plan, style).unwrap();
        files.iter().map(|file| file.path.display().to_string()).collect()
    };
    assert!(!names(&alone, Style::Systemd).iter().any(|name| name.contains("serve")));
    let error = plan(&format!("{TWO}[serve]\n"), Path::new("/")).unwrap_err().to_string();
    assert!(error.contains("neither `token` nor `socket`"), "{error}");

    let with_token =
        plan(&format!("{TWO}[serve]\ntoken = {{ credential = \"page\" }}\n"), Path::new("/"))
            .unwrap();
    let unit = content(&with_token, Style::Systemd, "kaleem-dr-serve.service");
    for line in [
        "ExecStart=/usr/bin/kaleem-dr --config /etc/kaleem-dr/kaleem-dr.toml serve",
        "LoadCredential=page:/etc/kaleem-dr/credentials/page",
        "SuccessExitStatus=130",
        "StateDirectory=kaleem-dr",
        "ProtectSystem=strict",
        "WantedBy=multi-user.target",
    ] {
        assert!(unit.lines().any(|of| of == line), "{line}: {unit}");
    }
    assert!(!unit.contains("/srv/far"), "the page may not write to a repository: {unit}");
    let with_socket = |path: &str| {
        let text = format!("{TWO}[serve]\nsocket = \"{path}\"\n");
        content(&plan(&text, Path::new("/")).unwrap(), Style::Systemd, "kaleem-dr-serve.service")
    };
    assert!(with_socket("/run/kaleem-dr/page.sock").contains("\nRuntimeDirectory=kaleem-dr\n"));
    assert!(with_socket("/srv/web/page.sock").contains("\nReadWritePaths=/srv/web\n"));
    assert_eq!(names(&with_token, Style::Cron).len(), 1);
}

#[test]
fn a_job_that_runs_commands_has_the_rights_that_they_need_and_no_other_job_has() {
    let text = format!("{TWO}[backup]\nhooks = {{ before = [[\"mount\", \"/srv/backup\"]] }}\n");
    let unit = |text: &str, name: &str| {
        let plan = plan(text, Path::new("/")).unwrap();
        content(&plan, Style::Systemd, &format!("kaleem-dr-{name}.service"))
    };
    assert!(!unit(&text, "backup").contains("NoNewPrivileges"));
    assert!(unit(&text, "backup").contains("# Without restrictions"));
    assert!(unit(&text, "verify").contains("NoNewPrivileges=yes"));
    assert!(unit(TWO, "backup").contains("NoNewPrivileges=yes"));
}
