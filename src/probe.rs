//! What this host has, asked once: facts → plan. Every "no" keeps its reason, and is a series (`kina_capability`).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Yes, or no and why. The reason is a short phrase in words ("CONFIG_PSI is off or psi=0"), one value per cause: it is a
/// label value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Yes,
    No(String),
}

/// All capabilities by name, e.g. `cgroup_v2`, `pressure`, `docker`, `netns`, `sock_diag`, `rapl`.
#[derive(Debug, Default)]
pub struct Capabilities {
    answers: Mutex<BTreeMap<String, Answer>>,
}

impl Capabilities {
    pub fn yes(&self, capability: &str) {
        self.set(capability, Answer::Yes);
    }

    pub fn no(&self, capability: &str, reason: impl Into<String>) {
        self.set(capability, Answer::No(reason.into()));
    }

    pub fn set(&self, capability: &str, answer: Answer) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        match answers.get_mut(capability) {
            Some(old) => *old = answer,
            None => {
                answers.insert(capability.to_owned(), answer);
            }
        }
    }

    pub fn get(&self, capability: &str) -> Option<Answer> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).get(capability).cloned()
    }

    /// All answers, by name.
    pub fn all(&self) -> Vec<(String, Answer)> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    /// Calls `f` with each answer, without copying them.
    pub fn each(&self, mut f: impl FnMut(&str, &Answer)) {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        for (k, v) in answers.iter() {
            f(k, v);
        }
    }
}
