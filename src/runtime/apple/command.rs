//! Runs the `container` command: one child at a time for each purpose, killed when late, its output bounded.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::io::AsyncReadExt;
use tracing::Instrument;

use super::Guest;
use super::shapes::{self, DiskUsage, Failure, ListedImage, Machine, MachineDetail, Network, Stats};
use crate::WORK;
use crate::root::{Nanos, Root};

/// Output beyond this is no list of containers.
const MAX_OUTPUT: u64 = 64 << 20;
/// Error text beyond this says nothing more.
const MAX_ERROR: u64 = 64 << 10;

/// The `container` command of one installation.
#[derive(Debug, Clone)]
pub struct Command {
    program: PathBuf,
    root: Root,
}

impl Command {
    pub fn new(root: &Root, program: &Path) -> Self {
        Self { program: program.to_path_buf(), root: root.clone() }
    }

    /// Runs it and gives what it printed. A failing exit is judged by its words, save where `ok_to_fail` says that its
    /// output counts all the same (`system status` exits 1 with its answer on standard output).
    async fn run(&self, args: &[&str], limit: Duration, ok_to_fail: bool) -> Result<Vec<u8>, Failure> {
        let span = tracing::info_span!(
            target: WORK,
            "container",
            otel.name = format!("container {}", args.first().unwrap_or(&"")),
            otel.kind = "client",
            error.type = tracing::field::Empty,
            otel.status_code = tracing::field::Empty,
        );
        let printed = self.printed(args, limit, ok_to_fail).instrument(span.clone()).await;
        if let Err(failure) = &printed {
            span.record("error.type", failure.reason());
            span.record("otel.status_code", "ERROR");
        }
        printed
    }

    async fn printed(&self, args: &[&str], limit: Duration, ok_to_fail: bool) -> Result<Vec<u8>, Failure> {
        let mut command = self.root.command(&self.program);
        command.args(args).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        // Either would add lines to what it prints.
        command.env_remove("CONTAINER_DEBUG").env_remove("CONTAINER_DEFAULT_PLATFORM");
        let mut child = command.spawn().map_err(|_| Failure::NoCommand)?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(Failure::NoCommand);
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut stdout = stdout.take(MAX_OUTPUT);
        let mut stderr = stderr.take(MAX_ERROR);
        let all = async {
            let read = tokio::try_join!(stdout.read_to_end(&mut out), stderr.read_to_end(&mut err));
            read.map_err(|_| Failure::Other)?;
            child.wait().await.map_err(|_| Failure::Other)
        };
        // On time-out the child is dropped, and killed by that.
        let status = tokio::time::timeout(limit, all).await.map_err(|_| Failure::TimedOut)??;
        if status.success() || (ok_to_fail && !out.is_empty()) { Ok(out) } else { Err(Failure::from_stderr(&err)) }
    }

    async fn list_of<T: DeserializeOwned>(&self, args: &[&str], limit: Duration) -> Result<(Vec<T>, usize), Failure> {
        let out = self.run(args, limit, false).await?;
        shapes::parse_list(&out).map_err(|_| Failure::BadAnswer)
    }

    /// All containers, running or not, and how many elements could not be read.
    pub async fn list(&self) -> Result<(Vec<shapes::Listed>, usize), Failure> {
        // The client's own limit is 10 s.
        self.list_of(&["list", "--all", "--format", "json"], Duration::from_secs(12)).await
    }

    /// Statistics of all running containers. It sleeps two seconds by design, and has no limit of its own.
    pub async fn stats(&self, limit: Duration) -> Result<(Vec<Stats>, usize), Failure> {
        self.list_of(&["stats", "--no-stream", "--format", "json"], limit).await
    }

    /// These containers, also those that no list shows (machines); none of them if one is unknown.
    pub async fn inspect(&self, ids: &[String]) -> Result<(Vec<shapes::Listed>, usize), Failure> {
        let mut args = vec!["inspect"];
        args.extend(ids.iter().filter(|id| !id.starts_with('-')).map(String::as_str));
        self.list_of(&args, Duration::from_secs(12)).await
    }

    pub async fn machines(&self) -> Result<(Vec<Machine>, usize), Failure> {
        self.list_of(&["machine", "list", "--format", "json"], Duration::from_secs(12)).await
    }

    /// The container that a machine is.
    pub async fn machine_container(&self, machine: &str) -> Result<Option<String>, Failure> {
        if machine.starts_with('-') {
            return Err(Failure::NotFound);
        }
        let (details, _) =
            self.list_of::<MachineDetail>(&["machine", "inspect", machine], Duration::from_secs(12)).await?;
        Ok(details.into_iter().find_map(|d| d.container_id))
    }

    pub async fn networks(&self) -> Result<(Vec<Network>, usize), Failure> {
        // The client's own limit is 1 s.
        self.list_of(&["network", "list", "--format", "json"], Duration::from_secs(5)).await
    }

    /// What the guest's kernel tells of a container.
    pub async fn guest(&self, id: &str, boot: Nanos) -> Result<Guest, Failure> {
        if id.starts_with('-') {
            return Err(Failure::NotFound);
        }
        let mut args = vec!["exec", id, "cat"];
        args.extend(Guest::paths());
        let printed = self.run(&args, Duration::from_secs(30), true).await?;
        Guest::parse(&printed, boot).ok_or(Failure::BadAnswer)
    }

    /// Bytes on disk. The daemon walks all files meanwhile, and starts wait for it.
    pub async fn disk_usage(&self, limit: Duration) -> Result<DiskUsage, Failure> {
        let out = self.run(&["system", "df", "--format", "json"], limit, false).await?;
        serde_json::from_slice(&out).map_err(|_| Failure::BadAnswer)
    }

    pub async fn image_list(&self) -> Result<(Vec<ListedImage>, usize), Failure> {
        self.list_of(&["image", "list", "--format", "json"], Duration::from_secs(30)).await
    }

    pub async fn image_inspect(&self, reference: &str) -> Result<(Vec<ListedImage>, usize), Failure> {
        if reference.starts_with('-') {
            return Err(Failure::NotFound);
        }
        self.list_of(&["image", "inspect", reference], Duration::from_secs(30)).await
    }

    /// Where the daemon keeps its files; None when it does not run.
    pub async fn app_root(&self) -> Result<Option<PathBuf>, Failure> {
        let limit = Duration::from_secs(15);
        let json = self.run(&["system", "status", "--format", "json"], limit, true).await;
        let out = match json {
            // Before 0.10 there is no such option.
            Err(Failure::Unsupported | Failure::Other) => self.run(&["system", "status"], limit, true).await?,
            other => other?,
        };
        Ok(shapes::parse_status(&out).map(PathBuf::from))
    }

    /// The versions of the command and, when it runs, of its daemon; empty before 0.10.
    pub async fn versions(&self) -> Vec<(String, String)> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            #[serde(default)]
            app_name: String,
            #[serde(default)]
            version: String,
        }
        let args = ["system", "version", "--format", "json"];
        let Ok((versions, _)) = self.list_of::<Version>(&args, Duration::from_secs(5)).await else {
            return Vec::new();
        };
        versions.into_iter().map(|v| (v.app_name, plain_version(&v.version).to_owned())).collect()
    }
}

/// The daemon's version is a sentence: `container-apiserver version 1.2.2 (build: release, commit: 0190097)`.
fn plain_version(text: &str) -> &str {
    let after = text.split_once(" version ").map_or(text, |(_, v)| v);
    after.split(' ').next().unwrap_or(after)
}

#[cfg(test)]
mod tests {
    use super::plain_version;

    #[test]
    fn versions_are_bare_or_in_a_sentence() {
        assert_eq!(plain_version("1.2.2"), "1.2.2");
        assert_eq!(plain_version("container-apiserver version 1.2.2 (build: release, commit: 0190097)"), "1.2.2");
    }
}
