//! What `kina_exporter_build_info` tells: the compiler, and the commit where it is known. Neither can fail a build.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=KINA_REVISION");
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    // `rustc 1.95.0 (hash date)`: the version is enough.
    let version = output(&rustc, &["--version"]).and_then(|v| v.split(' ').nth(1).map(str::to_owned));
    println!("cargo::rustc-env=KINA_RUSTC={}", version.unwrap_or_default());
    println!("cargo::rustc-env=KINA_REVISION={}", revision().unwrap_or_default());
}

/// Given from outside, else asked of git for release builds: development builds would be made anew with every commit.
fn revision() -> Option<String> {
    if let Some(given) = std::env::var("KINA_REVISION").ok().filter(|r| !r.is_empty()) {
        return Some(given);
    }
    if std::env::var("PROFILE").ok()? != "release" {
        return None;
    }
    let logs = output("git", &["rev-parse", "--git-path", "logs/HEAD"])?;
    println!("cargo::rerun-if-changed={logs}");
    output("git", &["rev-parse", "--short=12", "HEAD"])
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let out = Command::new(program).args(arguments).output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8(out.stdout).ok()?.trim().to_owned())
}
