//! Faults of the recipients that only those who deliver to them can find.

use super::{Monitoring, body::Body, email};

/// The first fault of `[monitoring]`, as a sentence with the key.
pub(crate) fn fault(monitoring: &Monitoring) -> Option<String> {
    let body = |body: &String| {
        Body::new(body).err().map(|why| format!("`monitoring.webhook.body`: {why}"))
    };
    let mut bodies = monitoring.webhook.iter().filter_map(|webhook| webhook.body.as_ref());
    monitoring
        .fault()
        .or_else(|| bodies.find_map(body))
        .or_else(|| monitoring.email.iter().find_map(email::fault))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_names_its_key() {
        for (text, words) in [
            ("[[ntfy]]\ntopic = \"a\"\nonly = { jobs = [\"bakup\"] }", "bakup"),
            ("[[email]]\nserver = \"h\"\nfrom = \"a\"\nto = [\"b@c\"]", "`a`"),
            ("[[email]]\nserver = \"h\"\nfrom = \"a@c\"\nto = []", "`to`"),
            (
                "[[email]]\nserver = \"h\"\nfrom = \"a@c\"\nto = [\"b@c\"]\nsecurity = \"none\"\nusername = \"u\"\n\
                 password = { env = \"A\" }",
                "without encryption",
            ),
            ("[[webhook]]\nurl = { env = \"A\" }\nbody = \"{{ job\"", "line 1"),
            ("[[webhook]]\nurl = { env = \"A\" }\nbody = \"{{ hots }}\"", "hots"),
        ] {
            let monitoring: Monitoring = toml::from_str(text).unwrap();
            let fault = fault(&monitoring).unwrap_or_default();
            assert!(fault.contains(words), "{text:?}: {fault:?}");
        }
    }
}
