//! Checks the connection to a bucket's service (name, IPv4 and IPv6 separately, TLS, clock), and
//! lifecycle rules that would delete objects of the repository.

use std::{io, net::SocketAddr, time::Duration};

use tokio::net::TcpStream;

use super::Examination;
use crate::{
    engine::repository::{
        check_lifecycle,
        store::{IpChoice, S3Access, StoreErrorKind, transport},
    },
    ground::{diagnosis::Diagnosis, error_chain},
};

/// The result for one address family.
enum Way {
    /// The service answered, with this date.
    Open(Option<String>),
    /// This machine has no network of that family.
    NoNetwork,
    /// The service did not answer.
    Shut(StoreErrorKind, String),
}

/// Checks the connection to the service of a repository. A finding `endpoint` means that the
/// service answered.
pub(super) async fn way(
    job: &Examination,
    name: &str,
    access: &S3Access,
    deadline: Duration,
) -> Vec<Diagnosis> {
    let endpoint = &access.endpoint;
    let Some((host, port)) = host_and_port(endpoint) else {
        return vec![Diagnosis::unseen(&format!("the endpoint {endpoint}"), "it is not a URL")];
    };
    let proxied = access.network.proxy.is_some()
        || ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
            .iter()
            .any(|name| job.environment.get(name).is_some());
    if proxied {
        // The proxy resolves names and chooses addresses.
        return judged(job, name, endpoint, None, Some(ask(access, None, deadline).await), None);
    }
    let looked_up = tokio::time::timeout(deadline, job.host.facts.addresses(&host, port)).await;
    let addresses = match looked_up.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(addresses) => addresses,
        Err(error) => {
            return vec![
                Diagnosis::error("endpoint-name", format!("repository {name}: {host} has no address: {error}"))
                    .because("this machine cannot resolve names, or the host in the endpoint is wrong")
                    .fix(format!("getent hosts {host}; then fix /etc/resolv.conf or the endpoint of [repository.{name}]")),
            ];
        }
    };
    let (six, four): (Vec<_>, Vec<_>) = addresses.into_iter().partition(SocketAddr::is_ipv6);
    let reach = async |addresses: Vec<SocketAddr>, wanted: bool| {
        if addresses.is_empty() || !wanted {
            None
        } else {
            Some(reach(access, &host, &addresses, deadline).await)
        }
    };
    let (four, six) = tokio::join!(
        reach(four, access.network.ip != IpChoice::V6),
        reach(six, access.network.ip != IpChoice::V4)
    );
    judged(job, name, endpoint, Some(&host), four, six)
}

fn judged(
    job: &Examination,
    name: &str,
    endpoint: &str,
    host: Option<&str>,
    four: Option<Way>,
    six: Option<Way>,
) -> Vec<Diagnosis> {
    let date = |way: &Option<Way>| match way {
        Some(Way::Open(date)) => Some(date.clone()),
        _ => None,
    };
    let mut found = Vec::new();
    if let Some(date) = date(&four).or_else(|| date(&six)) {
        found.push(Diagnosis::ok("endpoint", format!("repository {name}: {endpoint} answers")));
        let clock =
            date.and_then(|date| Diagnosis::of_http_date(endpoint, &date, job.host.facts.now()));
        found.push(clock.unwrap_or_else(|| {
            Diagnosis::unseen(&format!("the clock of {endpoint}"), "its answer has no date")
        }));
        found.extend(one_family(["ipv6-broken", "IPv6", "v4"], name, endpoint, six));
        found.extend(one_family(["ipv4-broken", "IPv4", "v6"], name, endpoint, four));
        return found;
    }
    let shut = [four, six].into_iter().flatten().find_map(|way| match way {
        Way::Shut(fault, why) => Some((fault, why)),
        _ => None,
    });
    let (fault, why) = shut.unwrap_or_else(|| {
        let why = format!(
            "{} has no address of a family that this machine and `ip` allow",
            host.unwrap_or(endpoint)
        );
        (StoreErrorKind::Dns, why)
    });
    let id = match fault {
        StoreErrorKind::Tls => "endpoint-tls",
        StoreErrorKind::Dns => "endpoint-name",
        _ => "endpoint-unreachable",
    };
    let seen =
        Diagnosis::error(id, format!("repository {name}: {endpoint} cannot be reached: {why}"));
    vec![match fault.advice() {
        Some(advice) => seen.fix(advice),
        None => seen.fix(format!("check the network, or try `ip = \"v4\"` in [repository.{name}]")),
    }]
}

/// The finding for one address family if the service answers over the other.
fn one_family(
    [id, family, other]: [&'static str; 3],
    name: &str,
    endpoint: &str,
    way: Option<Way>,
) -> Option<Diagnosis> {
    match way? {
        Way::Open(_) => None,
        Way::NoNetwork => Some(Diagnosis::information(
            "no-such-network",
            format!("this machine has no {family}; {endpoint} has"),
        )),
        Way::Shut(_, why) => Some(
            Diagnosis::warning(
                id,
                format!("repository {name}: {endpoint} does not answer over {family}: {why}"),
            )
            .because("connections may wait for it, and TLS handshakes may fail from time to time")
            .fix(format!("set `ip = \"{other}\"` in [repository.{name}]")),
        ),
    }
}

/// Connects over one family, then sends a request to the service.
async fn reach(access: &S3Access, host: &str, addresses: &[SocketAddr], deadline: Duration) -> Way {
    match tokio::time::timeout(deadline, TcpStream::connect(addresses)).await {
        Ok(Ok(_)) => ask(access, Some((host, addresses)), deadline).await,
        Ok(Err(error))
            if matches!(
                error.kind(),
                io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable
            ) =>
        {
            Way::NoNetwork
        }
        Ok(Err(error)) => Way::Shut(StoreErrorKind::Unreachable, error.to_string()),
        Err(_) => Way::Shut(
            StoreErrorKind::Unreachable,
            format!("no connection within {} s", deadline.as_secs()),
        ),
    }
}

/// A request that needs no key. Any answer is good.
async fn ask(access: &S3Access, to: Option<(&str, &[SocketAddr])>, deadline: Duration) -> Way {
    let built = transport::builder(&access.network, &access.tuning).and_then(|builder| {
        let builder = match to {
            Some((host, addresses)) => builder.no_proxy().resolve_to_addrs(host, addresses),
            None => builder,
        };
        Ok(builder.connect_timeout(deadline).timeout(deadline).build()?)
    });
    let http = match built {
        Ok(http) => http,
        Err(error) => return Way::Shut(StoreErrorKind::Other, error_chain(&*error)),
    };
    match http.get(&access.endpoint).send().await {
        Ok(answer) => {
            let date = answer.headers().get(http::header::DATE);
            Way::Open(date.and_then(|date| date.to_str().ok()).map(str::to_owned))
        }
        Err(error) => {
            let error = error.without_url();
            Way::Shut(StoreErrorKind::of_request(&error), error_chain(&error))
        }
    }
}

/// Checks the lifecycle rules of the bucket.
pub(super) async fn lifecycle(name: &str, access: &S3Access, deadline: Duration) -> Vec<Diagnosis> {
    let Ok(report) = tokio::time::timeout(deadline, check_lifecycle(access)).await else {
        return vec![Diagnosis::unseen(
            &format!("the lifecycle rules of repository {name}"),
            "no answer in time",
        )];
    };
    let of = |finding: Diagnosis| Diagnosis {
        id: "bucket-lifecycle",
        what: format!("repository {name}: {}", finding.what),
        ..finding
    };
    report.findings.into_iter().map(of).collect()
}

fn host_and_port(endpoint: &str) -> Option<(String, u16)> {
    let url: reqwest::Url = endpoint.parse().ok()?;
    Some((url.host_str()?.to_owned(), url.port_or_known_default()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_that_is_shut_while_the_other_answers_is_left_out_by_the_other() {
        let shut = || Some(Way::Shut(StoreErrorKind::Unreachable, "refused".into()));
        for (family, mend) in [
            (["ipv6-broken", "IPv6", "v4"], "`ip = \"v4\"`"),
            (["ipv4-broken", "IPv4", "v6"], "`ip = \"v6\"`"),
        ] {
            let seen = one_family(family, "r2", "https://s3.example.test", shut()).unwrap();
            assert_eq!(seen.id, family[0]);
            assert!(seen.fix.as_deref().is_some_and(|fix| fix.contains(mend)), "{seen:?}");
            assert!(
                one_family(family, "r2", "e", Some(Way::Open(None))).is_none()
                    && one_family(family, "r2", "e", None).is_none()
            );
        }
    }
}
