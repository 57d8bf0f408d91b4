//! Chooses the address at which a container can be reached from this process.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::engine::{Inspected, Network};

/// The address of `port` inside a container. `own` is the container in which this process runs; `None` on the engine's host.
///
/// # Errors
/// The reason, with advice, if the container does not run or cannot be reached from here.
pub(super) fn of(
    found: &Inspected,
    port: u16,
    own: Option<&Inspected>,
) -> Result<SocketAddr, String> {
    if let Some(why) = found.not_running() {
        return Err(why);
    }
    match own.filter(|own| own.host_config.network_mode != "host") {
        Some(own) => from_container(found, port, own),
        None => from_host(found, port),
    }
}

fn from_host(found: &Inspected, port: u16) -> Result<SocketAddr, String> {
    let settings = &found.network_settings;
    let published = settings
        .ports
        .as_ref()
        .and_then(|ports| ports.get(&format!("{port}/tcp")))
        .and_then(Option::as_ref);
    if let Some(published) = published.and_then(|published| published.first()) {
        let port = published
            .port
            .parse()
            .map_err(|_| format!("its published port `{}` is not a number", published.port))?;
        return Ok(SocketAddr::new(reachable(&published.ip), port));
    }
    if found.host_config.network_mode == "host" {
        return Ok(loopback(port));
    }
    let own = found.networks().find_map(|(_, network)| network.address());
    own.map(|address| SocketAddr::new(address, port)).ok_or_else(|| {
        format!(
            "it does not publish port {port} and has no address of its own: publish the port (`-p 127.0.0.1:{port}:{port}`), or set the \
             server's port in the source's address"
        )
    })
}

fn from_container(found: &Inspected, port: u16, own: &Inspected) -> Result<SocketAddr, String> {
    if shares_namespace(found, own) {
        return Ok(loopback(port));
    }
    let shared = found.networks().find_map(|(name, network)| {
        let is_shared = |(own_name, own): (&str, &Network)| match (&*network.id, &*own.id) {
            ("", _) | (_, "") => name == own_name,
            (id, own_id) => id == own_id,
        };
        network.address().filter(|_| own.networks().any(is_shared))
    });
    let names = |of: &Inspected| match of.networks().map(|(name, _)| name).collect::<Vec<_>>() {
        names if names.is_empty() => "none".to_owned(),
        names => names.join(", "),
    };
    shared.map(|address| SocketAddr::new(address, port)).ok_or_else(|| {
        format!(
            "it shares no network with the container of kaleem-dr (its networks: {}; those of kaleem-dr: {}): attach kaleem-dr to one of \
             its networks, with `networks` in compose.yaml or `docker run --network`",
            names(found),
            names(own)
        )
    })
}

/// Reports whether both have the same network namespace (`network_mode: "container:ID"`).
fn shares_namespace(found: &Inspected, own: &Inspected) -> bool {
    let of = |container: &Inspected| {
        let mode = &container.host_config.network_mode;
        mode.strip_prefix("container:").unwrap_or(&container.id).to_owned()
    };
    of(found) == of(own)
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
}

/// A port published on every address of the host is reached on loopback.
fn reachable(ip: &str) -> IpAddr {
    match ip.parse::<IpAddr>() {
        Ok(ip) if !ip.is_unspecified() => ip,
        Ok(IpAddr::V6(_)) => Ipv6Addr::LOCALHOST.into(),
        _ => Ipv4Addr::LOCALHOST.into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn inspected(value: Value) -> Inspected {
        serde_json::from_value(value).unwrap()
    }

    fn on_host(value: Value, port: u16) -> Result<String, String> {
        of(&inspected(value), port, None).map(|address| address.to_string())
    }

    fn running(settings: &Value) -> Value {
        json!({ "Id": "f0", "State": { "Running": true, "Status": "running" }, "HostConfig": { "NetworkMode": "bridge" }, "NetworkSettings": settings })
    }

    #[test]
    fn on_the_host_a_published_port_comes_before_the_containers_own_address() {
        let settings = json!({
            "Ports": { "27017/tcp": [ { "HostIp": "0.0.0.0", "HostPort": "32768" }, { "HostIp": "::", "HostPort": "32768" } ] },
            "Networks": { "kaleem": { "IPAddress": "172.18.0.3" } },
        });
        assert_eq!(on_host(running(&settings), 27017).unwrap(), "127.0.0.1:32768");
        assert_eq!(
            on_host(running(&settings), 27018).unwrap(),
            "172.18.0.3:27018",
            "another port is not published"
        );
        let exposed = json!({ "Ports": { "27017/tcp": null }, "Networks": { "a": { "IPAddress": "" }, "b": { "IPAddress": "172.18.0.4" } } });
        assert_eq!(on_host(running(&exposed), 27017).unwrap(), "172.18.0.4:27017");
        for (ip, reached) in
            [("10.0.0.5", "10.0.0.5:1"), ("::", "[::1]:1"), ("fd00::5", "[fd00::5]:1")]
        {
            let inside = json!({ "Ports": { "1/tcp": [ { "HostIp": ip, "HostPort": "1" } ] } });
            assert_eq!(on_host(running(&inside), 1).unwrap(), reached);
        }
    }

    #[test]
    fn in_a_container_the_address_is_the_one_on_a_shared_network() {
        let on = |networks: Value| {
            let mut value = running(&json!({
                "Ports": { "6333/tcp": [ { "HostIp": "127.0.0.1", "HostPort": "32768" } ] },
                "Networks": networks,
            }));
            value["Id"] = networks.to_string().into();
            inspected(value)
        };
        let found = on(json!({
            "back": { "NetworkID": "b", "IPAddress": "10.1.0.2" },
            "front": { "NetworkID": "f", "IPAddress": "10.2.0.2" },
        }));
        let own = on(json!({ "front": { "NetworkID": "f", "IPAddress": "10.2.0.9" } }));
        assert_eq!(of(&found, 6333, Some(&own)).unwrap().to_string(), "10.2.0.2:6333");
        let only_v6 = json!({ "front": { "NetworkID": "f", "IPAddress": "", "GlobalIPv6Address": "fd00::2" } });
        assert_eq!(of(&on(only_v6), 6333, Some(&own)).unwrap().to_string(), "[fd00::2]:6333");
        // The same name, and another network.
        let apart = on(json!({ "front": { "NetworkID": "other", "IPAddress": "10.2.0.9" } }));
        let why = of(&found, 6333, Some(&apart)).unwrap_err();
        for part in ["shares no network", "back, front", "those of kaleem-dr: front"] {
            assert!(why.contains(part), "{why}");
        }
    }

    #[test]
    fn a_shared_network_namespace_is_reached_on_loopback() {
        let with = |id: &str, mode: &str| {
            let mut value = running(&json!({}));
            (value["Id"], value["HostConfig"]["NetworkMode"]) = (id.into(), mode.into());
            inspected(value)
        };
        let (found, own) = (with("a", "bridge"), with("b", "container:a"));
        assert_eq!(of(&found, 5, Some(&own)).unwrap().to_string(), "127.0.0.1:5");
        let (found, own) = (with("a", "host"), with("b", "host"));
        assert_eq!(of(&found, 5, Some(&own)).unwrap().to_string(), "127.0.0.1:5");
        assert!(of(&with("a", "host"), 5, Some(&with("b", "bridge"))).is_err());
    }

    #[test]
    fn an_unreachable_container_is_reported_with_advice() {
        let state =
            |state: Value| on_host(json!({ "Id": "f0", "State": state }), 27017).unwrap_err();
        assert!(
            state(json!({ "Running": false, "Status": "exited" }))
                .contains("is not running (exited): start it")
        );
        assert!(
            state(json!({ "Running": true, "Paused": true, "Status": "paused" }))
                .contains("is paused")
        );
        assert!(
            state(json!({ "Running": true, "Restarting": true, "Status": "restarting" }))
                .contains("keeps restarting")
        );
        assert!(
            on_host(running(&json!({ "Ports": {}, "Networks": {} })), 27017)
                .unwrap_err()
                .contains("does not publish port 27017")
        );
        let host = json!({ "Id": "f0", "State": { "Running": true }, "HostConfig": { "NetworkMode": "host" }, "NetworkSettings": {} });
        assert_eq!(on_host(host, 27017).unwrap(), "127.0.0.1:27017");
    }
}
