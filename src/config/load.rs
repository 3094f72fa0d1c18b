//! Merges the sources: flag before environment before file before default.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::settings::{Setting, settings};
use super::{Config, file};
use crate::root::Root;

/// What was given on the command line and in the environment: kept, for a reload merges again.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// Values by flag name, for flags that were given; a switch has `true` or `false`.
    pub flags: BTreeMap<String, Vec<String>>,
    /// The process's environment; only names of settings are looked at, and an empty value is none.
    pub env: BTreeMap<String, String>,
}

/// Something is wrong with a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Where it was set: `FILE:LINE`, the environment variable, the flag.
    pub origin: String,
    /// The key in the file; empty where the origin says it all.
    pub key: String,
    pub problem: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.problem)
    }
}

/// Everything that is wrong, one a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors(pub Vec<Error>);

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, e) in self.0.iter().enumerate() {
            let end = if i == 0 { "" } else { "\n" };
            write!(f, "{end}{e}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// The configuration in force, or everything that is wrong with it. The file is read afresh.
pub fn load(given: &Given, root: &Root) -> Result<Config, Errors> {
    let mut merge = Merge::default();
    merge.flags_and_env(given);
    let Some(path) = merge.config.file.clone() else { return merge.finish(root) };
    match root.read_to_string(&path) {
        Ok(text) => check_text(given, root, &path, &text),
        Err(e) => {
            let problem = format!("the configuration file cannot be read: {e}");
            merge.errors.push(Error { origin: path.display().to_string(), key: String::new(), problem });
            Err(Errors(merge.errors))
        }
    }
}

/// As [`load`], with the text of the file at hand.
pub fn check_text(given: &Given, root: &Root, path: &Path, text: &str) -> Result<Config, Errors> {
    let mut merge = Merge::default();
    let name = path.display().to_string();
    let (entries, errors) = file::parse(text, &name);
    merge.errors = errors;
    for e in entries {
        merge.set(e.setting, &e.values, format!("{name}:{}", e.line), e.setting.key.clone());
    }
    merge.flags_and_env(given);
    merge.config.file = Some(path.to_owned());
    merge.finish(root)
}

#[derive(Default)]
struct Merge {
    config: Config,
    errors: Vec<Error>,
    /// Who set what, for checks over the whole.
    origins: BTreeMap<&'static str, String>,
}

impl Merge {
    fn set(&mut self, setting: &'static Setting, values: &[String], origin: String, key: String) {
        match setting.set(&mut self.config, values) {
            Ok(()) => {
                self.origins.insert(&setting.key, origin);
            }
            Err(why) => {
                let problem = format!("{why}; allowed: {}", setting.allowed);
                self.errors.push(Error { origin, key, problem });
            }
        }
    }

    fn flags_and_env(&mut self, given: &Given) {
        for setting in settings() {
            let env = setting.env();
            if let Some(values) = given.flags.get(&setting.flag) {
                self.set(setting, values, format!("--{}", setting.flag), String::new());
            } else if let Some(text) = given.env.get(&env).filter(|t| !t.is_empty()) {
                self.set(setting, &setting.split_env(text), env, String::new());
            }
        }
    }

    /// Checks that need more than one value's text.
    fn finish(mut self, root: &Root) -> Result<Config, Errors> {
        let path = &self.config.path;
        let folders: [(&str, &PathBuf); 4] = [
            ("path.procfs", &path.procfs),
            ("path.sysfs", &path.sysfs),
            ("path.cgroup", &path.cgroup),
            ("path.rootfs", &path.rootfs),
        ];
        // The defaults may be missing (no /proc on macOS): that is a capability's "no". What was set must be there.
        for (key, folder) in folders {
            let Some(origin) = self.origins.get(key) else { continue };
            if !root.metadata(folder).is_ok_and(|m| m.is_dir()) {
                let problem =
                    format!("{:?}: not a folder; allowed: a folder that exists", folder.display().to_string());
                self.errors.push(Error { origin: origin.clone(), key: key.to_owned(), problem });
            }
        }
        let web = &self.config.web;
        if web.listen.is_empty() && !web.systemd_socket && self.config.otlp.endpoint.is_none() {
            let problem = "no address to listen on; name one, set web.systemd-socket, or push alone with otlp.endpoint"
                .to_owned();
            let origin = self.origins.get("web.listen-address").cloned().unwrap_or_default();
            self.errors.push(Error { origin, key: "web.listen-address".into(), problem });
        }
        if self.errors.is_empty() { Ok(self.config) } else { Err(Errors(self.errors)) }
    }
}
