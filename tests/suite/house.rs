//! The rules of the house, held: where names, the outside and dependencies may stand.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kina_exporter::catalog;

/// Modules from the ground up: each may use those before it, and itself.
const ORDER: [&str; 21] = [
    "root", "catalog", "sample", "targets", "config", "probe", "held", "runtime", "snapshot", "macos", "kernel",
    "startup", "advise", "collect", "engine", "expose", "push", "generate", "serve", "bench", "cli",
];

struct Source {
    /// Path below `src/`.
    path: String,
    /// The text before the tests.
    code: String,
}

fn sources() -> Vec<Source> {
    fn walk(dir: &Path, out: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, out);
            } else if path.extension().is_some_and(|e| e == "rs") {
                out.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    files.sort();
    let is_tests =
        |p: &Path| p.file_stem().is_some_and(|s| s == "tests") || p.components().any(|c| c.as_os_str() == "tests");
    files
        .into_iter()
        .filter(|p| !is_tests(p.strip_prefix(&root).unwrap()))
        .map(|p| {
            let text = std::fs::read_to_string(&p).unwrap();
            let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned();
            Source { path: p.strip_prefix(&root).unwrap().to_string_lossy().into_owned(), code }
        })
        .collect()
}

/// Lines of code with their numbers, comments left out.
fn code_lines(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    source.code.lines().enumerate().map(|(i, l)| (i + 1, l)).filter(|(_, l)| !l.trim_start().starts_with("//"))
}

#[test]
fn a_metric_name_is_a_string_in_the_catalog_alone() {
    let literal = regex::Regex::new(r#""([a-z_]+[a-z])(?:\{|\[|")"#).unwrap();
    let mut found = Vec::new();
    for source in sources().iter().filter(|s| s.path != "catalog.rs") {
        for (n, line) in code_lines(source) {
            for name in literal.captures_iter(line).filter_map(|c| c.get(1)) {
                if catalog::by_series(name.as_str()).is_some() {
                    found.push(format!("src/{}:{n}: {}", source.path, name.as_str()));
                }
            }
        }
    }
    assert!(found.is_empty(), "name these through the catalog's constants:\n{}", found.join("\n"));
}

#[test]
fn the_outside_is_reached_through_root_alone() {
    let forbidden = [
        "std::fs",
        "fs::read",
        "fs::File",
        "SystemTime",
        "Instant",
        "UnixStream::connect",
        "process::Command",
        "env::var",
    ];
    // The command line is where the environment comes in and where files of the user are written.
    let exempt = |path: &str, what: &str| {
        path == "root.rs"
            || (what == "env::var" && (path == "main.rs" || path.starts_with("cli/") || path.starts_with("config")))
    };
    let mut found = Vec::new();
    for source in &sources() {
        for (n, line) in code_lines(source) {
            for what in forbidden.iter().filter(|w| line.contains(**w) && !exempt(&source.path, w)) {
                found.push(format!("src/{}:{n}: {what}", source.path));
            }
        }
    }
    assert!(found.is_empty(), "reach these through root::Root:\n{}", found.join("\n"));
}

#[test]
fn use_edges_run_one_way() {
    let place = |module: &str| ORDER.iter().position(|m| *m == module);
    let edge = regex::Regex::new(r"crate::(?:\{([^}]*)\}|([a-z_0-9]+))").unwrap();
    let mut found = Vec::new();
    for source in sources().iter().filter(|s| s.path != "lib.rs" && s.path != "main.rs") {
        let own = source.path.split(['/', '.']).next().unwrap();
        let own_place = place(own).unwrap_or_else(|| panic!("{own} has no place in ORDER: give it one"));
        for (n, line) in code_lines(source) {
            for c in edge.captures_iter(line) {
                let names = c.get(1).or(c.get(2)).map_or("", |m| m.as_str());
                for name in names.split(',').map(|n| n.trim().split("::").next().unwrap_or("")) {
                    if place(name).is_some_and(|p| p > own_place) {
                        found.push(format!("src/{}:{n}: {own} uses {name}", source.path));
                    }
                }
            }
        }
    }
    assert!(found.is_empty(), "these edges run upwards:\n{}", found.join("\n"));
}

#[test]
fn no_panic_is_written_where_the_outside_can_reach_it() {
    let forbidden = [".unwrap()", ".expect(\"", "panic!(", "todo!(", "unimplemented!("];
    let mut found = Vec::new();
    for source in sources().iter().filter(|s| s.path != "main.rs") {
        for (n, line) in code_lines(source) {
            if forbidden.iter().any(|w| line.contains(w)) && !line.contains("// cannot fail:") {
                found.push(format!("src/{}:{n}: {}", source.path, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "handle these, or end the line with `// cannot fail: why`:\n{}", found.join("\n"));
}

#[test]
fn catalog_names_are_unique_and_follow_their_type() {
    use kina_exporter::catalog::{Kind, Profile, Unit};
    let mut seen = BTreeSet::new();
    for f in catalog::families() {
        assert!(seen.insert(f.name), "{} stands twice", f.name);
        assert!(!f.help.is_empty() && !f.source.is_empty() && !f.absent.is_empty(), "{}", f.name);
        assert_eq!(f.kind == Kind::Histogram, !f.buckets.is_empty(), "{}", f.name);
        assert!(f.buckets.windows(2).all(|w| w[0] < w[1]), "{}", f.name);
        if f.profile == Profile::Default {
            assert_eq!(f.kind == Kind::Counter, f.name.ends_with("_total"), "{}", f.name);
            assert_eq!(f.kind == Kind::Info, f.name.ends_with("_info"), "{}", f.name);
        }
        if f.unit == Unit::Ratio {
            assert!(f.name.contains("_ratio"), "{}", f.name);
        }
    }
}

#[test]
fn the_repository_speaks_of_the_product_alone() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Ok(list) = std::process::Command::new("git").arg("-C").arg(root).args(["ls-files", "-z"]).output() else {
        return;
    };
    // Put together here so that this file does not find itself.
    let machine_paths = [["/wo", "rk/"].concat(), ["/ro", "ot/."].concat()];
    for file in String::from_utf8_lossy(&list.stdout).split('\0').filter(|f| !f.is_empty()) {
        let Ok(text) = std::fs::read_to_string(root.join(file)) else { continue };
        for path in &machine_paths {
            assert!(!text.contains(path.as_str()), "{file} names {path}");
        }
    }
}
