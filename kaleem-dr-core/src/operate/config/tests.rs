//! Faults of a config are named with their places.

use super::*;

fn parse(text: &str, environment: &Environment) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("t.toml"), &[], environment)
}

const LOCAL: &str = "[repository.local]\nlocation = \"/r\"\npassword = { file = \"/p\" }\n";

#[test]
fn a_fault_is_named_with_its_place() {
    for (text, place, words) in [
        ("[retention]\nkeep_dayly = 7\n", ":2:1", "keep_dayly"),
        ("[retention]\nkeep_daily = \"x\"\n", ":2:14", "keep_daily"),
        ("a = \n", ":1:", ""),
        ("[source.x]\ntype = \"oracle\"\n", ":2:8", "oracle"),
        ("[source.x]\n", ":1:", "type"),
        ("[source.Xx]\ntype = \"a\"\n", ":1:9", "Xx"),
        ("[source.files]\ntype = \"a\"\n", ":1:9", "another name"),
        ("[backup]\nsources = [\"mongo\"]\n", "", "mongo"),
        ("[backup]\nalso = [\"r2\"]\n", "", "r2"),
    ] {
        let error = parse(text, &Environment::default()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("t.toml{place}")), "{text:?}: {error}");
        if words != "keep_daily" {
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }
}

#[test]
fn a_secret_written_into_the_config_is_refused_and_not_repeated() {
    let text = "[repository.local]\nlocation = \"/r\"\npassword = \"canary\"\n";
    let error = parse(text, &Environment::default()).unwrap_err().to_string();
    assert!(
        error.starts_with("t.toml:3:") && error.contains("file = ") && !error.contains("canary"),
        "{error}"
    );
}

#[test]
fn variables_override_keys_of_any_type() {
    let environment: Environment = [
        ("KALEEM_DR__RETENTION__KEEP_DAILY", "14"),
        ("KALEEM_DR__BACKUP__PRUNE", "true"),
        ("KALEEM_DR__REPOSITORY__LOCAL__LOCATION", "/elsewhere"),
    ]
    .into_iter()
    .collect();
    let config = parse(LOCAL, &environment).unwrap();
    assert_eq!(config.settings.retention.keep_daily, 14);
    assert!(config.settings.backup.prune);
    assert_eq!(config.settings.repository["local"].location, "/elsewhere");
    let environment: Environment =
        [("KALEEM_DR__RETENTION__KEEP_DAYLY", "1")].into_iter().collect();
    assert!(parse(LOCAL, &environment).unwrap_err().to_string().contains("keep_dayly"));
}
