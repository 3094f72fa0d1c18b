//! What the fuzz target `runtimes` tries: every answer of a runtime, and what is made of it.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use prost::Message;
use serde::de::DeserializeOwned;

use super::apple::guest::Guest;
use super::apple::shapes;
use super::cgroup_names;
use super::http::Client;
use super::{RuntimeKind, cgroup_paths, containerd, engine_api};
use crate::root::{Clock, Root, parse_date};

/// A host on which there is nothing: what is asked of it is absent.
fn nowhere() -> Root {
    Root::at("/nonexistent".as_ref(), Clock::Fake(Default::default()))
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

fn wire<T: Message + Default>(bytes: &[u8]) -> Option<T> {
    T::decode(bytes).ok()
}

pub fn parse(bytes: &[u8]) {
    engines(bytes);
    of_containerd(bytes);
    of_apple(bytes);
    let text = String::from_utf8_lossy(bytes);
    let paths = cgroup_paths::parse(&text);
    let _ = (cgroup_paths::id(&paths), cgroup_paths::names(&paths, "4f5e"));
    for line in text.lines() {
        if let Some(found) = cgroup_names::recognise(line) {
            assert!(!found.name.is_empty());
            let _ = found.labels();
        }
    }
}

fn engines(bytes: &[u8]) {
    use engine_api::identify::{Api, healthy, is_image_id};
    use engine_api::wire::{Image, Inspect, Message, Summary, Version};
    static API: OnceLock<Api> = OnceLock::new();
    if let Some(answer) = json::<Inspect>(bytes) {
        let api = API.get_or_init(|| {
            let client = Client { root: nowhere(), socket: PathBuf::new(), timeout: Duration::ZERO };
            Api::new(client, RuntimeKind::Docker, "".into(), "/v1.41".into())
        });
        let told = api.of_answer("4f5e", answer);
        assert!(told.running || told.container.pid == 0, "a container that does not run has no process");
    }
    if let Some(message) = json::<Message>(bytes) {
        let _ = (message.at(), message.id(), message.attribute("name"));
        let _ = message.action.as_deref().map(|a| (healthy(a), is_image_id(a)));
    }
    let _ = (json::<Vec<Summary>>(bytes), json::<Image>(bytes));
    let _ = json::<Version>(bytes).and_then(|version| version.prefix());
}

fn of_containerd(bytes: &[u8]) {
    use containerd::identify;
    use containerd::wire::*;
    let root = nowhere();
    let hierarchies = cgroup_paths::Hierarchies::default();
    let told = [wire::<Container>(bytes), wire::<GotContainer>(bytes).and_then(|got| got.container)];
    for container in told.into_iter().flatten() {
        let _ = identify::container(&root, &hierarchies, &container, 1, None);
    }
    // The OCI specification within a container.
    let spec = Any { type_url: String::new(), value: bytes.to_vec().into() };
    let container = Container { id: "4f5e".into(), spec: Some(spec), ..Container::default() };
    let _ = identify::container(&root, &hierarchies, &container, 1, None);
    let _ = wire::<Envelope>(bytes).and_then(|e| e.timestamp?.nanos());
    let _ = wire::<Tasks>(bytes).map(|tasks| tasks.tasks.iter().filter(|t| t.runs()).count());
    let _ = (wire::<Containers>(bytes), wire::<Namespaces>(bytes), wire::<GotImage>(bytes), wire::<Content>(bytes));
    let _ = (wire::<ContainerCreate>(bytes), wire::<TaskCreate>(bytes), wire::<TaskStart>(bytes));
    let _ = (wire::<TaskExit>(bytes), wire::<TaskDelete>(bytes), wire::<About>(bytes));
}

fn of_apple(bytes: &[u8]) {
    if let Ok((listed, _)) = shapes::parse_list::<shapes::Listed>(bytes) {
        let _ = listed.iter().flat_map(|l| &l.networks).map(|n| n.addresses().count()).sum::<usize>();
    }
    let _ = (shapes::parse_list::<shapes::Stats>(bytes), shapes::parse_list::<shapes::ListedImage>(bytes));
    let _ = (json::<shapes::DiskUsage>(bytes), json::<shapes::Configuration>(bytes));
    let _ = shapes::Failure::from_stderr(bytes).reason();
    assert!(shapes::parse_status(bytes).is_none_or(|root| !root.is_empty()));
    let _ = Guest::parse(bytes, 0);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = parse_date(text);
    }
}
