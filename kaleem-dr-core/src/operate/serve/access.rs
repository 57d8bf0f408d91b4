//! Who may read the page: whoever knows the token, or can open the socket.
//!
//! A presented token is compared in constant time. A wrong one is answered after a second, and while
//! that second passes no other token is compared, so that guesses cannot be made in parallel.

use std::{fmt, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretBox, SecretString};
use sha2::Sha256;
use tokio::sync::{Mutex, Semaphore};

/// Time that a wrong token costs.
const WRONG: Duration = Duration::from_secs(1);
/// Limit for the tokens that wait to be compared.
const WAITING: usize = 16;

/// The right to read the page.
pub struct Access {
    key: Option<Key>,
    fresh: Option<SecretString>,
    comparing: Mutex<()>,
    waiting: Semaphore,
    /// Time that a wrong token costs.
    cost: Duration,
}

/// Key derived from the token: what is compared and what signs sessions never contains the token.
struct Key(SecretBox<[u8; 32]>);

/// The result of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    Right,
    Wrong,
    /// Too many others wait.
    Busy,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("needs_token", &self.key.is_some()).finish_non_exhaustive()
    }
}

impl Access {
    /// Anyone who can connect: for a socket, whose mode decides that.
    #[must_use]
    pub fn open() -> Self {
        Self::of(None, None)
    }

    /// Whoever knows this token.
    #[must_use]
    pub fn with(token: &SecretString) -> Self {
        Self::of(Some(Key::of(token)), None)
    }

    /// Whoever knows a new token, which the operator is shown.
    #[must_use]
    pub fn fresh() -> Self {
        let token = SecretString::from(BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 24]>()));
        Self::of(Some(Key::of(&token)), Some(token))
    }

    fn of(key: Option<Key>, fresh: Option<SecretString>) -> Self {
        Self {
            key,
            fresh,
            comparing: Mutex::new(()),
            waiting: Semaphore::new(WAITING),
            cost: WRONG,
        }
    }

    /// The token that has to be shown, because it was made now.
    pub(crate) fn printed(&self) -> Option<String> {
        self.fresh.as_ref().map(|token| token.expose_secret().to_owned())
    }

    /// Reports whether a token is needed.
    pub(crate) fn needs_token(&self) -> bool {
        self.key.is_some()
    }

    /// Compares a token.
    pub(crate) async fn judge(&self, presented: &str) -> Judged {
        let Some(key) = &self.key else { return Judged::Right };
        let Ok(_place) = self.waiting.try_acquire() else { return Judged::Busy };
        let _alone = self.comparing.lock().await;
        let presented = Key::of(&SecretString::from(presented));
        // Of equal keys, the codes are equal; they are compared in constant time.
        if key
            .code(b"compare")
            .verify_slice(&presented.code(b"compare").finalize().into_bytes())
            .is_ok()
        {
            return Judged::Right;
        }
        tokio::time::sleep(self.cost).await;
        Judged::Wrong
    }

    /// The code that signs a text; `None` if no token is needed.
    pub(super) fn sign(&self, text: &str) -> Option<String> {
        let key = self.key.as_ref()?;
        Some(hex::encode(key.code(text.as_bytes()).finalize().into_bytes()))
    }

    /// Reports whether a code signs a text, in constant time.
    pub(super) fn is_signed(&self, text: &str, code: &str) -> bool {
        let Some(key) = &self.key else { return true };
        hex::decode(code).is_ok_and(|code| key.code(text.as_bytes()).verify_slice(&code).is_ok())
    }
}

impl Key {
    fn of(token: &SecretString) -> Self {
        let code = hmac(token.expose_secret().as_bytes())
            .chain_update(b"kaleem-dr: key of the page")
            .finalize();
        Self(SecretBox::new(Box::new(code.into_bytes().into())))
    }

    fn code(&self, text: &[u8]) -> Hmac<Sha256> {
        hmac(self.0.expose_secret()).chain_update(text)
    }
}

fn hmac(key: &[u8]) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC has no key length that it refuses")]
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn wrong_tokens_are_compared_one_after_the_other_and_each_takes_its_time() {
        const RIGHT: &str = "the right token, long";
        let mut access = Access::with(&RIGHT.into());
        access.cost = Duration::from_millis(20);
        let began = std::time::Instant::now();
        let guesses =
            ["wrong", "", "the right token, lonG", RIGHT].map(|guess| access.judge(guess));
        let judged = futures::future::join_all(guesses).await;
        assert_eq!(judged, [Judged::Wrong, Judged::Wrong, Judged::Wrong, Judged::Right]);
        assert!(began.elapsed() >= access.cost * 3, "{:?}", began.elapsed());
        let many = futures::future::join_all((0..=WAITING).map(|_| access.judge("wrong"))).await;
        let refused = many.into_iter().filter(|one| *one == Judged::Busy).count();
        assert_eq!(refused, 1, "of too many, the last is refused at once");
    }

    #[test]
    fn a_code_signs_one_text_under_one_token() {
        let (access, other) = (Access::with(&"one".into()), Access::with(&"other".into()));
        let code = access.sign("until 5").unwrap();
        assert!(access.is_signed("until 5", &code));
        assert!(!access.is_signed("until 6", &code));
        assert!(!other.is_signed("until 5", &code));
        assert!(!access.is_signed("until 5", "") && !access.is_signed("until 5", "zz"));
        let shown = format!("{:?}", Access::fresh());
        assert!(!shown.contains("fresh:"), "{shown}");
    }
}
