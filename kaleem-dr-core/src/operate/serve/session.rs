//! Sessions of browsers: a signed cookie that ends by itself. The program keeps no list of them.

use axum::http::{HeaderMap, HeaderValue, header::COOKIE};
use jiff::{SignedDuration, Timestamp};

use super::access::Access;

/// Name of the cookie.
const NAME: &str = "kaleem_dr_session";
/// Longest duration of a session.
const LASTS: SignedDuration = SignedDuration::from_hours(12);

/// The value of a cookie among those of a request.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|header| header.to_str().ok())
        .flat_map(|header| header.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

/// Reports whether a request belongs to a session that has not ended.
pub(super) fn is_open(headers: &HeaderMap, access: &Access, now: Timestamp) -> bool {
    let Some((until, code)) = cookie(headers, NAME).and_then(|value| value.split_once('.')) else {
        return false;
    };
    let ends = until.parse::<i64>().ok();
    ends.is_some_and(|ends| now.as_second() < ends) && access.is_signed(&text(until), code)
}

/// The header that begins a session.
pub(super) fn begin(access: &Access, headers: &HeaderMap, now: Timestamp) -> Option<HeaderValue> {
    let until = (now.as_second() + LASTS.as_secs()).to_string();
    let code = access.sign(&text(&until))?;
    set(NAME, &format!("{until}.{code}"), headers, "; HttpOnly")
}

/// The header that ends a session in this browser.
pub(super) fn end(headers: &HeaderMap) -> Option<HeaderValue> {
    set(NAME, "", headers, "; HttpOnly; Max-Age=0")
}

/// The header that keeps a choice of the reader.
pub(super) fn keep(name: &str, value: &str, headers: &HeaderMap) -> Option<HeaderValue> {
    set(name, value, headers, "; HttpOnly; Max-Age=31536000")
}

fn set(name: &str, value: &str, headers: &HeaderMap, more: &str) -> Option<HeaderValue> {
    // Behind a reverse proxy with TLS.
    let is_https = headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https");
    let secure = if is_https { "; Secure" } else { "" };
    HeaderValue::from_str(&format!("{name}={value}; Path=/; SameSite=Strict{more}{secure}")).ok()
}

fn text(until: &str) -> String {
    format!("session until {until}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_by_itself_and_cannot_be_prolonged() {
        let (access, now) = (Access::with(&"a token of the test".into()), Timestamp::now());
        let header = begin(&access, &HeaderMap::new(), now).unwrap();
        let pair = header.to_str().unwrap().split(';').next().unwrap().to_owned();
        let of =
            |cookie: &str| HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(cookie).unwrap())]);
        assert!(is_open(&of(&format!("other=1; {pair}")), &access, now));
        assert!(!is_open(&of(&pair), &access, now + LASTS));
        let (until, code) =
            pair.strip_prefix("kaleem_dr_session=").unwrap().split_once('.').unwrap();
        let later = until.parse::<i64>().unwrap() + 5;
        assert!(!is_open(&of(&format!("kaleem_dr_session={later}.{code}")), &access, now));
        assert!(!is_open(&HeaderMap::new(), &access, now));
    }
}
