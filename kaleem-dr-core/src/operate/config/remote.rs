//! Turns a repository's table into a location (a directory, a bucket, the target of an rclone
//! remote) and its access key, whose form is checked before anything is sent.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

use super::{
    ini::Ini,
    model::SettingsError,
    rclone,
    rclone::{Place, Remote},
    repository::RepositorySettings,
    secret::{Environment, SecretRef, read_private},
};
use crate::engine::repository::{
    Access, Location,
    store::{Network, S3Access, Tuning, is_loopback, is_r2},
};

const FORMS: &str = "use a directory, s3:https://ENDPOINT/BUCKET/PREFIX, s3://BUCKET/PREFIX with `endpoint`, or rclone:REMOTE:PATH";

/// A bucket on a service.
#[expect(clippy::struct_field_names, reason = "the word of S3 for its name")]
struct Bucket {
    endpoint: String,
    bucket: String,
    prefix: String,
    remote: Option<Remote>,
}

impl RepositorySettings {
    /// Reads the secrets and builds the access.
    ///
    /// # Errors
    /// If a secret cannot be read, or the location is invalid.
    pub fn access(
        &self,
        cache_directory: &std::path::Path,
        environment: &Environment,
    ) -> Result<Access, SettingsError> {
        let password = environment.secret(&self.password)?;
        let location = location(self, environment)?;
        let remote = matches!(location, Location::S3(_));
        Ok(Access {
            location,
            password,
            cache_directory: remote.then(|| cache_directory.to_path_buf()),
            append_only: self.append_only,
            derived_keys: environment.derived_keys().clone(),
        })
    }

    /// Path of rclone's config; `None` if nothing names it.
    #[must_use]
    pub fn rclone_config_path(&self, environment: &Environment) -> Option<PathBuf> {
        self.rclone_config.clone().or_else(|| rclone::config_path(environment).ok())
    }

    /// The location. Does not read the password.
    ///
    /// # Errors
    /// If the location is invalid, or a secret of the store cannot be read.
    pub fn location(&self, environment: &Environment) -> Result<Location, SettingsError> {
        location(self, environment)
    }
}

/// The location that a repository's table names.
///
/// # Errors
/// If it is invalid, a secret cannot be read, or the key cannot be a key of the service.
pub(super) fn location(
    settings: &RepositorySettings,
    environment: &Environment,
) -> Result<Location, SettingsError> {
    let text = settings.location.as_str();
    if let Some(remote) = text.strip_prefix("rclone:") {
        let place = rclone::resolve(remote, settings.rclone_config.as_deref(), environment)
            .map_err(SettingsError::Location)?;
        return match place {
            Place::Directory(path) => Ok(Location::Directory(path)),
            Place::S3 { remote, bucket, prefix } => {
                let endpoint = endpoint_of(settings, &remote, environment)?;
                access(
                    settings,
                    environment,
                    Bucket { endpoint, bucket, prefix, remote: Some(remote) },
                )
            }
        };
    }
    let Some(url) = text.strip_prefix("s3:") else {
        let path = text.strip_prefix("local:").unwrap_or(text);
        let scheme =
            path.split_once(':').map(|(scheme, _)| scheme).filter(|scheme| !scheme.contains('/'));
        return match scheme {
            None => Ok(Location::Directory(PathBuf::from(path))),
            Some(scheme) => {
                Err(invalid(format!("`{scheme}:` repositories are not supported; {FORMS}")))
            }
        };
    };
    access(settings, environment, bucket_of(settings, url, environment)?)
}

fn invalid(why: impl Into<String>) -> SettingsError {
    SettingsError::Location(why.into())
}

/// Parses the part after `s3:`. restic's forms contain the endpoint; AWS's form,
/// `s3://BUCKET/PREFIX`, takes it from elsewhere.
fn bucket_of(
    settings: &RepositorySettings,
    url: &str,
    environment: &Environment,
) -> Result<Bucket, SettingsError> {
    let apart = settings.endpoint.as_deref();
    let of_environment = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]
        .into_iter()
        .find_map(|name| environment.get(name));
    let (scheme, rest) = match url.strip_prefix("//") {
        Some(rest) => match apart.or(of_environment) {
            Some(endpoint) => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                let (bucket, prefix) = (bucket.to_owned(), prefix.trim_matches('/').to_owned());
                return Ok(Bucket { endpoint: endpoint.to_owned(), bucket, prefix, remote: None });
            }
            // `s3://s3.example.org/BUCKET` is one of restic's forms.
            None if rest.split('/').next().is_some_and(|host| host.contains(['.', ':'])) => {
                ("https", rest)
            }
            None => {
                return Err(invalid(
                    "s3://BUCKET/PREFIX has no endpoint; add `endpoint = \"https://…\"` to the repository's table",
                ));
            }
        },
        None => url.split_once("://").unwrap_or(("https", url)),
    };
    if apart.is_some() {
        return Err(invalid(
            "both `location` and `endpoint` have an endpoint; write s3://BUCKET/PREFIX in `location`",
        ));
    }
    let mut parts = rest.splitn(3, '/');
    let (host, bucket) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let prefix = parts.next().unwrap_or_default().trim_matches('/').to_owned();
    Ok(Bucket {
        endpoint: format!("{scheme}://{host}"),
        bucket: bucket.to_owned(),
        prefix,
        remote: None,
    })
}

fn endpoint_of(
    settings: &RepositorySettings,
    remote: &Remote,
    environment: &Environment,
) -> Result<String, SettingsError> {
    let section = remote.settings();
    let written = settings
        .endpoint
        .as_deref()
        .or_else(|| section.and_then(|section| section.get("endpoint")));
    let written = written
        .or_else(|| environment.get("AWS_ENDPOINT_URL_S3"))
        .or_else(|| environment.get("AWS_ENDPOINT_URL"));
    if let Some(endpoint) = written {
        return Ok(if endpoint.contains("://") {
            endpoint.to_owned()
        } else {
            format!("https://{endpoint}")
        });
    }
    match section.and_then(|section| section.get("provider")) {
        Some("AWS") => {
            let region = section.and_then(|section| section.get("region")).unwrap_or("us-east-1");
            Ok(format!("https://s3.{region}.amazonaws.com"))
        }
        _ => Err(invalid(format!("rclone's remote `{}` has no `endpoint`", remote.name()))),
    }
}

/// Checks the endpoint, finds the key, and combines them.
fn access(
    settings: &RepositorySettings,
    environment: &Environment,
    place: Bucket,
) -> Result<Location, SettingsError> {
    let endpoint = checked_endpoint(&place.endpoint, &place.bucket, settings.insecure_http)?;
    let section = place.remote.as_ref().and_then(Remote::settings);
    let key = key(settings, environment, place.remote.as_ref())?;
    check_key(&key, is_r2(&endpoint)).map_err(SettingsError::Key)?;
    let own =
        settings.region.as_deref().or_else(|| section.and_then(|section| section.get("region")));
    // R2 has one region; the environment's region belongs to AWS.
    let environments =
        ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().filter(|_| !is_r2(&endpoint));
    let region = own.or_else(|| environments.into_iter().find_map(|name| environment.get(name)));
    if settings.proxy.as_ref().is_some_and(|proxy| proxy.contains('@')) {
        return Err(invalid(
            "`proxy` contains credentials; remove it and set HTTPS_PROXY in the environment",
        ));
    }
    Ok(Location::S3(S3Access {
        region: region.unwrap_or("auto").to_owned(),
        bucket: place.bucket,
        prefix: place.prefix,
        access_key_id: key.id,
        secret_access_key: key.secret,
        session_token: key.token,
        network: Network {
            ip: settings.ip,
            ca_file: settings.ca_file.clone(),
            proxy: settings.proxy.clone(),
            upload_limit: settings.upload_limit,
            download_limit: settings.download_limit,
        },
        tuning: Tuning::of(&endpoint),
        endpoint,
    }))
}

/// An endpoint as `SCHEME://HOST[:PORT]`.
fn checked_endpoint(
    endpoint: &str,
    bucket: &str,
    insecure_http: bool,
) -> Result<String, SettingsError> {
    let unclear = || invalid(format!("invalid S3 location; {FORMS}, without credentials"));
    let url: reqwest::Url = endpoint.parse().map_err(|_| unclear())?;
    let host =
        url.host_str().filter(|_| matches!(url.scheme(), "http" | "https")).ok_or_else(unclear)?;
    if !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || bucket.contains(['@', '?', '#'])
    {
        return Err(unclear());
    }
    if bucket.is_empty() {
        return Err(invalid(format!("the S3 location has no bucket; {FORMS}")));
    }
    let below = url.path().trim_matches('/');
    if below == bucket || host.starts_with(&format!("{bucket}.")) {
        return Err(invalid(format!(
            "the endpoint contains the bucket {bucket} too; remove it there"
        )));
    }
    if !below.is_empty() {
        return Err(invalid("an S3 endpoint is https://HOST, without a path"));
    }
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let endpoint = format!("{}://{host}{port}", url.scheme());
    if url.scheme() == "http" && !insecure_http && !is_loopback(&endpoint) {
        return Err(invalid(format!(
            "connections to {endpoint} are not encrypted; use https, or set `insecure_http = true` in a network that you trust"
        )));
    }
    Ok(endpoint)
}

/// A key pair.
struct Key {
    id: SecretString,
    secret: SecretString,
    token: Option<SecretString>,
}

/// The key in the table; otherwise the rclone remote's, the environment's, or that of AWS's shared
/// credentials.
fn key(
    settings: &RepositorySettings,
    environment: &Environment,
    remote: Option<&Remote>,
) -> Result<Key, SettingsError> {
    if settings.access_key_id.is_some() || settings.secret_access_key.is_some() {
        let either = |own: &Option<SecretRef>, variable: &str| {
            environment.secret(own.as_ref().unwrap_or(&SecretRef::Env(variable.to_owned())))
        };
        return Ok(Key {
            id: either(&settings.access_key_id, "AWS_ACCESS_KEY_ID")?,
            secret: either(&settings.secret_access_key, "AWS_SECRET_ACCESS_KEY")?,
            token: settings
                .session_token
                .as_ref()
                .map(|token| environment.secret(token))
                .transpose()?,
        });
    }
    if let Some(remote) = remote
        && let Some(section) = remote.settings()
    {
        if let (Some(id), Some(secret)) =
            (section.secret("access_key_id"), section.secret("secret_access_key"))
        {
            return Ok(Key { id, secret, token: section.secret("session_token") });
        }
        if section.get("env_auth") != Some("true") {
            return Err(SettingsError::Key(format!(
                "rclone's remote `{}` has no access_key_id and secret_access_key, and env_auth is not true",
                remote.name()
            )));
        }
    }
    let variable =
        |name: &str| environment.get(name).map(|value| SecretString::from(value.to_owned()));
    if environment.get("AWS_ACCESS_KEY_ID").is_some() {
        let secret = environment.secret(&SecretRef::Env("AWS_SECRET_ACCESS_KEY".into()))?;
        let id = environment.secret(&SecretRef::Env("AWS_ACCESS_KEY_ID".into()))?;
        return Ok(Key { id, secret, token: variable("AWS_SESSION_TOKEN") });
    }
    profile(environment)
}

/// The key of a profile in AWS's shared credentials.
fn profile(environment: &Environment) -> Result<Key, SettingsError> {
    let name = environment.get("AWS_PROFILE").unwrap_or("default");
    let named = environment.get("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from);
    let asked = named.is_some() || environment.get("AWS_PROFILE").is_some();
    let path = named.or_else(|| Some(Path::new(environment.get("HOME")?).join(".aws/credentials")));
    let Some(path) = path.filter(|path| asked || path.exists()) else {
        return Err(SettingsError::Key(
            "there is no S3 key: set `access_key_id` and `secret_access_key` in the repository's table, or set AWS_ACCESS_KEY_ID \
             and AWS_SECRET_ACCESS_KEY"
                .into(),
        ));
    };
    let ini = Ini::parse(&read_private(&path)?)
        .map_err(|why| SettingsError::Key(format!("{}: {why}", path.display())))?;
    let section = ini.section(name);
    let value = |key: &str| {
        section.and_then(|section| section.secret(key)).ok_or_else(|| {
            SettingsError::Key(format!("{} has no {key} in the profile [{name}]", path.display()))
        })
    };
    Ok(Key {
        id: value("aws_access_key_id")?,
        secret: value("aws_secret_access_key")?,
        token: section.and_then(|section| section.secret("aws_session_token")),
    })
}

/// Checks the form of a key. Its errors contain nothing of the key except lengths.
fn check_key(key: &Key, r2: bool) -> Result<(), String> {
    for (what, value, digits) in
        [("access key id", &key.id, 32), ("secret access key", &key.secret, 64)]
    {
        let value = value.expose_secret();
        if value.is_empty() || value.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(format!(
                "the S3 {what} is empty, or contains a space or a line break; copy the whole key and nothing else"
            ));
        }
        if r2 && (value.len() != digits || !value.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            return Err(format!(
                "the {what} is not a key of R2: it has {} characters, and R2's have {digits} hex digits (R2 would answer \"Credential \
                 access key has length {}\"). It may be AWS's, or the value of the token: create an R2 API token with \"Object Read & \
                 Write\" and use the Access Key ID and Secret Access Key that it shows for S3 clients",
                value.chars().count(),
                key.id.expose_secret().chars().count(),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
