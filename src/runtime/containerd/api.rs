//! containerd's gRPC services over its Unix socket.

use std::path::PathBuf;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use prost::Message;
use tonic::client::Grpc;
use tonic::codec::Streaming;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tracing::Instrument;

use super::wire;
use crate::WORK;
use crate::root::Root;
use crate::runtime::http::{MAX_BODY, Trouble, failed};

/// A manifest or index is some kilobytes.
const MAX_MANIFEST: usize = 4 << 20;

#[derive(Debug, Clone)]
pub struct Api {
    channel: Channel,
    timeout: Duration,
}

impl Api {
    pub async fn connect(root: &Root, socket: &std::path::Path, timeout: Duration) -> Result<Self, Trouble> {
        // Asked once by hand: the channel hides why it can't connect.
        root.connect_unix(socket, timeout).await.map_err(|e| Trouble::from_connect(&e))?;
        let (root, socket): (Root, PathBuf) = (root.clone(), socket.to_path_buf());
        let connector = tower::service_fn(move |_| {
            let (root, socket) = (root.clone(), socket.clone());
            async move { root.connect_unix(&socket, timeout).await.map(TokioIo::new) }
        });
        // The host is not looked at on a Unix socket.
        let endpoint = Endpoint::from_static("http://localhost")
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(timeout)
            .keep_alive_while_idle(true);
        let connected = tokio::time::timeout(timeout, endpoint.connect_with_connector(connector)).await;
        let channel = connected.map_err(|_| Trouble::NotAnswering)?.map_err(|_| Trouble::NotAnswering)?;
        Ok(Self { channel, timeout })
    }

    pub async fn version(&self) -> Result<wire::Version, Trouble> {
        self.call("/containerd.services.version.v1.Version/Version", "", wire::Empty {}).await
    }

    pub async fn namespaces(&self) -> Result<Vec<String>, Trouble> {
        let answer: wire::Namespaces =
            self.call("/containerd.services.namespaces.v1.Namespaces/List", "", wire::Empty {}).await?;
        Ok(answer.namespaces.into_iter().map(|n| n.name).collect())
    }

    pub async fn containers(&self, namespace: &str) -> Result<Vec<wire::Container>, Trouble> {
        let path = "/containerd.services.containers.v1.Containers/List";
        let answer: wire::Containers = self.call(path, namespace, wire::Empty {}).await?;
        Ok(answer.containers)
    }

    /// None if it does not exist (any more).
    pub async fn container(&self, namespace: &str, id: &str) -> Result<Option<wire::Container>, Trouble> {
        let path = "/containerd.services.containers.v1.Containers/Get";
        match self.call::<_, wire::GotContainer>(path, namespace, wire::Get { id: id.to_owned() }).await {
            Err(e) if e.is_not_found() => Ok(None),
            other => Ok(other?.container),
        }
    }

    pub async fn tasks(&self, namespace: &str) -> Result<Vec<wire::Process>, Trouble> {
        let answer: wire::Tasks =
            self.call("/containerd.services.tasks.v1.Tasks/List", namespace, wire::Empty {}).await?;
        Ok(answer.tasks)
    }

    pub async fn image(&self, namespace: &str, name: &str) -> Result<Option<wire::Image>, Trouble> {
        let path = "/containerd.services.images.v1.Images/Get";
        match self.call::<_, wire::GotImage>(path, namespace, wire::Get { id: name.to_owned() }).await {
            Err(e) if e.is_not_found() => Ok(None),
            other => Ok(other?.image),
        }
    }

    /// A manifest or index, whole.
    pub async fn content(&self, namespace: &str, digest: &str) -> Result<Bytes, Trouble> {
        let path = "/containerd.services.content.v1.Content/Read";
        let read = async {
            let mut stream: Streaming<wire::Content> =
                self.stream(path, namespace, wire::ReadContent { digest: digest.to_owned() }).await?;
            let mut all = BytesMut::new();
            while let Some(part) = stream.message().await.map_err(|s| trouble(&s))? {
                all.extend_from_slice(&part.data);
                if all.len() > MAX_MANIFEST {
                    return Err(Trouble::BadAnswer(format!("{digest} is longer than a manifest")));
                }
            }
            Ok(all.freeze())
        };
        tokio::time::timeout(self.timeout, read).await.unwrap_or(Err(Trouble::NotAnswering))
    }

    /// Events of all namespaces from now on.
    pub async fn events(&self) -> Result<Streaming<wire::Envelope>, Trouble> {
        self.stream("/containerd.services.events.v1.Events/Subscribe", "", wire::Empty {}).await
    }

    fn request<Q>(&self, namespace: &str, message: Q) -> Result<Request<Q>, Trouble> {
        let mut request = Request::new(message);
        if !namespace.is_empty() {
            let value = namespace.parse().map_err(|_| Trouble::BadAnswer(format!("namespace {namespace:?}")))?;
            request.metadata_mut().insert("containerd-namespace", value);
        }
        Ok(request)
    }

    async fn call<Q, A>(&self, path: &'static str, namespace: &str, message: Q) -> Result<A, Trouble>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let request = self.request(namespace, message)?;
        let answer = async {
            let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(MAX_BODY);
            grpc.ready().await.map_err(|_| Trouble::NotAnswering)?;
            let codec = ProstCodec::<Q, A>::default();
            let answer = grpc.unary(request, PathAndQuery::from_static(path), codec).await;
            answer.map(tonic::Response::into_inner).map_err(|s| trouble(&s))
        };
        let span = tracing::info_span!(
            target: WORK,
            "call",
            otel.name = path.trim_start_matches('/'),
            otel.kind = "client",
            rpc.system.name = "grpc",
            error.type = tracing::field::Empty,
            otel.status_code = tracing::field::Empty,
        );
        let answer = tokio::time::timeout(self.timeout, answer.instrument(span.clone())).await;
        let answer = answer.unwrap_or(Err(Trouble::NotAnswering));
        failed(&span, answer.as_ref().err());
        answer
    }

    async fn stream<Q, A>(&self, path: &'static str, namespace: &str, message: Q) -> Result<Streaming<A>, Trouble>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let request = self.request(namespace, message)?;
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(MAX_MANIFEST);
        grpc.ready().await.map_err(|_| Trouble::NotAnswering)?;
        let codec = ProstCodec::<Q, A>::default();
        let answer = grpc.server_streaming(request, PathAndQuery::from_static(path), codec).await;
        answer.map(tonic::Response::into_inner).map_err(|s| trouble(&s))
    }
}

pub fn trouble(status: &Status) -> Trouble {
    match status.code() {
        Code::NotFound => Trouble::Status(http::StatusCode::NOT_FOUND),
        Code::PermissionDenied | Code::Unauthenticated => Trouble::Denied,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Trouble::NotAnswering,
        // A connection that broke in the middle comes as these.
        Code::Unknown | Code::Internal if std::error::Error::source(status).is_some() => Trouble::NotAnswering,
        _ => Trouble::BadAnswer(status.message().to_owned()),
    }
}
