//! The script that a Mac's owner sends answers with: nothing of the owner is in them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

const STAND_IN: &str = r#"#!/bin/sh
case "$1 ${2:-}" in
  "list "*) printf 'kina-verify\nsecret-shop\n' ;;
  "system status") printf '{"status":"running","appRoot":"%s"}' "$(echo "$HOME/data/" | sed 's,/,\\/,g')" ;;
  "inspect kina-verify") echo '[{"id":"kina-verify","env":["TOKEN=hunter2","PATH=/bin"],"note":"secret-shop","ip":"192.168.64.7\/24","mac":"f2:00:11:22:33:44"}]' ;;
esac
exit 0
"#;

#[test]
fn the_bundle_says_nothing_of_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("alice-home");
    let bundle = home.join("data/containers/kina-verify");
    std::fs::create_dir_all(&bundle).unwrap();
    std::fs::write(bundle.join("vminitd.log"), "[    0.1] one\r\n[    0.2] two at secret-shop\r\n").unwrap();
    let command = dir.path().join("container");
    std::fs::write(&command, STAND_IN).unwrap();
    std::fs::set_permissions(&command, std::fs::Permissions::from_mode(0o755)).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/verify-on-mac.sh");
    let out = Command::new("sh")
        .arg(script)
        .current_dir(dir.path())
        .env("CONTAINER", &command)
        .env("HOME", &home)
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let unpacked = Command::new("tar").args(["-xzOf", "kina-verify.tar.gz"]).current_dir(dir.path()).output().unwrap();
    let text = String::from_utf8_lossy(&unpacked.stdout).into_owned();
    for private in ["alice-home", "secret-shop", "hunter2", "192.168.64.7", "f2:00:11"] {
        assert!(!text.contains(private), "{private} is in the bundle:\n{text}");
    }
    for kept in ["kina-verify", "TOKEN=VALUE", "ADDRESS", "CRLF lines: 2", "two at CONTAINER"] {
        assert!(text.contains(kept), "{kept} is not in the bundle:\n{text}");
    }
}
