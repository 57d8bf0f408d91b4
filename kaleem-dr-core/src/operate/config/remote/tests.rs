use std::{fs, os::unix::fs::PermissionsExt as _};

use super::*;

const R2_ID: &str = "0123456789abcdef0123456789abcdef";
const R2_SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn settings(toml: &str) -> RepositorySettings {
    toml::from_str(&format!("password = {{ env = \"P\" }}\n{toml}")).unwrap()
}

fn keyed(id: &str, secret: &str) -> Vec<(String, String)> {
    vec![("AWS_ACCESS_KEY_ID".into(), id.into()), ("AWS_SECRET_ACCESS_KEY".into(), secret.into())]
}

fn s3(toml: &str, environment: Vec<(String, String)>) -> Result<S3Access, String> {
    match location(&settings(toml), &environment.into_iter().collect()) {
        Ok(Location::S3(access)) => Ok(access),
        Ok(Location::Directory(path)) => Err(path.display().to_string()),
        Err(error) => Err(crate::ground::error_chain(&error)),
    }
}

#[test]
fn every_form_of_a_location_names_its_bucket() {
    for (toml, wanted) in [
        ("location = \"s3:https://h.example/b/p/q\"", "s3:https://h.example/b/p/q"),
        ("location = \"s3:h.example/b\"", "s3:https://h.example/b/"),
        ("location = \"s3://h.example/b/p/\"", "s3:https://h.example/b/p"),
        ("location = \"s3:http://127.0.0.1:9000/b/p\"", "s3:http://127.0.0.1:9000/b/p"),
        ("location = \"s3://b/p\"\nendpoint = \"https://h.example/\"", "s3:https://h.example/b/p"),
        ("location = \"s3:http://h.example/b\"\ninsecure_http = true", "s3:http://h.example/b/"),
    ] {
        assert_eq!(
            s3(toml, keyed("k", "s")).map(|access| access.location()).as_deref(),
            Ok(wanted),
            "{toml}"
        );
    }
    let mut environment = keyed("k", "s");
    environment.push(("AWS_ENDPOINT_URL".into(), "https://e.example".into()));
    assert_eq!(
        s3("location = \"s3://b/p\"", environment).unwrap().location(),
        "s3:https://e.example/b/p"
    );
    for (toml, why) in [
        ("location = \"s3://b/p\"", "endpoint"),
        ("location = \"s3:https://h.example\"", "no bucket"),
        ("location = \"s3:https://user:canary@h.example/b\"", "without credentials"),
        ("location = \"s3:ftp://h.example/b\"", "invalid S3 location"),
        (
            "location = \"s3:https://h.example/b\"\nendpoint = \"https://h.example\"",
            "have an endpoint",
        ),
        (
            "location = \"s3://b/p\"\nendpoint = \"https://h.example/b\"",
            "the endpoint contains the bucket",
        ),
        (
            "location = \"s3://b/p\"\nendpoint = \"https://b.h.example\"",
            "the endpoint contains the bucket",
        ),
        ("location = \"s3://b/p\"\nendpoint = \"https://h.example/x\"", "without a path"),
        ("location = \"s3:http://h.example/b\"", "insecure_http"),
        ("location = \"s3:https://h.example/b\"\nproxy = \"http://u:canary@p\"", "HTTPS_PROXY"),
        ("location = \"b2:x\"", "not supported"),
        ("location = \"/srv/repo\"", "/srv/repo"),
    ] {
        let error = s3(toml, keyed("k", "s")).unwrap_err();
        assert!(error.contains(why) && !error.contains("canary"), "{toml}: {error}");
    }
}

#[test]
fn r2_has_its_region_and_only_its_own_keys() {
    let r2 = "location = \"s3:https://a.r2.cloudflarestorage.com/b/p\"";
    let mut environment = keyed(R2_ID, R2_SECRET);
    environment.push(("AWS_DEFAULT_REGION".into(), "eu-central-1".into()));
    assert_eq!(s3(r2, environment.clone()).unwrap().region, "auto");
    assert_eq!(
        s3("location = \"s3:https://h.example/b\"", environment).unwrap().region,
        "eu-central-1"
    );
    for (id, secret) in [
        ("AKIAIOSFODNN7CANARY1", R2_SECRET),
        (R2_ID, "canary/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        (R2_SECRET, R2_ID),
        ("canary3456789abcdef0123456789abc", R2_SECRET),
    ] {
        let error = s3(r2, keyed(id, secret)).unwrap_err();
        assert!(
            error.contains("R2 API token") && !error.to_lowercase().contains("canary"),
            "{error}"
        );
        assert!(!error.contains(&id[..6]) && !error.contains(&secret[..6]), "{error}");
    }
    let error = s3("location = \"s3:https://h.example/b\"", keyed("k k", "s")).unwrap_err();
    assert!(error.contains("space"), "{error}");
    assert!(s3("location = \"s3:https://h.example/b\"", keyed("short", "s")).is_ok());
}

#[test]
fn a_key_comes_from_the_nearest_place() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let shared = write(
        "credentials",
        "[default]\naws_access_key_id=d\naws_secret_access_key=s\n[p]\naws_access_key_id=p\naws_secret_access_key=s\naws_session_token=t\n",
    );
    let id = |access: S3Access| access.access_key_id.expose_secret().to_owned();
    let plain = "location = \"s3:https://h.example/b\"";
    let mut environment = vec![("AWS_SHARED_CREDENTIALS_FILE".to_owned(), shared)];
    assert_eq!(id(s3(plain, environment.clone()).unwrap()), "d");
    environment.push(("AWS_PROFILE".into(), "p".into()));
    let of_profile = s3(plain, environment.clone()).unwrap();
    assert_eq!(
        of_profile.session_token.as_ref().map(|token| token.expose_secret().to_owned()).as_deref(),
        Some("t")
    );
    assert_eq!(id(of_profile), "p");
    environment.extend(keyed("e", "s"));
    assert_eq!(id(s3(plain, environment.clone()).unwrap()), "e");
    let rclone = write(
        "rclone.conf",
        "[r]\ntype=s3\nendpoint=h.example\naccess_key_id=r\nsecret_access_key=s\nregion=x\n[e]\ntype=s3\nendpoint=h.example\nenv_auth=true\n[n]\ntype=s3\nendpoint=h.example\n",
    );
    let of = |remote: &str| {
        s3(
            &format!("location = \"rclone:{remote}:b/p\"\nrclone_config = \"{rclone}\""),
            environment.clone(),
        )
    };
    let r = of("r").unwrap();
    assert_eq!((r.location().as_str(), r.region.as_str()), ("s3:https://h.example/b/p", "x"));
    assert_eq!((id(r), id(of("e").unwrap())), ("r".into(), "e".into()));
    assert!(of("n").unwrap_err().contains("env_auth"));
    assert!(s3(plain, Vec::new()).unwrap_err().contains("no S3 key"));
}
