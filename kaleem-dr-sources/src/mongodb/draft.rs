//! A source of a MongoDB server for a new config.

use kaleem_dr_core::operate::config::{
    DraftSecret, DraftValue, SourceDraft,
    secret::{Environment, ExposeSecret as _, SecretString},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

const FORM: &str = "write its connection string without the password: mongodb://USER@127.0.0.1:27017/DATABASE?authSource=admin";

pub(crate) fn draft(text: &str, _: &Environment) -> Result<SourceDraft, String> {
    let (scheme, rest) = text
        .split_once("://")
        .filter(|(scheme, rest)| matches!(*scheme, "mongodb" | "mongodb+srv") && !rest.is_empty())
        .ok_or_else(|| FORM.to_owned())?;
    let mut draft = SourceDraft::named("mongo");
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let secret = match authority.rsplit_once('@') {
        None => DraftSecret::known("uri", "uri", text.to_owned().into()),
        Some((user, _)) if user.contains(':') => {
            return Err("the connection string contains a password, which other users of this machine can read in `ps`; leave it out: \
                        it is asked for, or read from a file"
                .into());
        }
        Some((user, _)) => {
            let (before, after) = (format!("{scheme}://{user}:"), rest[user.len()..].to_owned());
            let question = format!("password of the MongoDB user {user}");
            DraftSecret::asked("uri", "uri", question).formed(move |password| {
                let password = utf8_percent_encode(password.expose_secret(), NON_ALPHANUMERIC);
                SecretString::from(format!("{before}{password}{after}"))
            })
        }
    };
    draft.secrets.push(secret);
    let path = rest[authority.len()..].split('?').next().unwrap_or_default();
    if path.trim_start_matches('/').is_empty() {
        draft.keys.push(("databases", DraftValue::List(vec!["*".to_owned()])));
    }
    Ok(draft)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typed_password_is_encoded_and_one_in_the_address_is_refused() {
        let of = |text: &str| draft(text, &Environment::default());
        let asked = of("mongodb://backup@db:27017/shop?authSource=admin").unwrap();
        let uri = asked.secrets[0].of_answer("p@ss/w:rd".to_owned().into());
        assert_eq!(
            uri.expose_secret(),
            "mongodb://backup:p%40ss%2Fw%3Ard@db:27017/shop?authSource=admin"
        );
        assert!(asked.keys.is_empty(), "the database is in the path");
        let all = of("mongodb://db:27017").unwrap();
        assert_eq!(all.keys, [("databases", DraftValue::List(vec!["*".to_owned()]))]);
        assert!(all.secrets[0].known.is_some());
        let refused = of("mongodb://backup:canary@db/shop").unwrap_err();
        assert!(refused.contains("password") && !refused.contains("canary"), "{refused}");
        assert!(of("backup@db").unwrap_err().contains("mongodb://"));
    }
}
