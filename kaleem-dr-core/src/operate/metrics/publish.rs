//! Publication of metrics: to the directory of node exporter, and to a Pushgateway.

use std::{io, path::Path, time::Duration};

use crate::{
    ground::{durable_file, error_chain, host::HostName},
    operate::{
        config::{Config, secret::Environment},
        monitor,
    },
};

/// Maximum wait for the Pushgateway's answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Publishes the metrics to the configured destinations. Returns a sentence for each failure.
pub(crate) async fn publish(config: &Config, environment: &Environment) -> Vec<String> {
    let settings = &config.settings.monitoring.prometheus;
    if settings.textfile.is_none() && settings.pushgateway.is_none() {
        return Vec::new();
    }
    let text = match super::text(config, environment) {
        Ok(text) => text,
        Err(error) => return vec![error_chain(&error)],
    };
    let mut failed = Vec::new();
    if let Some(path) = &settings.textfile
        && let Err(error) = write(path, &text)
    {
        failed.push(format!("{}: {error}", path.display()));
    }
    if let Some(url) = &settings.pushgateway
        && let Err(why) = push(url, &config.settings.host_name(), text).await
    {
        failed.push(format!("the Pushgateway at {url}: {why}"));
    }
    failed
}

/// Replaces the file atomically. Everyone may read it, because node exporter runs as its own user.
fn write(path: &Path, text: &str) -> io::Result<()> {
    durable_file::replace(path, text.as_bytes(), 0o644)
}

/// POST replaces only metrics with these names; PUT would remove the last success when a job fails.
async fn push(url: &str, instance: &HostName, text: String) -> Result<(), String> {
    let mut to: reqwest::Url = url.parse().map_err(|_| "invalid URL".to_owned())?;
    let grouping = ["metrics", "job", "kaleem_dr", "instance", instance.as_str()];
    to.path_segments_mut().map_err(|()| "invalid URL".to_owned())?.pop_if_empty().extend(grouping);
    let request = monitor::http_client(TIMEOUT)?
        .post(to)
        .header("content-type", "text/plain; version=0.0.4")
        .body(text);
    monitor::http_send(request).await.map(drop)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn the_file_is_put_in_place_whole_and_can_be_read_by_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kaleem-dr.prom");
        fs::write(&path, "old").unwrap();
        let reader = fs::File::open(&path).unwrap();
        write(&path, "kaleem_dr_build_info 1\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "kaleem_dr_build_info 1\n");
        assert_eq!(
            io::read_to_string(reader).unwrap(),
            "old",
            "whoever reads the old one reads it to its end"
        );
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        let error = write(Path::new("/nowhere/x.prom"), "").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
