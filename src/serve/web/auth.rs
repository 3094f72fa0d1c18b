//! Basic authentication with bcrypt, without a tell: whoever asks with a wrong name or a wrong password waits for one hash
//! of a cost that the file really has.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};
use tokio::sync::Semaphore;

/// Hashing takes a core for as long as it lasts: one at a time, so that guessing leaves the rest to others.
const HASHING: usize = 1;
/// Longer in the queue, and the client is told to come back.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::serve) enum Verdict {
    Pass,
    Refused,
    /// Too many are being checked.
    Busy,
}

/// Who may come in. Empty: everyone.
pub(in crate::serve) struct Users {
    hashes: BTreeMap<String, String>,
    places: Arc<Semaphore>,
    /// Name → fingerprint of the password that was right. One entry a user: wrong passwords take no memory.
    verified: Mutex<HashMap<String, Fingerprint>>,
    keys: [RandomState; 2],
    hashed: AtomicU64,
}

impl Default for Users {
    fn default() -> Self {
        Self::new(BTreeMap::new())
    }
}

/// A keyed hash in place of the password: nothing readable stays in memory, and comparing tells nothing of where two
/// passwords differ. The keys are random and never leave the process.
type Fingerprint = [u64; 2];

impl Users {
    pub fn new(hashes: BTreeMap<String, String>) -> Self {
        Self {
            hashes,
            places: Arc::new(Semaphore::new(HASHING)),
            verified: Mutex::default(),
            keys: [RandomState::new(), RandomState::new()],
            hashed: AtomicU64::new(0),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    pub async fn check(&self, headers: &HeaderMap) -> Verdict {
        if self.hashes.is_empty() {
            return Verdict::Pass;
        }
        let Some((name, password)) = credentials(headers) else { return Verdict::Refused };
        let fingerprint = self.fingerprint(&password);
        let known = self.hashes.contains_key(&name);
        if known && self.lock().get(&name) == Some(&fingerprint) {
            return Verdict::Pass;
        }
        let Some(hash) = self.hashes.get(&name).or_else(|| self.stand_in(&name)).cloned() else {
            return Verdict::Refused;
        };
        let Some(matches) = self.hash(password, hash).await else { return Verdict::Busy };
        if !(known && matches) {
            return Verdict::Refused;
        }
        self.lock().insert(name, fingerprint);
        Verdict::Pass
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Fingerprint>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fingerprint(&self, password: &[u8]) -> Fingerprint {
        self.keys.each_ref().map(|key| key.hash_one(password))
    }

    /// Some user's hash, always the same for one unknown name: where users' costs differ, unknown names' do likewise.
    fn stand_in(&self, name: &str) -> Option<&String> {
        let index = self.keys[0].hash_one(name) % self.hashes.len() as u64;
        self.hashes.values().nth(index as usize)
    }

    /// Whether the password has this hash; None when too many wait.
    async fn hash(&self, password: Vec<u8>, hash: String) -> Option<bool> {
        let place = tokio::time::timeout(PATIENCE, self.places.clone().acquire_owned()).await.ok()?.ok()?;
        self.hashed.fetch_add(1, Ordering::Relaxed);
        // A task of its own, so that a client that hangs up frees no place while the hashing goes on.
        let hashing = tokio::task::spawn_blocking(move || {
            let matches = bcrypt::verify(password, &hash).unwrap_or(false);
            drop(place);
            matches
        });
        hashing.await.ok()
    }
}

fn credentials(headers: &HeaderMap) -> Option<(String, Vec<u8>)> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, encoded) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let decoded = STANDARD.decode(encoded.trim_ascii()).ok()?;
    let colon = decoded.iter().position(|b| *b == b':')?;
    let name = String::from_utf8(decoded[..colon].to_vec()).ok()?;
    Some((name, decoded[colon + 1..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Users {
        let hash = |password: &str, cost| bcrypt::hash(password, cost).unwrap();
        Users::new(BTreeMap::from([("al".into(), hash("right", 4)), ("bo".into(), hash("other", 5))]))
    }

    fn basic(credentials: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, format!("Basic {}", STANDARD.encode(credentials)).parse().unwrap());
        headers
    }

    #[tokio::test]
    async fn no_users_lets_everyone_in() {
        assert_eq!(Users::default().check(&HeaderMap::new()).await, Verdict::Pass);
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_passes() {
        let users = users();
        for (credentials, expected) in [
            ("al:right", Verdict::Pass),
            ("bo:other", Verdict::Pass),
            ("al:other", Verdict::Refused),
            ("al:", Verdict::Refused),
            ("xy:right", Verdict::Refused),
            (":", Verdict::Refused),
        ] {
            assert_eq!(users.check(&basic(credentials)).await, expected, "{credentials}");
        }
        for headers in ["Basic", "Basic %%%", "Bearer YTpi", "Basic YWI="] {
            let mut map = HeaderMap::new();
            map.insert(header::AUTHORIZATION, headers.parse().unwrap());
            assert_eq!(users.check(&map).await, Verdict::Refused, "{headers}");
        }
    }

    #[tokio::test]
    async fn every_wrong_answer_costs_one_hash_and_a_right_one_none_after_the_first() {
        let users = users();
        let hashed = || users.hashed.load(Ordering::Relaxed);
        users.check(&basic("al:right")).await;
        assert_eq!(hashed(), 1);
        for _ in 0..5 {
            users.check(&basic("al:right")).await;
        }
        assert_eq!(hashed(), 1);
        for wrong in ["al:wrong", "al:wrong", "unknown:wrong", "unknown:right", "al:"] {
            let before = hashed();
            assert_eq!(users.check(&basic(wrong)).await, Verdict::Refused);
            assert_eq!(hashed(), before + 1, "{wrong}");
        }
    }

    #[test]
    fn unknown_names_cost_what_known_ones_cost() {
        let users = users();
        let stand_ins: std::collections::HashSet<_> =
            (0..100).filter_map(|i| users.stand_in(&format!("unknown{i}"))).collect();
        assert_eq!(stand_ins.len(), 2, "all costs of the file are met");
        assert_eq!(users.stand_in("x"), users.stand_in("x"), "the same name always costs the same");
    }
}
