//! Warnings about definitions that are restored to another release.

use kaleem_dr_core::engine::manifest::ServerInfo;

use super::target::release;

/// A warning for definitions that were captured from one release and are restored to another.
pub(crate) fn warning(taken: Option<&ServerInfo>, here: &ServerInfo) -> Option<String> {
    let (from, to) = (taken.and_then(|server| release(&server.version)), release(&here.version));
    let version = taken.map_or("", |server| &server.version);
    match (from, to) {
        (Some(from), Some(to)) if from > to => Some(format!(
            "the definitions are from {version}, which is newer than this {}: unknown settings are rejected or lost",
            here.version
        )),
        (Some(from), Some(to)) if from < to => Some(format!(
            "the definitions are from {version}, but this is {}: the comparison afterwards shows what changed in between",
            here.version
        )),
        (None, _) => Some("the RabbitMQ release of the definitions is not known".into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(version: &str) -> ServerInfo {
        ServerInfo::new("RabbitMQ", version)
    }

    #[test]
    fn another_release_is_named() {
        let told = |from: Option<&str>, to: &str| warning(from.map(server).as_ref(), &server(to));
        assert_eq!(told(Some("3.10.8"), "3.10.12"), None);
        assert!(told(Some("4.0.1"), "3.13.2").unwrap().contains("newer than this 3.13.2"));
        assert!(told(None, "3.13.2").unwrap().contains("not known"));
        assert!(told(Some("3.10.8"), "4.3.5").unwrap().contains("this is 4.3.5"));
    }
}
