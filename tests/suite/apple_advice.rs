//! Advice on Apple's containers: the samples, made a little smaller or larger than each threshold, through the real binary to
//! `/api/v1/recommendations`.

use std::time::{Duration, Instant};

use crate::apple_live::{StandIn, boot, list, looking, only, rfc3339, unix_now, written};
use crate::common::fixture;
use crate::live::{Exporter, wait_for};

const MIB: u64 = 1 << 20;
/// What a VM of 1.2.2 has beyond its container.
const OVERHEAD: u64 = 128 * MIB;

/// The sample's container `web` under another name, with an image of its own and a VM of this size.
fn container(id: &str, vm_mib: u64, cpus: u32) -> serde_json::Value {
    let mut c = only(&list("1.2.2"), "web").clone();
    (c["id"], c["configuration"]["id"]) = (id.into(), id.into());
    c["configuration"]["image"]["reference"] = format!("docker.io/library/{id}:1").into();
    c["configuration"]["resources"]["memoryInBytes"] = (vm_mib * MIB - OVERHEAD).into();
    c["configuration"]["resources"]["cpus"] = cpus.into();
    c
}

/// Action, current and recommended figure of what is advised to a container.
fn advised(exporter: &Exporter, subject: &str) -> Vec<(String, Option<f64>, Option<f64>)> {
    let report: serde_json::Value = serde_json::from_str(&exporter.get("/api/v1/recommendations")).unwrap();
    let all = report["recommendations"].as_array().unwrap().iter();
    let mut found: Vec<_> = all
        .filter(|r| r["containers"].as_array().unwrap().iter().any(|c| c["id"] == subject))
        .map(|r| (r["action"].as_str().unwrap().to_owned(), r["current"].as_f64(), r["recommended"].as_f64()))
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

fn put(stand_in: &StandIn, containers: &[serde_json::Value]) {
    stand_in.set("list", serde_json::to_vec(containers).unwrap());
}

#[test]
fn memory() {
    let stand_in = StandIn::version("1.2.2");
    // Of 1000 MiB: memory of processes, page cache.
    let cases = [
        ("low", 590, 200, Some(("reduce_allocation", 1.5 * 590.0))),
        ("even", 610, 200, None),
        ("tight", 700, 90, Some(("increase_allocation", 1512.0))),
        ("roomy", 700, 110, None),
        // Both rules hold, and nothing says that the page cache is missed.
        ("both", 300, 50, Some(("reduce_allocation", 450.0))),
    ];
    let mut containers: Vec<_> = cases.iter().map(|(id, ..)| container(id, 1000, 2)).collect();
    for id in ["one", "two"] {
        let mut c = container(id, 1000, 2);
        c["configuration"]["image"]["reference"] = "docker.io/library/shared:1".into();
        containers.push(c);
    }
    put(&stand_in, &containers);
    for (id, process, cache, _) in cases {
        let stat = format!("anon {}\nshmem 0\nfile_mapped 0\nfile {}\nkernel 0\n", process * MIB, cache * MIB);
        stand_in.guest(id, &[("memory.stat", &stat)]);
    }
    let exporter = stand_in.exporter_with(&["--runtime.apple.guest-interval=10s"]);
    wait_for("the guests", || {
        let scrape = exporter.scrape();
        let told = scrape.select("kina_container_memory_efficiency_ratio", &[("runtime", "apple")]).count();
        (told == cases.len()).then_some(())
    });
    for (id, _, _, expected) in cases {
        let about_memory: Vec<_> =
            advised(&exporter, id).into_iter().filter(|(action, ..)| action.ends_with("_allocation")).collect();
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(action, mib)| (action.to_owned(), Some((1000 * MIB) as f64), Some(mib * MIB as f64)))
            .collect();
        assert_eq!(about_memory, expected, "{id}");
    }
    let shares = |id: &str| advised(&exporter, id).iter().any(|(action, ..)| action == "share_libraries");
    assert!(shares("one") && shares("two") && !shares("even"));
}

#[test]
fn cpu() {
    let stand_in = StandIn::version("1.2.2");
    // One CPU more than the container's since 1.0: of 4 cores. Far from the threshold, since nobody knows how late a figure
    // is read; `mac::cores_are_advised_on_as_anywhere` looks at the threshold itself.
    let cases = [("idle", 0.05, true), ("even", 0.6, false), ("busy", 0.9, false)];
    put(&stand_in, &cases.map(|(id, ..)| container(id, 1000, 3)));
    let begin = Instant::now();
    let tell = || {
        let used = |share: f64| (begin.elapsed().as_secs_f64() * share * 4.0 * 1e6) as u64;
        let stats = cases.map(|(id, share, _)| serde_json::json!({"id": id, "cpuUsageUsec": used(share)}));
        stand_in.set("stats", serde_json::to_vec(&stats).unwrap());
    };
    tell();
    let exporter = stand_in.exporter();
    let given = wait_for("advice", || {
        tell();
        let given = cases.map(|(id, ..)| advised(&exporter, id));
        given[0].iter().any(|(action, ..)| action == "reduce_cores").then_some(given)
    });
    for ((id, _, low), given) in cases.into_iter().zip(given) {
        let reduced: Vec<_> = given.into_iter().filter(|(action, ..)| action == "reduce_cores").collect();
        let expected = low.then(|| ("reduce_cores".to_owned(), Some(4.0), Some(0.7 * 4.0)));
        assert_eq!(reduced.len(), expected.iter().len(), "{id}: {reduced:?}");
        for ((_, current, recommended), (_, is, should)) in reduced.iter().zip(expected.iter()) {
            assert_eq!(current, is, "{id}");
            assert!((recommended.unwrap() - should.unwrap()).abs() < 1e-9, "{id}: {recommended:?}");
        }
    }
}

/// An image of this size with so many layers, as `image inspect` tells it.
fn image(bytes: u64, layers: usize) -> String {
    let path = fixture("apple/1.2.2/image-inspect-nginx.json");
    let mut sample: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for variant in sample[0]["variants"].as_array_mut().unwrap() {
        variant["size"] = bytes.into();
        variant["config"]["rootfs"]["diff_ids"] = (0..layers).map(|n| format!("sha256:{n}")).collect();
    }
    sample.to_string()
}

#[test]
fn startup() {
    let of_interest = ["cap_startup_resources", "reduce_image_layers", "use_minimal_init", "use_smaller_base_image"];
    // VM in MiB and CPUs, image in MiB and layers, first process; whether it is slow to come.
    let small = (2048, 3, 1024, 20, "/docker-entrypoint.sh");
    let large = (2049, 4, 1025, 21, "/sbin/init");
    for (name, (vm, cpus, mib, layers, init), slow, expected) in [
        ("large and slow", large, true, &of_interest[..]),
        ("small and slow", small, true, &[]),
        ("large and quick", large, false, &[]),
    ] {
        let stand_in = StandIn::version("1.2.2");
        stand_in.set("image-list", "[]");
        stand_in.set("image-inspect", image(mib * MIB, layers));
        stand_in.set("list", "[]");
        let exporter = stand_in.exporter();
        looking(&exporter);
        // A log that is written at once says that the VM ran before: by then the exporter must have been there.
        std::thread::sleep(Duration::from_millis(500));
        let mut c = container("new", vm, cpus);
        c["configuration"]["initProcess"]["executable"] = init.into();
        c["configuration"]["initProcess"]["arguments"] = serde_json::json!([]);
        let bundle = stand_in.bundle("new");
        std::fs::create_dir_all(&bundle).unwrap();
        for (file, ago) in [("runtime-configuration.json", 1900), ("config.json", 1000), ("options.json", 100)] {
            written(&bundle.join(file), "{}", Duration::from_millis(if slow { ago } else { ago / 5 }));
        }
        boot(&bundle, "1.2.2/boot-log-web.txt", Duration::ZERO);
        c["status"]["startedDate"] = rfc3339(unix_now()).into();
        put(&stand_in, &[c]);
        let took = wait_for("the start", || {
            exporter.scrape().value("kina_container_last_startup_duration_seconds", &[("id", "new")])
        });
        assert_eq!(took > 1.5, slow, "{name}: {took} s");
        let given: Vec<_> = advised(&exporter, "new").into_iter().map(|(action, ..)| action).collect();
        let given: Vec<_> = given.iter().map(String::as_str).filter(|a| of_interest.contains(a)).collect();
        assert_eq!(given, expected, "{name}");
    }
}
