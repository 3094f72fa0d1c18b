//! The messages of containerd's API that are used, with its field numbers (api/services/*/v1/*.proto, api/events/*.proto,
//! api/types/*.proto of containerd 1.x and 2.x). Fields that are not used are left out: protobuf skips them.

use std::collections::HashMap;

use crate::root::{Nanos, SECOND};

#[derive(Clone, PartialEq, prost::Message)]
pub struct Empty {}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Timestamp {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl Timestamp {
    /// None for Go's zero time (year 1): it did not happen.
    pub fn nanos(&self) -> Option<Nanos> {
        if self.seconds <= 0 {
            return None;
        }
        self.seconds.checked_mul(SECOND)?.checked_add(Nanos::from(self.nanos))
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Any {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub value: bytes::Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Version {
    #[prost(string, tag = "1")]
    pub version: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Namespaces {
    #[prost(message, repeated, tag = "1")]
    pub namespaces: Vec<Namespace>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Namespace {
    #[prost(string, tag = "1")]
    pub name: String,
}

/// `GetContainerRequest`: by id; `GetImageRequest`: by name.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Get {
    #[prost(string, tag = "1")]
    pub id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct GotContainer {
    #[prost(message, optional, tag = "1")]
    pub container: Option<Container>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Containers {
    #[prost(message, repeated, tag = "1")]
    pub containers: Vec<Container>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Container {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(map = "string, string", tag = "2")]
    pub labels: HashMap<String, String>,
    #[prost(string, tag = "3")]
    pub image: String,
    /// The OCI runtime specification, as JSON.
    #[prost(message, optional, tag = "5")]
    pub spec: Option<Any>,
    #[prost(message, optional, tag = "8")]
    pub created_at: Option<Timestamp>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Tasks {
    #[prost(message, repeated, tag = "1")]
    pub tasks: Vec<Process>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Process {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(string, tag = "2")]
    pub id: String,
    #[prost(uint32, tag = "3")]
    pub pid: u32,
    /// 2 running, 4 paused, 5 pausing.
    #[prost(int32, tag = "4")]
    pub status: i32,
}

impl Process {
    pub fn runs(&self) -> bool {
        matches!(self.status, 2 | 4 | 5)
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct GotImage {
    #[prost(message, optional, tag = "1")]
    pub image: Option<Image>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Image {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "3")]
    pub target: Option<Descriptor>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Descriptor {
    #[prost(string, tag = "1")]
    pub media_type: String,
    #[prost(string, tag = "2")]
    pub digest: String,
    #[prost(int64, tag = "3")]
    pub size: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ReadContent {
    #[prost(string, tag = "1")]
    pub digest: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Content {
    #[prost(bytes = "bytes", tag = "2")]
    pub data: bytes::Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Envelope {
    #[prost(message, optional, tag = "1")]
    pub timestamp: Option<Timestamp>,
    #[prost(string, tag = "2")]
    pub namespace: String,
    #[prost(string, tag = "3")]
    pub topic: String,
    #[prost(message, optional, tag = "4")]
    pub event: Option<Any>,
}

/// `ContainerCreate`, `ContainerUpdate`, `ContainerDelete`, `ImageCreate`, `SnapshotPrepare`, `TaskOOM`: what it is about
/// comes first.
#[derive(Clone, PartialEq, prost::Message)]
pub struct About {
    #[prost(string, tag = "1")]
    pub id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerCreate {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub image: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct TaskCreate {
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// The folder that containerd made for the task.
    #[prost(string, tag = "2")]
    pub bundle: String,
    #[prost(uint32, tag = "6")]
    pub pid: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct TaskStart {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(uint32, tag = "2")]
    pub pid: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct TaskExit {
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// The process's own id: the container's for its first process, another for an exec.
    #[prost(string, tag = "2")]
    pub id: String,
    #[prost(uint32, tag = "4")]
    pub exit_status: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct TaskDelete {
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// Set for an exec alone.
    #[prost(string, tag = "5")]
    pub id: String,
}
