//! Reads the handbook's env file and restic's variables in their original formats.

use std::fmt::Write as _;

use super::secret::Environment;

/// Parses assignments as a POSIX shell sources them: several on a line, `export`, comments, single and double quotes, backslashes,
/// and `~` for `home`. Expands nothing else: a line that needs expansion is refused, and so is a command.
///
/// # Errors
/// The number of the invalid line, and nothing of its content.
pub fn parse_env_file(text: &str, home: Option<&str>) -> Result<Environment, InvalidEnvFile> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut variables = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let assignments = assignments(line, home);
        variables.extend(assignments.map_err(|why| InvalidEnvFile { line: number + 1, why })?);
    }
    Ok(variables.into_iter().collect())
}

/// An invalid line of an env file.
#[derive(Debug, thiserror::Error)]
#[error("line {line} of the env file: {why}")]
pub struct InvalidEnvFile {
    line: usize,
    why: &'static str,
}

/// The assignments of a line.
fn assignments(line: &str, home: Option<&str>) -> Result<Vec<(String, String)>, &'static str> {
    let mut found = Vec::new();
    let mut rest = line.trim();
    let mut is_exported = false;
    while !rest.is_empty() && !rest.starts_with('#') {
        if let Some(next) = rest.strip_prefix(';') {
            (rest, is_exported) = (next.trim_start(), false);
            continue;
        }
        if let Some(next) =
            rest.strip_prefix("export").filter(|next| next.starts_with(char::is_whitespace))
        {
            (rest, is_exported) = (next.trim_start(), true);
            continue;
        }
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let is_name = !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit());
        match after.strip_prefix('=') {
            Some(_) if !is_name => return Err("the name is not a valid variable name"),
            Some(value) => {
                let (value, next) = unquote(value, home)?;
                found.push((name.to_owned(), value));
                rest = next.trim_start();
            }
            // `export NAME` changes no value.
            None if is_name
                && is_exported
                && !after.starts_with(|c: char| !c.is_whitespace() && c != ';') =>
            {
                rest = after.trim_start();
            }
            None if !found.is_empty() => return Err("the value has a space; quote it"),
            None => return Err("it is not NAME=VALUE"),
        }
    }
    Ok(found)
}

/// The value at the beginning of `text`, and the text after it.
fn unquote<'a>(text: &'a str, home: Option<&str>) -> Result<(String, &'a str), &'static str> {
    let mut value = String::new();
    let mut rest = text;
    if let Some(after) = text.strip_prefix('~') {
        if !after.is_empty()
            && !after.starts_with(|c: char| c == '/' || c == ':' || c == ';' || c.is_whitespace())
        {
            return Err("`~` with a user's name is not expanded; write the path");
        }
        value.push_str(
            home.ok_or("`~` cannot be expanded, because HOME is not set; write the path")?,
        );
        rest = after;
    }
    let mut chars = rest.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' => loop {
                match chars.next() {
                    Some((_, '\'')) => break,
                    Some((_, c)) => value.push(c),
                    None => return Err("a quote is not closed"),
                }
            },
            '"' => loop {
                match chars.next() {
                    Some((_, '"')) => break,
                    Some((_, '\\')) => match chars.next() {
                        Some((_, c @ ('"' | '\\' | '$' | '`'))) => value.push(c),
                        Some((_, c)) => value.extend(['\\', c]),
                        None => return Err("a quote is not closed"),
                    },
                    Some((_, '$' | '`')) => {
                        return Err("`$` and backquotes are not expanded; use single quotes");
                    }
                    Some((_, c)) => value.push(c),
                    None => return Err("a quote is not closed"),
                }
            },
            '\\' => value.push(chars.next().ok_or("a backslash ends it")?.1),
            '$' | '`' => return Err("`$` and backquotes are not expanded; use single quotes"),
            c if c.is_whitespace() => return Ok((value, &rest[at..])),
            // `URI=mongodb://h/db?a=b&c=d`: a shell would cut it at `&`, which is never intended. A `;` ends the
            // command if nothing follows it directly.
            ';' if rest[at + 1..].is_empty() || rest[at + 1..].starts_with(char::is_whitespace) => {
                return Ok((value, &rest[at..]));
            }
            c => value.push(c),
        }
    }
    Ok((value, ""))
}

/// The config that restic's and the handbook's variables describe, as TOML that refers to them.
/// `None` if they name no repository.
///
/// # Errors
/// If a variable requests something unsupported: nothing is ignored silently.
pub fn config_of_environment(environment: &Environment) -> Result<Option<String>, String> {
    let Some(location) =
        environment.get("RESTIC_REPOSITORY").or_else(|| environment.get("RESTIC_REPO"))
    else {
        return Ok(None);
    };
    let password = if environment.get("RESTIC_PASSWORD").is_some() {
        r#"{ env = "RESTIC_PASSWORD" }"#.to_owned()
    } else if let Some(path) = environment.get("RESTIC_PASSWORD_FILE") {
        format!("{{ file = {} }}", quoted(path))
    } else if let Some(command) = environment.get("RESTIC_PASSWORD_COMMAND") {
        let words = shlex::split(command).filter(|words| !words.is_empty()).ok_or(
            "RESTIC_PASSWORD_COMMAND has an open quote or is empty; it is split into words as a shell does",
        )?;
        let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        format!("{{ command = [{}] }}", words.join(", "))
    } else {
        return Err(
            "RESTIC_REPOSITORY is set without a password; set RESTIC_PASSWORD_FILE too".into()
        );
    };
    let mut config = String::new();
    if let Some(directory) = environment.get("RESTIC_CACHE_DIR") {
        line(&mut config, "cache_directory", directory);
    }
    if let Some(directory) = environment.get("KALEEM_DR_STATE_DIRECTORY") {
        line(&mut config, "state_directory", directory);
    }
    let _ = writeln!(
        config,
        "[repository.local]\nlocation = {}\npassword = {password}",
        quoted(location)
    );
    let keeps: Vec<(&str, u32)> = [
        ("KEEP_DAILY", "keep_daily"),
        ("KEEP_WEEKLY", "keep_weekly"),
        ("KEEP_MONTHLY", "keep_monthly"),
    ]
    .into_iter()
    .filter_map(|(variable, key)| environment.get(variable).map(|value| (variable, key, value)))
    .map(|(variable, key, value)| {
        value.parse().map(|n| (key, n)).map_err(|_| format!("{variable} is not a number"))
    })
    .collect::<Result<_, _>>()?;
    if !keeps.is_empty() {
        config.push_str("[backup]\nforget = true\nprune = true\n[retention]\n");
        for (key, n) in keeps {
            let _ = writeln!(config, "{key} = {n}");
        }
    }
    if let Some(root) = environment.get("BACKUP_ROOT") {
        config.push_str("[staged]\n");
        line(&mut config, "directory", root);
    }
    // The handbook has a check for its restore test, which corresponds to our drill.
    if environment.get("RESTORE_HC_URL").is_some() {
        config.push_str(
            "[monitoring.healthchecks]\nchecks = { drill = { env = \"RESTORE_HC_URL\" } }\n",
        );
    }
    config.push_str(&sources(environment)?);
    Ok(Some(config))
}

/// The sources that the handbook's variables describe.
fn sources(environment: &Environment) -> Result<String, String> {
    let mut config = String::new();
    if environment.get("MONGO_URI").is_some() {
        config.push_str("[source.mongo]\ntype = \"mongodb\"\nuri = { env = \"MONGO_URI\" }\n");
        match environment.get("MONGO_MODE").unwrap_or("host") {
            "host" => {}
            "docker" => {
                let container = environment.get("MONGO_CONTAINER").unwrap_or("kaleem-mongo");
                in_container(&mut config, Some(container));
            }
            _ => return Err("MONGO_MODE must be `host` or `docker`".into()),
        }
        if environment.get("MONGO_RESTORE_URI").is_some() {
            config.push_str("restore_uri = { env = \"MONGO_RESTORE_URI\" }\n");
        }
    }
    let rabbitmq = address(environment, &["RABBIT_URL", "RABBIT_API"], "RABBIT_CONTAINER");
    if let Some((url, container)) = rabbitmq {
        config.push_str("[source.rabbitmq]\ntype = \"rabbitmq\"\n");
        line(
            &mut config,
            "url",
            url.unwrap_or("http://127.0.0.1:15672")
                .trim_end_matches('/')
                .trim_end_matches("/api/definitions")
                .trim_end_matches("/api"),
        );
        in_container(&mut config, container);
        line(&mut config, "username", environment.get("RABBIT_USER").unwrap_or("kaleem"));
        let password =
            ["RABBIT_PASS", "RABBIT_PASSWORD"].iter().find(|name| environment.get(name).is_some());
        let password = password.ok_or(
            "RABBIT_URL or RABBIT_CONTAINER is set, but neither RABBIT_PASS nor RABBIT_PASSWORD is",
        )?;
        let _ = writeln!(config, "password = {{ env = \"{password}\" }}");
    }
    if let Some((url, container)) = address(environment, &["QDRANT_URL"], "QDRANT_CONTAINER") {
        config.push_str("[source.qdrant]\ntype = \"qdrant\"\n");
        line(&mut config, "url", url.unwrap_or("http://127.0.0.1:6333"));
        in_container(&mut config, container);
        if environment.get("QDRANT_API_KEY").is_some() {
            config.push_str("api_key = { env = \"QDRANT_API_KEY\" }\n");
        }
    }
    if environment.get("N8N_ENABLED").is_some_and(|enabled| !matches!(enabled, "" | "0")) {
        if let Some(other) = environment.get("DB_TYPE").filter(|kind| *kind != "sqlite") {
            return Err(format!(
                "n8n uses `DB_TYPE={other}`, which this source does not read: unset N8N_ENABLED, back up that database with its own tool, such as \
                 pg_dump or pgBackRest, and add n8n's directory with the encryption key to BACKUP_PATHS"
            ));
        }
        let folder = environment.get("N8N_USER_FOLDER");
        let folder = folder.ok_or(
            "N8N_ENABLED is set, but not N8N_USER_FOLDER: set it to the directory that contains n8n's `.n8n`",
        )?;
        config.push_str("[source.n8n]\ntype = \"n8n\"\n");
        line(&mut config, "directory", &format!("{}/.n8n", folder.trim_end_matches('/')));
        for (variable, key) in
            [("N8N_BINARY_DATA_STORAGE_PATH", "binary_data"), ("N8N_STORAGE_PATH", "storage")]
        {
            if let Some(path) = environment.get(variable) {
                line(&mut config, key, path);
            }
        }
        if environment.get("N8N_ENCRYPTION_KEY").is_some() {
            config.push_str("encryption_key = { env = \"N8N_ENCRYPTION_KEY\" }\n");
        }
    }
    if let Some(paths) = environment.get("BACKUP_PATHS") {
        let paths: Vec<String> =
            paths.split([' ', ':']).filter(|path| !path.is_empty()).map(quoted).collect();
        let _ =
            writeln!(config, "[source.configs]\ntype = \"files\"\npaths = [{}]", paths.join(", "));
    }
    Ok(config)
}

/// The address of a server: a URL, or else the name of its container. `None` if neither is set.
fn address<'a>(
    environment: &'a Environment,
    urls: &[&str],
    container: &str,
) -> Option<(Option<&'a str>, Option<&'a str>)> {
    match urls.iter().find_map(|name| environment.get(name)) {
        Some(url) => Some((Some(url), None)),
        None => environment.get(container).map(|container| (None, Some(container))),
    }
}

/// The container of the source whose table ends the config, if it is in one.
fn in_container(config: &mut String, container: Option<&str>) {
    if let Some(container) = container {
        // Writing to a String cannot fail.
        let _ = writeln!(config, "docker = {{ container = {} }}", quoted(container));
    }
}

fn line(config: &mut String, key: &str, value: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(config, "{key} = {}", quoted(value));
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handbooks_env_file_reads_as_a_shell_would_read_it() {
        let environment = parse_env_file(
            "# secrets\nMONGO_MODE=host\nexport MONGO_URI=\"mongodb://backup:p%40ss@127.0.0.1:27017/kaleem?authSource=admin&w=1\"\nN8N_ENABLED=0\nA='$x y' # why\n",
            None,
        )
        .unwrap();
        assert_eq!(
            environment.get("MONGO_URI"),
            Some("mongodb://backup:p%40ss@127.0.0.1:27017/kaleem?authSource=admin&w=1")
        );
        assert_eq!(environment.get("A"), Some("$x y"));
        for bad in [
            "X=$(id)",
            "X=\"$HOME\"",
            "X='a",
            "no assignment",
            "1X=a",
            "X=a b",
            "X=~",
            "X=~root/a",
            "unset X",
        ] {
            let error = parse_env_file(bad, None).unwrap_err().to_string();
            assert!(error.starts_with("line 1"), "{bad}: {error}");
        }
    }

    #[test]
    fn several_assignments_export_and_the_home_directory_are_read_as_a_shell_does() {
        let text = "\u{feff}export A=1 B='2 3'\nexport A C=c\\ d; D=e # f\nexport E G2\nF=~/restic G=~ H=a~b I='~'\nJ=a;b\nK=; export L=x;\n";
        let environment = parse_env_file(text, Some("/home/ops")).unwrap();
        let expected = [
            ("A", Some("1")),
            ("B", Some("2 3")),
            ("C", Some("c d")),
            ("D", Some("e")),
            ("E", None),
            ("F", Some("/home/ops/restic")),
            ("G", Some("/home/ops")),
            ("H", Some("a~b")),
            ("I", Some("~")),
            ("J", Some("a;b")),
            ("K", None),
            ("L", Some("x")),
        ];
        for (name, value) in expected {
            assert_eq!(environment.get(name), value, "{name}");
        }
    }

    #[test]
    fn an_n8n_on_another_database_is_refused_with_what_to_use() {
        let environment: Environment = [
            ("RESTIC_REPO", "/r"),
            ("RESTIC_PASSWORD_FILE", "/p"),
            ("N8N_ENABLED", "1"),
            ("N8N_USER_FOLDER", "/home/node"),
            ("DB_TYPE", "postgresdb"),
        ]
        .into_iter()
        .collect();
        let refused = config_of_environment(&environment).unwrap_err();
        assert!(refused.contains("pg_dump") && refused.contains("DB_TYPE"), "{refused}");
    }

    #[test]
    fn every_service_of_the_handbook_has_its_source() {
        let environment: Environment = [
            ("RESTIC_REPO", "/backups/restic-local"),
            ("RESTIC_PASSWORD_FILE", "/etc/restic.pass"),
            ("BACKUP_ROOT", "/backups"),
            ("MONGO_URI", "mongodb://h/kaleem"),
            ("MONGO_MODE", "docker"),
            ("QDRANT_CONTAINER", "kaleem-qdrant"),
            ("RABBIT_URL", "http://127.0.0.1:15672/api"),
            ("RABBIT_PASS", "x"),
            ("N8N_ENABLED", "1"),
            ("N8N_USER_FOLDER", "/home/node"),
            ("BACKUP_PATHS", "/etc /opt/kaleem"),
            ("RESTORE_HC_URL", "https://hc-ping.com/0b8a9e3c-6f53-4d5e-8a51-1c2d3e4f5a6b"),
        ]
        .into_iter()
        .collect();
        let config = config_of_environment(&environment).unwrap().unwrap();
        for line in [
            "directory = \"/backups\"",
            "docker = { container = \"kaleem-mongo\" }",
            "docker = { container = \"kaleem-qdrant\" }",
            "url = \"http://127.0.0.1:6333\"",
            "url = \"http://127.0.0.1:15672\"",
            "directory = \"/home/node/.n8n\"",
            "paths = [\"/etc\", \"/opt/kaleem\"]",
            "checks = { drill = { env = \"RESTORE_HC_URL\" } }",
        ] {
            assert!(config.lines().any(|found| found == line), "{line}: {config}");
        }
        let containers: Environment = [
            ("RESTIC_REPO", "/r"),
            ("RESTIC_PASSWORD_FILE", "/p"),
            ("RABBIT_CONTAINER", "kaleem-rabbitmq"),
            ("RABBIT_PASS", "x"),
            ("QDRANT_CONTAINER", "kaleem-qdrant"),
            ("QDRANT_URL", "http://10.0.0.5:6333"),
        ]
        .into_iter()
        .collect();
        let config = config_of_environment(&containers).unwrap().unwrap();
        for line in [
            "url = \"http://127.0.0.1:15672\"",
            "docker = { container = \"kaleem-rabbitmq\" }",
            "url = \"http://10.0.0.5:6333\"",
        ] {
            assert!(config.lines().any(|found| found == line), "{line}: {config}");
        }
        assert!(!config.contains("kaleem-qdrant"), "a URL has precedence: {config}");
        let off: Environment =
            [("RESTIC_REPO", "/r"), ("RESTIC_PASSWORD_FILE", "/p"), ("N8N_ENABLED", "0")]
                .into_iter()
                .collect();
        assert!(!config_of_environment(&off).unwrap().unwrap().contains("n8n"));
    }

    #[test]
    fn what_this_release_cannot_do_is_said_not_skipped() {
        let base = [("RESTIC_REPOSITORY", "/r"), ("RESTIC_PASSWORD_FILE", "/p")];
        for extra in [&[("N8N_ENABLED", "1")][..], &[("MONGO_URI", "x"), ("MONGO_MODE", "podman")]]
        {
            let environment: Environment = base.into_iter().chain(extra.iter().copied()).collect();
            let asked = extra.last().unwrap().0;
            assert!(config_of_environment(&environment).unwrap_err().contains(asked));
        }
        let environment: Environment = base.into_iter().chain([("KEEP_DAILY", "9")]).collect();
        let config = config_of_environment(&environment).unwrap().unwrap();
        assert!(config.contains("keep_daily = 9") && config.contains("forget = true"), "{config}");
    }
}
