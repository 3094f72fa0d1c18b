//! The web configuration file of Prometheus exporters (`--web.config.file`): TLS, users, headers, rate limit.
//!
//! The file and what it names are looked at with every connection and request, and read again when they have changed. A
//! bad new file keeps the old configuration in force (never a weaker one) and is counted. TLS itself can't be switched on
//! or off while the exporter runs.

mod auth;
mod file;
#[cfg(fuzzing)]
pub mod fuzzing;
mod rate;
mod tls;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderMap;
use rustls::ServerConfig;

use crate::catalog;
use crate::engine::Shared;
use crate::root::Root;

pub(super) use auth::Verdict;

/// What is wrong with a web configuration file.
#[derive(Debug, thiserror::Error)]
#[error("{}{}: {message}", file.display(), line.map(|l| format!(":{l}")).unwrap_or_default())]
pub struct WebError {
    pub file: PathBuf,
    pub line: Option<u64>,
    pub message: String,
}

/// Reads a web configuration file and everything it names, and says what is wrong with it; of one that is right, what of
/// it is not done.
pub fn check(root: &Root, file: &Path) -> Result<Vec<String>, WebError> {
    Active::read(root, file).map(|active| active.notes)
}

/// One reading of the file, ready for use.
#[derive(Default)]
pub(super) struct Active {
    pub tls: Option<Arc<ServerConfig>>,
    pub headers: HeaderMap,
    pub users: auth::Users,
    pub rate: Option<rate::Rate>,
    notes: Vec<String>,
    /// The file and all that it names.
    files: Vec<PathBuf>,
}

impl Active {
    fn read(root: &Root, path: &Path) -> Result<Self, WebError> {
        let file = file::read(root, path)?;
        let tls = match &file.tls {
            Some(settings) => Some(tls::server_config(root, path, settings, file.http2)?),
            None => None,
        };
        let mut files = vec![path.to_owned()];
        files.extend(file.tls.iter().flat_map(|t| t.files()).cloned());
        let users = auth::Users::new(file.users);
        Ok(Self { tls, headers: file.headers, users, rate: file.rate, notes: file.notes, files })
    }

    fn warn(&self) {
        for note in &self.notes {
            tracing::warn!("{note}");
        }
    }
}

/// Tells one content of a file from another without reading it. The inode changes when a file, or a link on its way, is
/// replaced (Kubernetes swaps a link).
type Stamp = Option<(u64, u64, i64, i64, i64, i64)>;

fn stamps(root: &Root, files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let m = root.metadata(path).ok()?;
        Some((m.ino(), m.size(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()))
    };
    files.iter().map(stamp).collect()
}

/// The configuration in force.
pub(super) struct Web {
    shared: Arc<Shared>,
    file: Option<PathBuf>,
    tls: bool,
    state: Mutex<State>,
    limiter: rate::Limiter,
}

struct State {
    active: Arc<Active>,
    stamps: Vec<Stamp>,
}

impl Web {
    pub fn load(file: Option<PathBuf>, shared: Arc<Shared>) -> Result<Self, WebError> {
        let active = match &file {
            Some(path) => Active::read(&shared.root, path)?,
            None => Active::default(),
        };
        active.warn();
        let stamps = stamps(&shared.root, &active.files);
        let tls = active.tls.is_some();
        let state = Mutex::new(State { active: Arc::new(active), stamps });
        Ok(Self { shared, file, tls, state, limiter: rate::Limiter::default() })
    }

    /// Whether clients have to name themselves.
    pub fn authenticates(&self) -> bool {
        !self.current().users.is_empty()
    }

    /// Whether clients are spoken to over TLS.
    pub fn tls(&self) -> bool {
        self.tls
    }

    /// What is in force now, read again if a file has changed.
    pub fn current(&self) -> Arc<Active> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(path) = &self.file else { return state.active.clone() };
        let now = stamps(&self.shared.root, &state.active.files);
        if now != state.stamps {
            state.stamps = now;
            match self.reread(path) {
                Ok(active) => {
                    tracing::info!(file = %path.display(), "web configuration read again");
                    active.warn();
                    // Files may be named that were not before.
                    state.stamps = stamps(&self.shared.root, &active.files);
                    state.active = Arc::new(active);
                }
                Err(error) => {
                    tracing::error!(%error, "the web configuration in force stays");
                    self.shared.held.inc(catalog::WEB_CONFIG_FAILURES, &[]);
                }
            }
        }
        state.active.clone()
    }

    fn reread(&self, path: &Path) -> Result<Active, WebError> {
        let active = Active::read(&self.shared.root, path)?;
        if active.tls.is_some() != self.tls {
            let message = "tls_server_config: TLS can't be switched on or off while running; restart to do so".into();
            return Err(WebError { file: path.to_owned(), line: None, message });
        }
        Ok(active)
    }

    /// Whether the rate limit, if one is set, lets a request pass now.
    pub fn admits(&self, active: &Active) -> bool {
        self.limiter.admits(active.rate, self.shared.root.clock.boot())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::root::Root;

    fn shared() -> Arc<Shared> {
        Shared::new(Root::default(), Config::default())
    }

    #[test]
    fn a_bad_new_file_keeps_the_old_configuration_and_is_counted_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.yml");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write("http_server_config: {headers: {X-Frame-Options: deny}}\n");
        let shared = shared();
        let web = Web::load(Some(path.clone()), shared.clone()).unwrap();
        assert_eq!(web.current().headers["x-frame-options"], "deny");

        write("http_server_config: {headers: {X-Frame-Options: sameorigin}}  # longer\n");
        assert_eq!(web.current().headers["x-frame-options"], "sameorigin");

        write("http_server_config: [\n");
        assert_eq!(web.current().headers["x-frame-options"], "sameorigin");
        assert_eq!(web.current().headers["x-frame-options"], "sameorigin");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(web.current().headers["x-frame-options"], "sameorigin");
        let text = shared.held.openmetrics();
        let name = catalog::WEB_CONFIG_FAILURES.name();
        assert!(text.contains(&format!("{name}{{}} 2\n")), "{text}");

        write("");
        assert!(web.current().headers.is_empty());
    }
}
