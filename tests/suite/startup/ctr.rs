//! A client of containerd that starts containers, as small as a stop-watch needs: each call is one request to the daemon.

use std::path::{Path, PathBuf};

use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use kina_exporter::runtime::containerd::wire;
use prost::Message;
use tonic::Request;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::watch::{Urgent, Watched, now};
use crate::runtime::containerd::NAMESPACE;

/// One that copies nothing: only then is a snapshot prepared at once when it is asked for.
pub const SNAPSHOTTER: &str = "overlayfs";

pub struct Client {
    tokio: tokio::runtime::Runtime,
    channel: Channel,
}

/// `containerd.services.snapshots.v1`: requests to prepare one and for its mounts.
#[derive(Clone, PartialEq, Message)]
struct Snapshot {
    #[prost(string, tag = "1")]
    snapshotter: String,
    #[prost(string, tag = "2")]
    key: String,
    #[prost(string, tag = "3")]
    parent: String,
}

#[derive(Clone, PartialEq, Message)]
struct Stat {
    #[prost(message, optional, tag = "1")]
    info: Option<Info>,
}

#[derive(Clone, PartialEq, Message)]
struct Info {
    #[prost(string, tag = "2")]
    parent: String,
}

#[derive(Clone, PartialEq, Message)]
struct Mounts {
    #[prost(message, repeated, tag = "1")]
    mounts: Vec<Mount>,
}

#[derive(Clone, PartialEq, Message)]
struct Mount {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "2")]
    source: String,
    #[prost(string, tag = "3")]
    target: String,
    #[prost(string, repeated, tag = "4")]
    options: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct CreateContainer {
    #[prost(message, optional, tag = "1")]
    container: Option<Container>,
}

#[derive(Clone, PartialEq, Message)]
struct Container {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "3")]
    image: String,
    #[prost(message, optional, tag = "4")]
    runtime: Option<Runtime>,
    #[prost(message, optional, tag = "5")]
    spec: Option<wire::Any>,
    #[prost(string, tag = "6")]
    snapshotter: String,
    #[prost(string, tag = "7")]
    snapshot_key: String,
}

#[derive(Clone, PartialEq, Message)]
struct Runtime {
    #[prost(string, tag = "1")]
    name: String,
}

/// `containerd.services.tasks.v1`: requests to create, start, kill (`signal`) and delete a task.
#[derive(Clone, PartialEq, Message)]
struct Task {
    #[prost(string, tag = "1")]
    container_id: String,
    #[prost(message, repeated, tag = "3")]
    rootfs: Vec<Mount>,
}

#[derive(Clone, PartialEq, Message)]
struct Kill {
    #[prost(string, tag = "1")]
    container_id: String,
    #[prost(uint32, tag = "3")]
    signal: u32,
}

impl Client {
    pub fn connect(socket: &Path) -> Client {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let socket: PathBuf = socket.to_path_buf();
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { tokio::net::UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://localhost");
        let channel = tokio.block_on(endpoint.connect_with_connector(connector)).unwrap();
        Client { tokio, channel }
    }

    fn call<Q, A>(&self, path: &'static str, message: Q) -> Result<(A, Watched), tonic::Status>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let mut request = Request::new(message);
        request.metadata_mut().insert("containerd-namespace", NAMESPACE.parse().unwrap());
        let mut grpc = Grpc::new(self.channel.clone());
        self.tokio.block_on(async {
            grpc.ready().await.unwrap();
            let _urgent = Urgent::now();
            let asked = now();
            let answer = grpc.unary(request, PathAndQuery::from_static(path), ProstCodec::<Q, A>::default()).await?;
            Ok((answer.into_inner(), Watched { asked, answered: now() }))
        })
    }

    /// A container that is there.
    pub fn container(&self, id: &str) -> wire::Container {
        let path = "/containerd.services.containers.v1.Containers/Get";
        let (got, _): (wire::GotContainer, _) = self.call(path, wire::Get { id: id.to_owned() }).unwrap();
        got.container.unwrap()
    }

    /// Prepares a snapshot of what `like` is a snapshot of, and makes a container of it that is as `like` is.
    pub fn create(&self, id: &str, like: &str) -> Watched {
        let told = self.container(like);
        let mut spec = told.spec.unwrap();
        let mut json: serde_json::Value = serde_json::from_slice(&spec.value).unwrap();
        json["linux"]["cgroupsPath"] = format!("/{NAMESPACE}/{id}").into();
        spec.value = json.to_string().into();
        let about = Snapshot { snapshotter: SNAPSHOTTER.into(), key: like.into(), parent: String::new() };
        let (stat, _): (Stat, _) = self.call("/containerd.services.snapshots.v1.Snapshots/Stat", about).unwrap();
        let parent = stat.info.unwrap().parent;
        let snapshot = Snapshot { snapshotter: SNAPSHOTTER.into(), key: id.into(), parent };
        let prepare = "/containerd.services.snapshots.v1.Snapshots/Prepare";
        let (_, prepared): (Mounts, _) = self.call(prepare, snapshot).unwrap();
        let container = Container {
            id: id.into(),
            image: told.image,
            runtime: Some(Runtime { name: "io.containerd.runc.v2".into() }),
            spec: Some(spec),
            snapshotter: SNAPSHOTTER.into(),
            snapshot_key: id.into(),
        };
        let create = "/containerd.services.containers.v1.Containers/Create";
        let (_, created): (wire::Empty, _) = self.call(create, CreateContainer { container: Some(container) }).unwrap();
        prepared.until(created)
    }

    /// What a task of the container is mounted on.
    fn rootfs(&self, id: &str) -> Vec<Mount> {
        let snapshot = Snapshot { snapshotter: SNAPSHOTTER.into(), key: id.into(), parent: String::new() };
        let (mounts, _): (Mounts, _) =
            self.call("/containerd.services.snapshots.v1.Snapshots/Mounts", snapshot).unwrap();
        mounts.mounts
    }

    /// Creates the container's task, which waits to be started.
    pub fn create_task(&self, id: &str) -> Result<Watched, tonic::Status> {
        let task = Task { container_id: id.into(), rootfs: self.rootfs(id) };
        let (_, created): (wire::Empty, _) = self.call("/containerd.services.tasks.v1.Tasks/Create", task)?;
        Ok(created)
    }

    /// Creates the container's task and starts it.
    pub fn start(&self, id: &str) -> Result<Watched, tonic::Status> {
        let created = self.create_task(id)?;
        let task = Task { container_id: id.into(), rootfs: Vec::new() };
        let (_, started): (wire::Empty, _) = self.call("/containerd.services.tasks.v1.Tasks/Start", task)?;
        Ok(created.until(started))
    }

    /// Ends the container's task and removes it.
    pub fn end(&self, id: &str) {
        let kill = Kill { container_id: id.into(), signal: 9 };
        let _: Result<(wire::Empty, _), _> = self.call("/containerd.services.tasks.v1.Tasks/Kill", kill);
        crate::live::wait_for("the task to be removed", || {
            let task = Task { container_id: id.into(), rootfs: Vec::new() };
            self.call::<_, wire::Empty>("/containerd.services.tasks.v1.Tasks/Delete", task).ok()
        });
    }
}
