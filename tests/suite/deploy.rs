//! What `deploy/` holds: files that their readers take, that agree with each other, and that work.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::common::skip;
use crate::live::{Docker, IMAGE, Scrape, wait_for, which};

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(deploy(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

fn compose() -> Value {
    yaml(&text("docker/compose.yaml"))["services"]["kina-exporter"].clone()
}

/// The one container of the DaemonSet, and the rest of its pod.
fn pod() -> (Value, Value) {
    let all = text("kubernetes/daemonset.yaml");
    let daemonset = yaml(all.split("\n---\n").last().unwrap());
    let pod = daemonset["spec"]["template"]["spec"].clone();
    (pod["containers"][0].clone(), pod)
}

fn strings(list: &Value) -> BTreeSet<String> {
    list.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect()
}

/// `ENV` of the Dockerfile: name and value.
fn environment() -> Vec<(String, String)> {
    let file = text("docker/Dockerfile").replace("\\\n", " ");
    let line = file.lines().find_map(|l| l.strip_prefix("ENV ")).unwrap().to_owned();
    line.split_whitespace().map(|pair| pair.split_once('=').unwrap()).map(|(k, v)| (k.into(), v.into())).collect()
}

#[test]
fn every_way_asks_for_the_same() {
    let (container, pod) = pod();
    let unit = text("systemd/kina-exporter.service");
    let wanted = strings(&compose()["cap_add"]);
    let capabilities = &container["securityContext"]["capabilities"];
    assert_eq!(strings(&capabilities["add"]), wanted);
    assert_eq!((&capabilities["drop"], &compose()["cap_drop"]), (&yaml("[ALL]"), &yaml("[ALL]")));
    let bound = unit.lines().find_map(|l| l.strip_prefix("CapabilityBoundingSet=")).unwrap();
    assert_eq!(bound.split(' ').map(|c| c.trim_start_matches("CAP_").to_owned()).collect::<BTreeSet<_>>(), wanted);
    for capability in &wanted {
        for file in ["deploy/README.md", "README.md"] {
            let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
            assert!(readme.contains(&format!("`CAP_{capability}`")), "{file} does not say what {capability} is for");
        }
    }
    // The host's trees: the same four places, below the one mount.
    let flags: BTreeSet<String> = environment()
        .into_iter()
        .map(|(name, value)| format!("--{}={value}", name.trim_start_matches("KINA_").to_lowercase().replace('_', ".")))
        .collect();
    assert_eq!(strings(&container["args"]), flags);
    assert_eq!((pod["hostPID"].as_bool(), compose()["pid"].as_str()), (Some(true), Some("host")));
    assert_eq!(container["volumeMounts"][0]["mountPath"], "/host");
    assert_eq!(container["ports"][0]["containerPort"], 10217);
    assert!(text("docker/Dockerfile").contains("EXPOSE 10217"));
    assert!(text("systemd/kina-exporter.socket").contains("ListenStream=10217"));
}

#[test]
fn systemd_takes_the_units() {
    if which("systemd-analyze").is_none() {
        skip("systemd-analyze is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for unit in ["kina-exporter.service", "kina-exporter.socket"] {
        let text = text(&format!("systemd/{unit}"));
        let text = text.replace("/usr/local/bin/kina-exporter", env!("CARGO_BIN_EXE_kina-exporter"));
        std::fs::write(dir.path().join(unit), text).unwrap();
    }
    let out = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "kina-exporter.service", "kina-exporter.socket"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && !said.contains("kina-exporter"), "{said}");
}

/// An image of the binary and the libraries that it needs, as the Dockerfile's last stage has them.
fn image(docker: &Docker, dir: &Path) {
    let binary = env!("CARGO_BIN_EXE_kina-exporter");
    let libraries = Command::new("ldd").arg(binary).output().unwrap();
    let libraries = String::from_utf8_lossy(&libraries.stdout).into_owned();
    let paths = libraries.split_whitespace().filter(|w| w.starts_with('/')).map(Path::new);
    for path in paths {
        let to = dir.join(path.strip_prefix("/").unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(path, to).unwrap();
    }
    std::fs::create_dir_all(dir.join("usr/local/bin")).unwrap();
    let to = dir.join("usr/local/bin/kina-exporter");
    // Most of a test build is what a debugger wants.
    let stripped = Command::new("strip").arg("-o").arg(&to).arg(binary).status();
    if !stripped.is_ok_and(|s| s.success()) {
        std::fs::copy(binary, &to).unwrap();
    }
    let tar = dir.with_extension("tar");
    assert!(Command::new("tar").arg("-C").arg(dir).arg("-cf").arg(&tar).arg(".").status().unwrap().success());
    let mut import = vec!["import".to_owned(), "-c".into(), "ENTRYPOINT [\"/usr/local/bin/kina-exporter\"]".into()];
    for (name, value) in environment() {
        import.extend(["-c".into(), format!("ENV {name}={value}")]);
    }
    import.extend([tar.display().to_string(), NAME.into()]);
    let imported = docker.docker(&import.iter().map(String::as_str).collect::<Vec<_>>());
    std::fs::remove_file(tar).unwrap();
    assert!(imported.starts_with("sha256:"), "{imported}");
}

const NAME: &str = "kina-test:exporter";

#[test]
fn in_a_container_it_names_the_others_and_sees_their_network() {
    let Some(docker) = Docker::get() else { return };
    let dir = tempfile::tempdir().unwrap();
    image(docker, dir.path());
    let other = docker.run(&["--memory=64m"], &["sh", "-c", "nc -l -p 80"]);
    let service = compose();
    let mut options: Vec<String> = vec!["--read-only".into()];
    assert_eq!(service["read_only"].as_bool(), Some(true));
    options.push(format!("--pid={}", service["pid"].as_str().unwrap()));
    options.push(format!("--cgroupns={}", service["cgroup"].as_str().unwrap()));
    options.extend(strings(&service["cap_drop"]).iter().map(|c| format!("--cap-drop={c}")));
    options.extend(strings(&service["cap_add"]).iter().map(|c| format!("--cap-add={c}")));
    options.extend(strings(&service["security_opt"]).iter().map(|o| format!("--security-opt={o}")));
    // `rslave` needs a root that is a shared mount, as systemd makes it.
    options.extend(strings(&service["volumes"]).iter().map(|v| format!("--volume={}", v.replace(",rslave", ""))));
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let socket = format!("--runtime.docker.socket={}", docker.socket.display());
    let exporter = docker.run_image(&options, NAME, &[&socket]);
    // Asked from within its network: a test has no way into an engine's network.
    let scrape = wait_for("the other's network", || {
        let url = "http://127.0.0.1:10217/metrics";
        let network = format!("--network=container:{}", exporter.id);
        let text = Command::new("docker")
            .env("DOCKER_HOST", format!("unix://{}", docker.socket.display()))
            .args(["run", "--rm", &network, IMAGE, "wget", "-qO-", url])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let scrape = Scrape::parse(&String::from_utf8_lossy(&text.stdout));
        scrape.value("container_network_receive_bytes_total", &[("name", &other.name)]).map(|_| scrape)
    });
    let labels: [(&str, &str); 3] = [("name", &other.name), ("image", IMAGE), ("runtime", "docker")];
    assert_eq!(scrape.must("container_spec_memory_limit_bytes", &labels), 64.0 * 1024.0 * 1024.0);
    assert!(scrape.must("container_memory_usage_bytes", &labels) > 0.0);
    assert_eq!(scrape.must("kina_container_tcp_connections", &[labels[0], ("state", "listen")]), 1.0);
    assert!(scrape.must("kina_container_memory_bytes", &[labels[0], ("kind", "vm_overhead")]) > 0.0);
    for capability in ["docker", "netns", "process_io", "sock_diag"] {
        assert_eq!(scrape.must("kina_capability", &[("capability", capability)]), 1.0, "{capability}");
    }
    assert!(scrape.value("container_last_seen", &[("name", &exporter.name)]).is_some(), "it shows itself, too");
}
