//! Generated files, rules, alerts and dashboards.

use std::path::Path;

use kina_exporter::generate::{self, Kind, Settings};

/// Run with `KINA_GENERATE=write` to bring the committed files up to date.
#[test]
fn committed_files_are_what_the_generator_writes() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let write = std::env::var("KINA_GENERATE").is_ok_and(|v| v == "write");
    for artifact in Kind::ALL.into_iter().flat_map(|kind| generate::artifacts(kind, &Settings::default())) {
        let path = repository.join(&artifact.path);
        if write {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &artifact.content).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == artifact.content,
            "{} is stale: run KINA_GENERATE=write cargo test --test suite targets",
            artifact.path.display()
        );
    }
}
