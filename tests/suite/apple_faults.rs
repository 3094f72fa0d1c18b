//! What can go wrong with Apple's `container`, end to end: each error sample, crashes, garbage, a command that never ends.

use crate::apple_live::{StandIn, WITH_STATS, measured};
use crate::common::fixture;
use crate::live::{Exporter, wait_for};

fn says(exporter: &Exporter, capability: &str, reason: &str) {
    wait_for(&format!("{capability}: {reason}"), || {
        let scrape = exporter.scrape();
        scrape.select("kina_capability", &[("capability", capability), ("reason", reason)]).next().map(|_| ())
    });
}

fn sample(version: &str, name: &str) -> Vec<u8> {
    std::fs::read(fixture("apple").join(version).join(name)).unwrap()
}

#[test]
fn every_error_sample_is_told_by_its_cause_and_recovered_from() {
    for version in WITH_STATS {
        let stand_in = StandIn::version(version);
        let exporter = stand_in.exporter();
        measured(&exporter);
        let error = |name: &str| sample(version, &format!("errors/{name}.exit1.stderr.txt"));
        for (command, name, reason) in [
            ("list", "list-service-not-running", "the container service is not running"),
            ("list", "list-xpc-timeout", "the container service does not answer"),
            ("stats", "stats-unknown-id", "not found"),
        ] {
            stand_in.fail(command, &error(name), 1);
            says(&exporter, if command == "list" { "apple" } else { "apple_stats" }, reason);
            let good = if command == "list" { "container-list-all.json" } else { "stats-all.json" };
            stand_in.mend(command, sample(version, good));
            says(&exporter, if command == "list" { "apple" } else { "apple_stats" }, "");
        }
        measured(&exporter);
    }
}

#[test]
fn an_error_of_what_is_asked_besides_costs_that_alone() {
    for version in WITH_STATS {
        let stand_in = StandIn::version(version);
        // Otherwise the list tells of images what is asked for here.
        stand_in.set("image-list", "[]");
        let mut answers = Vec::new();
        for file in std::fs::read_dir(fixture("apple").join(version).join("errors")).unwrap() {
            let path = file.unwrap().path();
            let Some(name) = path.file_name().unwrap().to_str().unwrap().strip_suffix(".exit1.stderr.txt") else {
                continue;
            };
            let answer = match name {
                "df-service-not-running" => "df",
                "image-inspect-unknown" => "image-inspect",
                "exec-not-running" => "exec-web",
                "exec-unknown-id" => "exec-buildkit",
                // See above; and what the exporter never asks for.
                "list-service-not-running" | "list-xpc-timeout" | "stats-unknown-id" => continue,
                "inspect-unknown-id" | "logs-unknown-id" => continue,
                other => panic!("{version}: {other} is not tried"),
            };
            stand_in.fail(answer, &std::fs::read(&path).unwrap(), 1);
            answers.push(answer);
        }
        assert!(answers.contains(&"df"), "{version}: {answers:?}");
        let exporter =
            stand_in.exporter_with(&["--runtime.apple.disk-interval=10m", "--runtime.apple.guest-interval=10s"]);
        says(&exporter, "apple_disk", "the container service is not running");
        for answer in answers {
            wait_for(&format!("{version}: {answer} to be asked"), || {
                (stand_in.calls(&format!("done {answer}")) > 0).then_some(())
            });
        }
        let scrape = measured(&exporter);
        for capability in ["apple", "apple_stats"] {
            assert_eq!(scrape.value("kina_capability", &[("capability", capability)]), Some(1.0), "{version}");
        }
        assert!(scrape.select("kina_scrape_collector_success", &[]).all(|s| s.value == 1.0), "{version}");
        assert_eq!(exporter.terminate(), Some(0));
    }
}

#[test]
fn another_users_daemon_a_crash_and_garbage_cost_no_more_than_the_answer() {
    let stand_in = StandIn::version("1.2.2");
    let exporter = stand_in.exporter();
    measured(&exporter);
    stand_in.fail("list", b"Error: unauthorized request\n", 1);
    says(&exporter, "apple", "the container service belongs to another user");
    // Killed by a signal, with half an answer.
    stand_in.fail("list", b"", 139);
    stand_in.set("list", b"[{\"id\":\"we");
    says(&exporter, "apple", "the container command failed");
    for garbage in [&b"\xff\xfe\x00"[..], b"{}", b"[", b"null", b"builder is not running\n"] {
        stand_in.mend("list", garbage);
        says(&exporter, "apple", "the container command printed no JSON");
        stand_in.mend("list", sample("1.2.2", "container-list-all.json"));
        says(&exporter, "apple", "");
    }
    stand_in.mend("stats", b"not JSON");
    says(&exporter, "apple_stats", "the container command printed no JSON");
    stand_in.mend("stats", sample("1.2.2", "stats-all.json"));
    measured(&exporter);
}

#[test]
fn a_command_that_never_ends_is_killed() {
    let stand_in = StandIn::version("1.2.2");
    let exporter = stand_in.exporter();
    measured(&exporter);
    stand_in.delay("list", 600);
    says(&exporter, "apple", "the container command did not end in time");
    let (begun, done) = (stand_in.calls("begin list"), stand_in.calls("done list"));
    assert!(begun <= done + 2, "one after the other: {begun} begun, {done} done");
    stand_in.mend("list", sample("1.2.2", "container-list-all.json"));
    says(&exporter, "apple", "");
}
