//! A daemon that hangs, breaks off, talks nonsense or too much, and one that is restarted.

use std::time::Duration;

use kina_exporter::root::{Clock, Root};
use kina_exporter::runtime::containerd::wire;
use kina_exporter::runtime::{EventKind, RuntimeKind};
use serde_json::json;

use super::fake::{Fake, Manner, id, now};
use super::fake_containerd::{FakeContainerd, framed};
use super::seen::{Seen, nothing};
use crate::live::{LIMIT, wait_for};

#[track_caller]
fn shown(seen: &Seen, name: &str) -> std::sync::Arc<kina_exporter::runtime::Container> {
    wait_for(&format!("{name} to be shown"), || seen.by_name(name))
}

#[test]
fn whatever_goes_wrong_at_first_is_told_and_overcome() {
    for (path, manner, told) in [
        ("/version", Manner::Hang, "not answering"),
        ("/containers/json", Manner::Hang, "not answering"),
        ("/events", Manner::Hang, "not answering"),
        ("/containers/json", Manner::DropInTheMiddle, "bad answer"),
        ("/containers/json", Manner::Nonsense, "bad answer"),
        ("/containers/json", Manner::Huge, "bad answer"),
        ("/version", Manner::Error500, "bad answer"),
    ] {
        for runtime in [RuntimeKind::Docker, RuntimeKind::Podman] {
            let fake = Fake::start();
            fake.run(1, "web", now(), |_| {});
            fake.behave(path, manner);
            let seen = fake.see_as(runtime);
            seen.wait_for_capability(runtime, told);
            fake.behave_well();
            seen.wait_for_capability(runtime, "yes");
            assert_eq!(shown(&seen, "web").runtime, runtime);
        }
    }
}

#[test]
fn an_answer_without_an_end_is_cut_off() {
    let fake = Fake::start();
    fake.run(1, "web", now(), |_| {});
    fake.behave("/containers/json", Manner::Endless);
    // What is read until then takes a busy machine longer than the others may.
    let seen = fake.see_within(RuntimeKind::Docker, LIMIT);
    seen.wait_for_capability(RuntimeKind::Docker, "bad answer");
    fake.behave_well();
    seen.wait_for_capability(RuntimeKind::Docker, "yes");
    shown(&seen, "web");
}

#[test]
fn whatever_goes_wrong_with_containerd_is_told_and_overcome() {
    for (method, manner, told) in [
        ("/Version", Manner::Hang, "not answering"),
        ("Tasks/List", Manner::Hang, "not answering"),
        ("Containers/List", Manner::DropInTheMiddle, "not answering"),
        ("Containers/List", Manner::Nonsense, "bad answer"),
        ("Containers/List", Manner::Huge, "bad answer"),
        ("Namespaces/List", Manner::Error500, "bad answer"),
        ("Events/Subscribe", Manner::Error500, "bad answer"),
        ("Events/Subscribe", Manner::Nonsense, "bad answer"),
    ] {
        let fake = FakeContainerd::start();
        fake.run("web", 11);
        fake.behave(method, manner);
        let seen = fake.see();
        seen.wait_for_capability(RuntimeKind::Containerd, told);
        fake.behave_well();
        seen.wait_for_capability(RuntimeKind::Containerd, "yes");
        shown(&seen, "web");
    }
}

#[test]
fn a_containerd_that_tells_nothing_of_images_hides_no_container() {
    for manner in [Manner::Hang, Manner::DropInTheMiddle, Manner::Nonsense, Manner::Huge, Manner::Error500] {
        let fake = FakeContainerd::start();
        for n in 1..=20 {
            fake.run(&format!("c{n}"), 10 + n);
        }
        fake.behave("Images/Get", manner);
        let seen = fake.see();
        for n in 1..=20 {
            shown(&seen, &format!("c{n}"));
        }
        seen.wait_for_capability(RuntimeKind::Containerd, "yes");
        // Once for all, and what comes of it is not the connection's end.
        assert_eq!((fake.calls("Images/Get"), fake.calls("/Version")), (1, 1), "{manner:?}");
        // Nor is it asked again by the next connection: a daemon may end by such a question.
        fake.go_down();
        seen.wait_for_capability(RuntimeKind::Containerd, "not answering");
        fake.behave_well();
        fake.behave("Images/Get", manner);
        seen.wait_for_capability(RuntimeKind::Containerd, "yes");
        assert_eq!(seen.live().len(), 20);
        assert_eq!((fake.calls("Images/Get"), fake.calls("/Version")), (1, 2), "{manner:?}");
    }
}

#[test]
fn nonsense_among_containerds_events_costs_itself_alone() {
    let fake = FakeContainerd::start();
    let mut seen = fake.see();
    seen.wait_for_capability(RuntimeKind::Containerd, "yes");
    for topic in ["/tasks/start", "/tasks/exit", "/containers/create", "/no/such/topic", ""] {
        fake.emit_raw(topic, b"\xff\xff\xff".as_slice().into());
    }
    fake.emit("/tasks/exit", &wire::TaskExit { container_id: "nobody".into(), ..Default::default() });
    fake.run("web", 11);
    fake.emit("/tasks/start", &wire::TaskStart { container_id: "web".into(), pid: 11 });
    seen.wait_for_event("web", "its start", |e| matches!(e, EventKind::Started { .. }));
    shown(&seen, "web");
    // What is no message at all, or too long a one, costs the connection, and that is made again.
    let mut too_long = framed(&[]).to_vec();
    too_long[1] = 0x7f;
    for bad in [b"\x07\0\0\0\x01x".to_vec(), too_long] {
        let connections = fake.calls("/Version");
        fake.send(bad.into());
        wait_for("another connection", || (fake.calls("/Version") > connections).then_some(()));
        seen.wait_for_capability(RuntimeKind::Containerd, "yes");
        shown(&seen, "web");
    }
}

#[test]
fn a_containerd_that_was_away_is_listed_again() {
    let fake = FakeContainerd::start();
    fake.run("stays", 11);
    fake.run("goes", 12);
    let seen = fake.see();
    shown(&seen, "stays");
    shown(&seen, "goes");
    fake.go_down();
    seen.wait_for_capability(RuntimeKind::Containerd, "not answering");
    assert!(seen.by_name("stays").is_some(), "a container outlives its daemon");
    fake.end("goes");
    wait_for("the dead one to go without its daemon", || seen.by_name("goes").is_none().then_some(()));
    fake.run("new", 13);
    fake.behave_well();
    seen.wait_for_capability(RuntimeKind::Containerd, "yes");
    shown(&seen, "new");
    shown(&seen, "stays");
    assert_eq!(seen.live().len(), 2);
}

#[test]
fn a_container_that_cannot_be_inspected_hides_no_other() {
    for manner in [Manner::Hang, Manner::DropInTheMiddle, Manner::Nonsense, Manner::Error500] {
        let fake = Fake::start();
        for n in 1..=20 {
            fake.run(n, &format!("c{n}"), now(), |_| {});
        }
        fake.behave(&id(7), manner);
        let seen = fake.see();
        for n in (1..=20).filter(|n| *n != 7) {
            shown(&seen, &format!("c{n}"));
        }
        assert!(seen.by_name("c7").is_none());
        seen.wait_for_capability(RuntimeKind::Docker, "yes");
    }
}

#[test]
fn names_images_and_labels_of_any_kind_arrive_whole() {
    let fake = Fake::start();
    let long = "x\"y\\z\n\u{1F980}".repeat(8 << 10);
    fake.image(
        "sha256:0123456789abcdef",
        json!({"Id": "sha256:0123456789abcdef", "RepoTags": ["repo/name:tag"], "Size": 5_000_000_000_i64,
               "RootFS": {"Layers": ["a", "b", "c"]}}),
    );
    fake.run(1, "web", now(), |c| {
        c["Config"] = json!({"Image": "sha256:0123456789abcdef", "Labels": {"long": long, "none": null}});
        c["HostConfig"] = json!({"NetworkMode": "container:abc", "RestartPolicy": {"Name": "always"}});
        c["State"]["Health"] = json!({"Status": "unhealthy"});
        c["NetworkSettings"] = json!({"Networks": {"a": {"IPAddress": "10.0.0.2", "GlobalIPv6Address": "fe80::2"},
                                                    "b": {"IPAddress": "", "GlobalIPv6Address": ""}}});
    });
    let seen = fake.see();
    let c = shown(&seen, "web");
    assert_eq!(c.identity.image, "repo/name:tag", "an image asked for by its id is named by its tag");
    assert_eq!(c.image.size_bytes, Some(5_000_000_000));
    assert_eq!(c.image.layers, Some(3));
    assert_eq!(c.user_labels["long"], long);
    assert_eq!(c.user_labels["none"], "");
    assert_eq!(c.shares_network_of.as_deref(), Some("abc"));
    assert_eq!(c.restart_policy, "always");
    assert_eq!(c.healthy, Some(false));
    assert_eq!(c.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.2", "fe80::2"]);
}

/// As the API's documentation has it: of an engine whose images containerd keeps (Docker 24 to 28 where that is switched
/// on, 29 from the first), an image's id is its manifest's digest, no graph driver tells anything, and since API 1.52 there
/// is not even a word of one.
#[test]
fn engines_with_containerds_image_store_are_told_whole() {
    let digest = "sha256:9ae97d36d26566ff84e8893c64a6dc4fe8ca6d1144bf5b87b2b85a32def253c7";
    let descriptor = json!({"mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest, "size": 9218});
    let before_29 = json!({"GraphDriver": {"Data": null, "Name": "overlayfs"}});
    let since_29 = json!({"Storage": {"RootFS": {"Snapshot": {"Name": "overlayfs"}}}});
    for (newest, oldest, storage) in
        [("1.43", "1.12", &before_29), ("1.47", "1.24", &before_29), ("1.52", "1.44", &since_29)]
    {
        let fake = Fake::start();
        fake.speak(newest, oldest);
        fake.image(
            digest,
            json!({"Id": digest, "RepoTags": ["nginx:latest"], "RepoDigests": [format!("nginx@{digest}")], "Size": 72_281_600,
                   "RootFS": {"Type": "layers", "Layers": ["sha256:1", "sha256:2"]}, "Descriptor": descriptor,
                   "GraphDriver": before_29["GraphDriver"], "Metadata": {"LastTagTime": "2026-11-23T18:21:35Z"}}),
        );
        let mut seen = fake.see();
        seen.wait_for_capability(RuntimeKind::Docker, "yes");
        // What containerd's snapshotter mounts tells when the start was asked for, in place of the graph driver's folder.
        let snapshot = "var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/7";
        let work = fake.dir.path().join(snapshot).join("work");
        std::fs::create_dir_all(&work).unwrap();
        std::fs::create_dir_all(fake.dir.path().join("proc/11")).unwrap();
        let mount = format!(
            "5 4 0:66 / / rw - overlay overlay rw,lowerdir=/a,upperdir=/{snapshot}/fs,workdir=/{snapshot}/work\n"
        );
        std::fs::write(fake.dir.path().join("proc/11/mountinfo"), mount).unwrap();
        // Of the file's time half a tick is not known.
        let started = now() + 100_000_000;
        let told = |c: &mut serde_json::Value| {
            c["Image"] = json!(digest);
            c["ImageManifestDescriptor"] = descriptor.clone();
            c["Config"] = json!({"Image": "nginx", "Labels": {}});
            for (key, value) in storage.as_object().unwrap() {
                c[key] = value.clone();
            }
        };
        fake.run(1, "web", started, told);
        fake.emit(1, "start", started);
        let c = shown(&seen, "web");
        assert_eq!((c.identity.image.as_str(), c.image.id.as_str()), ("nginx", digest));
        assert_eq!((c.image.size_bytes, c.image.layers), (Some(72_281_600), Some(2)));
        seen.wait_for_event(&id(1), "its start", |e| matches!(e, EventKind::Started { .. }));
        assert!(seen.of(&id(1)).contains(&EventKind::StartRequested), "{newest}: {:?}", seen.of(&id(1)));

        // An image whose name another one has by now is gone from the store, its containers are not.
        fake.run(2, "old", started, |c| c["Image"] = json!(format!("{digest}0")));
        fake.emit(2, "start", started);
        let c = shown(&seen, "old");
        assert_eq!((c.identity.image.as_str(), c.image.size_bytes), ("img", None));
    }
}

#[test]
fn every_users_podman_is_asked_and_one_that_goes_takes_no_other_along() {
    let machine = Fake::start();
    let system = machine.beside("run/podman/podman.sock");
    let user = machine.beside("run/user/1000/podman/podman.sock");
    system.run(1, "of-the-system", now(), |_| {});
    user.run(2, "of-the-user", now(), |_| {});
    let mut config = nothing();
    config.runtime.podman.enabled = true;
    config.runtime.podman.timeout = Duration::from_millis(700);
    let seen = Seen::start(Root::at(machine.dir.path(), Clock::System), config);
    for (name, socket) in
        [("of-the-system", "/run/podman/podman.sock"), ("of-the-user", "/run/user/1000/podman/podman.sock")]
    {
        assert_eq!(&*shown(&seen, name).source, socket);
    }
    user.go_down();
    user.end(2);
    wait_for("the user's to go", || seen.by_name("of-the-user").is_none().then_some(()));
    shown(&seen, "of-the-system");
    seen.wait_for_capability(RuntimeKind::Podman, "yes");
    system.go_down();
    seen.wait_for_capability(RuntimeKind::Podman, "not answering");
    user.run(3, "back", now(), |_| {});
    user.behave_well();
    seen.wait_for_capability(RuntimeKind::Podman, "yes");
    shown(&seen, "back");
    shown(&seen, "of-the-system");
}

#[test]
fn the_cgroup_of_whoever_started_a_container_is_not_taken_for_its_own() {
    let fake = Fake::start();
    for n in 1..=2 {
        fake.run(n, &format!("c{n}"), now(), |_| {});
        std::fs::remove_dir(fake.dir.path().join(format!("sys/fs/cgroup/system.slice/docker-{}.scope", id(n))))
            .unwrap();
        let proc = fake.dir.path().join(format!("proc/{}", n + 10));
        std::fs::write(proc.join("cgroup"), "0::/user.slice/session-1.scope\n").unwrap();
    }
    let seen = fake.see_as(RuntimeKind::Podman);
    for n in 1..=2 {
        let c = shown(&seen, &format!("c{n}"));
        assert_eq!(c.identity.id, format!("/podman/{}", id(n)), "no other has this id");
        assert_eq!((c.cgroup.v2.as_deref(), c.pid), (None, 0), "the process can't be told from one of that number");
    }
}

#[test]
fn nonsense_among_the_events_costs_itself_alone() {
    let fake = Fake::start();
    let mut seen = fake.see();
    seen.wait_for_capability(RuntimeKind::Docker, "yes");
    fake.send("{nonsense}\n\n[]\nnull\n\"\"\n{\"Type\":\"container\"}\n");
    fake.send(
        "{\"Type\":\"container\",\"Action\":\"start\",\"Actor\":{\"ID\":\"\",\"Attributes\":null},\"timeNano\":1}\n",
    );
    let long = " ".repeat(1 << 20);
    for _ in 0..6 {
        fake.send(&long);
    }
    fake.send("too long\n");
    fake.run(1, "web", now() - 1000, |_| {});
    let line = fake.event(1, "start", now());
    let (head, tail) = line.split_at(line.len() / 2);
    fake.send(head);
    fake.send(&format!("{tail}\n"));
    shown(&seen, "web");
    seen.wait_for_event(&id(1), "its start", |e| matches!(e, EventKind::Started { .. }));
}

#[test]
fn events_twice_late_and_out_of_order_tell_the_truth() {
    let fake = Fake::start();
    let mut seen = fake.see();
    seen.wait_for_capability(RuntimeKind::Docker, "yes");
    let t = now();
    // It was started, died and was started again; the death arrives last, and everything twice.
    fake.run(1, "c1", t + 30_000, |_| {});
    for _ in 0..2 {
        fake.emit(1, "create", t);
        fake.emit(1, "start", t + 10_000);
        fake.emit(1, "start", t + 40_000);
        fake.emit(1, "die", t + 20_000);
    }
    shown(&seen, "c1");
    wait_for("the events", || (seen.of(&id(1)).len() >= 5).then_some(()));
    seen.settle();
    let events = seen.of(&id(1));
    assert_eq!(events.len(), 5, "{events:?}");
    assert!(seen.by_name("c1").is_some(), "a death before its start does not remove it");
    assert_eq!(events[2], EventKind::Started { pid: 0, started: None }, "the first start is not the second");
    assert!(matches!(events[3], EventKind::Started { pid: 11, started: Some(_) }), "{events:?}");
    // It ends: no answer to an inspect that was asked before may bring it back.
    fake.end(1);
    fake.emit(1, "die", t + 50_000);
    fake.emit(1, "destroy", t + 60_000);
    seen.wait_for_event(&id(1), "its removal", |e| *e == EventKind::Removed);
    assert!(seen.live().is_empty());
}

#[test]
fn what_happened_while_the_daemon_was_away_is_made_up_for_once() {
    let fake = Fake::start();
    fake.run(1, "stays", now() - 1_000_000_000, |_| {});
    fake.run(2, "goes", now() - 1_000_000_000, |_| {});
    let mut seen = fake.see();
    shown(&seen, "stays");
    shown(&seen, "goes");
    fake.run(3, "before", now(), |_| {});
    fake.emit(3, "start", now());
    shown(&seen, "before");
    fake.go_down();
    seen.wait_for_capability(RuntimeKind::Docker, "not answering");
    assert!(seen.by_name("stays").is_some(), "a container outlives its daemon");
    fake.end(2);
    wait_for("the dead one to go without its daemon", || seen.by_name("goes").is_none().then_some(()));
    // One start is in the history, one is not any more, one came and went.
    fake.run(4, "told", now(), |_| {});
    fake.emit(4, "start", now());
    fake.run(5, "forgotten", now(), |_| {});
    fake.emit(6, "start", now());
    fake.emit(6, "die", now());
    fake.emit(6, "destroy", now());
    fake.behave_well();
    seen.wait_for_capability(RuntimeKind::Docker, "yes");
    for name in ["stays", "before", "told", "forgotten"] {
        shown(&seen, name);
    }
    seen.wait_for_event(&id(6), "the end of the short one", |e| *e == EventKind::Removed);
    seen.settle();
    for n in [3, 4, 5, 6] {
        let started = seen.of(&id(n)).into_iter().filter(|e| matches!(e, EventKind::Started { .. })).count();
        assert_eq!(started, 1, "container {n}: {:?}", seen.of(&id(n)));
    }
    assert!(seen.of(&id(1)).is_empty(), "what started before is not invented");
    let replayed: Vec<_> = seen.events.iter().filter(|e| e.key.id == id(4)).map(|e| e.replayed).collect();
    assert_eq!(replayed, [true]);
    assert_eq!(seen.live().len(), 4);
}

#[test]
fn a_scrape_waits_for_an_identity_but_not_for_ever() {
    let fake = Fake::start();
    let seen = fake.see();
    seen.wait_for_capability(RuntimeKind::Docker, "yes");
    fake.behave(&id(1), Manner::Hang);
    fake.run(1, "slow", now(), |_| {});
    fake.emit(1, "start", now());
    let begin = std::time::Instant::now();
    wait_for("the event", || seen.ctx.directory.is_unsettled().then_some(()));
    seen.settle();
    // The daemon would answer after twenty seconds.
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    assert!(seen.by_name("slow").is_none());
}

#[test]
fn hundreds_at_once_are_all_found() {
    let fake = Fake::start();
    let mut seen = fake.see();
    seen.wait_for_capability(RuntimeKind::Docker, "yes");
    for n in 1..=300 {
        fake.run(n, &format!("c{n}"), now(), |_| {});
        fake.emit(n, "start", now());
        if n % 3 == 0 {
            fake.end(n);
            fake.emit(n, "die", now());
            fake.emit(n, "destroy", now());
        }
    }
    seen.wait_for_event(&id(300), "the last", |e| *e == EventKind::Removed);
    seen.settle();
    wait_for("all that stay", || (seen.live().len() == 200).then_some(()));
    for n in 1..=300 {
        let events = seen.of(&id(n));
        assert_eq!(events.len(), if n % 3 == 0 { 3 } else { 1 }, "{n}: {events:?}");
    }
}

/// Bytes of a good answer changed, removed and doubled in a fixed pseudo-random way.
fn mutated(good: &[u8], seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    let mut bytes = good.to_vec();
    for _ in 0..=random(4) {
        let at = random(bytes.len());
        match random(5) {
            0 => bytes[at] = b"{}[]\",:0-e\\\x00\xff"[random(13)],
            1 => bytes.truncate(at.max(1)),
            2 => drop(bytes.drain(at..(at + random(8)).min(bytes.len()))),
            3 => {
                let part = bytes[at..(at + random(16)).min(bytes.len())].to_vec();
                bytes.splice(at..at, part);
            }
            _ => bytes[at] = random(256) as u8,
        }
        if bytes.is_empty() {
            bytes.push(b'x');
        }
    }
    bytes
}

#[test]
fn no_changed_answer_makes_a_parser_panic() {
    use kina_exporter::root::parse_date;
    use kina_exporter::runtime::engine_api::wire::{Image, Inspect, Message, Summary, Version};
    let inspect = json!({
        "Id": id(1), "Created": "2026-11-23T18:21:35.352063269Z", "Path": "a", "Args": ["b"], "Name": "/n",
        "State": {"Running": true, "Pid": 7, "ExitCode": -1, "StartedAt": "2026-11-23T18:21:35+01:00",
                  "Health": {"Status": "healthy"}},
        "Config": {"Image": "i", "Labels": {"a": "b", "c": null}},
        "HostConfig": {"NetworkMode": "container:x", "RestartPolicy": {"Name": "no"}},
        "NetworkSettings": {"Networks": {"x": {"IPAddress": "10.0.0.1"}}}
    });
    let message = json!({"Type": "container", "Action": "health_status: healthy", "time": 1, "timeNano": 1_000_000_001,
                         "Actor": {"ID": id(1), "Attributes": {"exitCode": "0", "x": null}}});
    let image = json!({"Id": "sha256:0", "RepoTags": ["a:b"], "Size": 1, "RootFS": {"Layers": ["x"]}});
    let list = json!([{"Id": id(1)}, {"Id": id(2)}]);
    let version = json!({"ApiVersion": "1.41", "MinAPIVersion": "1.12"});
    let mut read = 0;
    for seed in 1..=4000 {
        let change = |good: &serde_json::Value| mutated(good.to_string().as_bytes(), seed);
        if let Ok(answer) = serde_json::from_slice::<Inspect>(&change(&inspect)) {
            read += 1;
            answer.created.as_deref().map(parse_date);
            answer.state.and_then(|s| s.started_at).as_deref().map(parse_date);
        }
        if let Ok(message) = serde_json::from_slice::<Message>(&change(&message)) {
            read += 1;
            let _ = (message.at(), message.id(), message.attribute("exitCode"));
        }
        if let Ok(version) = serde_json::from_slice::<Version>(&change(&version)) {
            read += 1;
            let _ = version.prefix();
        }
        read += usize::from(serde_json::from_slice::<Image>(&change(&image)).is_ok());
        read += usize::from(serde_json::from_slice::<Vec<Summary>>(&change(&list)).is_ok());
        let _ = parse_date(&String::from_utf8_lossy(&mutated(b"2026-11-23T18:21:35.352063269Z", seed)));
    }
    assert!((500..19_500).contains(&read), "{read} of 20000 could still be read: some must, some must not");
}
