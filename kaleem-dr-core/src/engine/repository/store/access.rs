//! The access to an S3 bucket: location, key and network settings.

use std::{fmt, path::PathBuf, str::FromStr};

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer};

use super::Tuning;

/// The host of every R2 endpoint ends in this: `<account>.r2.cloudflarestorage.com`, `<account>.eu.r2.…`.
const R2_DOMAIN: &str = ".r2.cloudflarestorage.com";
/// R2 answers 429 to many requests at once sooner than others.
const R2_CONCURRENCY: usize = 8;

/// The access to an S3 bucket.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct S3Access {
    /// Service address, such as `https://<account>.r2.cloudflarestorage.com`.
    pub endpoint: String,
    /// Name of the bucket, without a prefix.
    pub bucket: String,
    /// Key prefix of the repository; empty for the bucket's root.
    pub prefix: String,
    /// The region; `auto` for R2.
    pub region: String,
    /// The access key id; for R2, 32 hex digits.
    pub access_key_id: SecretString,
    /// The secret access key; for R2, 64 hex digits.
    pub secret_access_key: SecretString,
    /// Session token of a temporary key.
    pub session_token: Option<SecretString>,
    /// The way to the service.
    pub network: Network,
    /// Time-outs, retries and concurrency of its requests.
    pub tuning: Tuning,
}

impl S3Access {
    /// Access to the root of a bucket, over the system's network, with suitable tuning for the service. The service is asked for
    /// the region.
    #[must_use]
    pub fn new(
        endpoint: impl Into<String>,
        bucket: impl Into<String>,
        access_key_id: SecretString,
        secret_access_key: SecretString,
    ) -> Self {
        let endpoint = endpoint.into();
        Self {
            bucket: bucket.into(),
            prefix: String::new(),
            region: "auto".to_owned(),
            access_key_id,
            secret_access_key,
            session_token: None,
            network: Network::default(),
            tuning: Tuning::of(&endpoint),
            endpoint,
        }
    }

    /// Describes the bucket or prefix as text, without credentials.
    #[must_use]
    pub fn location(&self) -> String {
        format!("s3:{}/{}/{}", self.endpoint, self.bucket, self.prefix)
    }

    /// Reports whether the service is Cloudflare R2.
    #[must_use]
    pub fn is_r2(&self) -> bool {
        is_r2(&self.endpoint)
    }
}

/// Reports whether an endpoint, `https://HOST[:PORT]`, belongs to Cloudflare R2.
#[must_use]
pub fn is_r2(endpoint: &str) -> bool {
    host_of(endpoint).is_some_and(|host| host.ends_with(R2_DOMAIN))
}

/// Reports whether an endpoint is on this machine.
#[cfg(feature = "operate")]
pub(crate) fn is_loopback(endpoint: &str) -> bool {
    host_of(endpoint).is_some_and(|host| {
        host == "localhost"
            || host
                .trim_matches(['[', ']'])
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    })
}

fn host_of(endpoint: &str) -> Option<String> {
    let url: reqwest::Url = endpoint.parse().ok()?;
    Some(url.host_str()?.to_ascii_lowercase())
}

impl Tuning {
    /// Suitable settings for the service at an endpoint.
    #[must_use]
    pub fn of(endpoint: &str) -> Self {
        if is_r2(endpoint) {
            Self { concurrency: R2_CONCURRENCY, ..Self::default() }
        } else {
            Self::default()
        }
    }
}

/// The way to a service. The default is the system's: its roots, `HTTPS_PROXY` and its kin, no limit.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Network {
    /// The addresses of the service's name to try.
    pub ip: IpChoice,
    /// PEM file with certificates to trust in addition to the system's.
    pub ca_file: Option<PathBuf>,
    /// Proxy, instead of the environment's.
    pub proxy: Option<String>,
    /// Limit for all uploads together.
    pub upload_limit: Option<Rate>,
    /// Limit for all downloads together.
    pub download_limit: Option<Rate>,
}

impl fmt::Debug for Network {
    /// The proxy is omitted, because it may contain a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network")
            .field("ip", &self.ip)
            .field("ca_file", &self.ca_file)
            .field("proxy", &self.proxy.as_ref().map(|_| "…"))
            .field("upload_limit", &self.upload_limit)
            .field("download_limit", &self.download_limit)
            .finish()
    }
}

/// The addresses of a name to try.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IpChoice {
    /// IPv4 first; IPv6 if it does not respond.
    #[default]
    Any,
    /// Use only IPv4 addresses; fail if there is none.
    V4,
    /// Use only IPv6 addresses; fail if there is none.
    V6,
}

/// A rate in bytes per second, written `2 MiB/s`, `2M` (like restic's sizes: powers of 1024) or `500 kB/s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(u64);

impl Rate {
    /// A rate of this many bytes per second; `None` for 0.
    #[must_use]
    pub fn bytes_per_second(bytes: u64) -> Option<Self> {
        (bytes > 0).then_some(Self(bytes))
    }

    /// The value as a number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("`{text}` is not a rate; write 2 MiB/s, 500 kB/s or 2M");
        let amount = text.trim().trim_end_matches("/s").trim_end();
        let digits = amount.trim_end_matches(|c: char| c.is_ascii_alphabetic()).trim_end();
        let unit: u64 = match amount[digits.len()..].trim_start() {
            "" | "B" => 1,
            "K" | "k" | "KiB" => 1 << 10,
            "M" | "MiB" => 1 << 20,
            "G" | "GiB" => 1 << 30,
            "kB" | "KB" => 1000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            _ => return Err(invalid()),
        };
        let number: u64 = digits.parse().map_err(|_| invalid())?;
        number.checked_mul(unit).and_then(Self::bytes_per_second).ok_or_else(invalid)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Rate {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Rate".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "examples": ["2 MiB/s", "500 kB/s", "2M"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_they_are_written() {
        for (text, bytes) in [
            ("2 MiB/s", 2 << 20),
            ("2M", 2 << 20),
            ("500 kB/s", 500_000),
            ("64k", 64 << 10),
            ("1 MB/s", 1_000_000),
            ("7", 7),
        ] {
            assert_eq!(text.parse::<Rate>().map(Rate::get), Ok(bytes), "{text}");
        }
        for bad in ["", "0", "M", "2 Mbit/s", "-1M", "1.5M", "99999999999G"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }

    #[test]
    fn r2_is_known_by_its_host_alone() {
        assert!(
            is_r2("https://0123.r2.cloudflarestorage.com")
                && is_r2("https://0123.EU.r2.cloudflarestorage.com")
        );
        for other in [
            "https://r2.cloudflarestorage.com.example.org",
            "https://example.org/a.r2.cloudflarestorage.com",
            "x",
        ] {
            assert!(!is_r2(other), "{other}");
        }
        assert_eq!(Tuning::of("https://a.r2.cloudflarestorage.com").concurrency, R2_CONCURRENCY);
    }

    #[test]
    fn loopback_is_an_address_or_localhost() {
        for here in ["http://127.0.0.1:9000", "http://[::1]:9000", "http://localhost"] {
            assert!(is_loopback(here), "{here}");
        }
        assert!(!is_loopback("http://127.0.0.1.example.org"));
    }
}
