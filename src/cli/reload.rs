//! SIGHUP and `POST /-/reload`: the configuration is read again.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::log::Level;
use super::start::Exporter;
use crate::config::{self, Config, Given, settings};

pub struct Reloader {
    exporter: Arc<Exporter>,
    given: Given,
    level: Level,
    /// One reload at a time.
    running: Mutex<()>,
}

impl Reloader {
    pub fn new(exporter: Arc<Exporter>, given: Given, level: Level) -> Self {
        exporter.shared.reloads.succeeded(exporter.shared.root.clock.wall());
        Self { exporter, given, level, running: Mutex::new(()) }
    }

    /// Puts the file's present content in force; a bad one changes nothing.
    pub async fn reload(&self) -> Result<(), String> {
        let _one = self.running.lock().await;
        let shared = &self.exporter.shared;
        let old = shared.config();
        let mut new = match config::load(&self.given, &shared.root) {
            Ok(new) => new,
            Err(errors) => {
                for e in &errors.0 {
                    tracing::error!(error = %e, "configuration not reloaded: the old one stays");
                }
                shared.reloads.failed();
                return Err(errors.to_string());
            }
        };
        for key in keep_what_needs_a_start(&old, &mut new) {
            tracing::warn!(key, "changed in the file: takes effect at the next start");
        }
        self.level.set(new.log.level);
        let runtimes_changed = runtimes_differ(&old, &new);
        shared.set_config(new);
        if runtimes_changed {
            self.exporter.restart_runtimes().await;
        }
        shared.reloads.succeeded(shared.root.clock.wall());
        tracing::info!("configuration reloaded");
        Ok(())
    }
}

/// Whether other containers may be shown: the runtimes are asked anew for no other change, since counters kept of
/// containers would begin again.
fn runtimes_differ(old: &Config, new: &Config) -> bool {
    let concerns = |key: &str| key.starts_with("runtime.") || key.starts_with("containers.");
    settings().iter().filter(|s| concerns(&s.key)).any(|s| s.get(old) != s.get(new))
}

/// Sets back what takes effect at start alone, so that the configuration says what is in force. Returns the keys that
/// the file changed.
fn keep_what_needs_a_start(old: &Config, new: &mut Config) -> Vec<&'static str> {
    let mut kept = Vec::new();
    for setting in settings().iter().filter(|s| s.at_start) {
        let in_force = setting.get(old);
        if setting.get(new) != in_force {
            // Its own text, read back: cannot fail.
            let _ = setting.set(new, &in_force);
            kept.push(setting.key.as_str());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_start_is_kept_and_named() {
        let old = Config::default();
        let mut new = Config::default();
        new.web.listen = vec![":1".into()];
        new.web.config_file = Some("/web.yml".into());
        new.path.procfs = "/tmp".into();
        new.label_allow = vec!["team".into()];
        let kept = keep_what_needs_a_start(&old, &mut new);
        assert_eq!(kept, ["web.listen-address", "web.config.file", "path.procfs"]);
        assert_eq!(new.web.listen, old.web.listen);
        assert_eq!(new.web.config_file, None);
        assert_eq!(new.label_allow, ["team"]);
    }
}
