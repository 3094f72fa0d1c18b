//! A Kubernetes node's containerd: pods made through the container runtime interface (CRI), as kubelet makes them, in a
//! real containerd of the test's own.

use std::path::Path;
use std::process::{Command, Stdio};

use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use kina_exporter::root::Root;
use kina_exporter::runtime::RuntimeKind;
use prost::Message;
use tonic::transport::{Channel, Endpoint};

use super::containerd::import;
use super::seen::{Seen, nothing};
use crate::common::{Running, skip};
use crate::live::{Docker, Exporter, IMAGE, is_root, wait_for, which};

/// The messages of `runtime.v1` that are used, with its field numbers.
mod cri {
    use std::collections::HashMap;

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Empty {}

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Metadata {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(string, tag = "2")]
        pub uid: String,
        #[prost(string, tag = "3")]
        pub namespace: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct SandboxConfig {
        #[prost(message, optional, tag = "1")]
        pub metadata: Option<Metadata>,
        #[prost(string, tag = "2")]
        pub hostname: String,
        #[prost(string, tag = "3")]
        pub log_directory: String,
        #[prost(map = "string, string", tag = "6")]
        pub labels: HashMap<String, String>,
        #[prost(message, optional, tag = "8")]
        pub linux: Option<LinuxSandbox>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct LinuxSandbox {
        #[prost(string, tag = "1")]
        pub cgroup_parent: String,
        #[prost(message, optional, tag = "2")]
        pub security_context: Option<Security>,
    }

    /// Of a sandbox and, but for the number of its one field, of a container.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Security {
        #[prost(message, optional, tag = "1")]
        pub namespaces: Option<Namespaces>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct LinuxContainer {
        #[prost(message, optional, tag = "2")]
        pub security_context: Option<ContainerSecurity>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ContainerSecurity {
        #[prost(message, optional, tag = "3")]
        pub namespaces: Option<Namespaces>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Namespaces {
        /// 0 the pod's, 2 the node's.
        #[prost(int32, tag = "1")]
        pub network: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct RunPodSandbox {
        #[prost(message, optional, tag = "1")]
        pub config: Option<SandboxConfig>,
    }

    /// Every answer that is used holds one id.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Id {
        #[prost(string, tag = "1")]
        pub id: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct CreateContainer {
        #[prost(string, tag = "1")]
        pub pod_sandbox_id: String,
        #[prost(message, optional, tag = "2")]
        pub config: Option<ContainerConfig>,
        #[prost(message, optional, tag = "3")]
        pub sandbox_config: Option<SandboxConfig>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ContainerConfig {
        #[prost(message, optional, tag = "1")]
        pub metadata: Option<Metadata>,
        #[prost(message, optional, tag = "2")]
        pub image: Option<Id>,
        #[prost(string, repeated, tag = "3")]
        pub command: Vec<String>,
        #[prost(map = "string, string", tag = "9")]
        pub labels: HashMap<String, String>,
        #[prost(string, tag = "11")]
        pub log_path: String,
        #[prost(message, optional, tag = "15")]
        pub linux: Option<LinuxContainer>,
    }
}

/// Pods of the test are told from others of the machine by this.
const NAMESPACE: &str = "kina-test";

/// Whether pods get their cgroups from systemd here, as kubelet has it where systemd is in charge of cgroup v2.
fn by_systemd() -> bool {
    Path::new("/run/systemd/system").exists() && Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// What kubelet calls a pod's cgroup with the driver in use.
fn cgroup_parent(uid: &str) -> String {
    if by_systemd() {
        return format!("kubepods-burstable-pod{}.slice", uid.replace('-', "_"));
    }
    format!("/kubepods/burstable/pod{uid}")
}

struct Node {
    dir: tempfile::TempDir,
    tokio: tokio::runtime::Runtime,
    channel: Option<Channel>,
    containerd: Running,
    pods: Vec<(String, String)>,
}

impl Node {
    fn start() -> Option<Node> {
        if !is_root()
            || which("containerd").is_none()
            || which("ctr").is_none()
            || !Path::new("/usr/lib/cni/ptp").exists()
        {
            skip("needs root, containerd, ctr and containernetworking-plugins");
            return None;
        }
        let docker = Docker::get()?;
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path().display();
        let cri = "plugins.\"io.containerd.grpc.v1.cri\"";
        let config = format!(
            "version = 2\nroot = \"{d}/root\"\nstate = \"{d}/state\"\n[grpc]\naddress = \"{d}/c.sock\"\n\
             [{cri}]\nrestrict_oom_score_adj = true\nsandbox_image = \"docker.io/library/{IMAGE}\"\n\
             [{cri}.containerd]\nsnapshotter = \"native\"\n\
             [{cri}.containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n\
             [{cri}.containerd.runtimes.runc.options]\nSystemdCgroup = {}\n\
             [{cri}.cni]\nbin_dir = \"/usr/lib/cni\"\nconf_dir = \"{d}/cni\"\n",
            by_systemd()
        );
        std::fs::write(dir.path().join("config.toml"), config).unwrap();
        std::fs::create_dir(dir.path().join("cni")).unwrap();
        let network = format!(
            r#"{{"cniVersion": "0.4.0", "name": "kina-test", "plugins": [{{"type": "ptp", "ipam": {{"type": "host-local",
                "subnet": "10.217.0.0/24", "dataDir": "{d}/ipam"}}}}]}}"#
        );
        std::fs::write(dir.path().join("cni/net.conflist"), network).unwrap();
        // In a network namespace of its own, so that the machine's interfaces are left alone.
        let containerd = Command::new("unshare")
            .args(["--net", "containerd", "-c"])
            .arg(dir.path().join("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut node = Node { dir, tokio, channel: None, containerd: Running(containerd), pods: Vec::new() };
        wait_for("containerd to answer", || node.ctr(&["version"]).then_some(()));
        let tar = node.dir.path().join("image.tar");
        docker.docker(&["save", "-o", tar.to_str().unwrap(), IMAGE]);
        import(|args| node.ctr(args), "native", &tar);
        let socket = node.dir.path().join("c.sock");
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { tokio::net::UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://localhost");
        node.channel = Some(node.tokio.block_on(endpoint.connect_with_connector(connector)).unwrap());
        Some(node)
    }

    fn ctr(&self, args: &[&str]) -> bool {
        let socket = self.dir.path().join("c.sock");
        let mut ctr = Command::new("ctr");
        ctr.arg("-a").arg(socket).args(["-n", "k8s.io"]).args(args).stdin(Stdio::null());
        ctr.output().unwrap().status.success()
    }

    fn try_call<A>(&self, method: &str, message: impl Message + Default + 'static) -> Result<A, tonic::Status>
    where
        A: Message + Default + 'static,
    {
        let path = PathAndQuery::try_from(format!("/runtime.v1.RuntimeService/{method}")).unwrap();
        self.tokio.block_on(async {
            let mut grpc = tonic::client::Grpc::new(self.channel.clone().unwrap());
            grpc.ready().await.unwrap();
            let codec = tonic_prost::ProstCodec::default();
            Ok(grpc.unary(tonic::Request::new(message), path, codec).await?.into_inner())
        })
    }

    #[track_caller]
    fn call<A: Message + Default + 'static>(&self, method: &str, message: impl Message + Default + 'static) -> A {
        self.try_call(method, message).unwrap_or_else(|status| {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            panic!("{method}: {status}\n{log}")
        })
    }

    /// A pod with one container, as kubelet asks for it. Gives their ids.
    fn pod(&mut self, name: &str, container: &str, network: i32) -> (String, String) {
        let uid = format!("{name}-0000-1111-2222-{:012}", std::process::id());
        let own = [("name", name), ("namespace", NAMESPACE), ("uid", uid.as_str())];
        let labels: std::collections::HashMap<_, _> =
            own.iter().map(|(k, v)| (format!("io.kubernetes.pod.{k}"), (*v).to_owned())).collect();
        let namespaces = Some(cri::Namespaces { network });
        let config = cri::SandboxConfig {
            metadata: Some(cri::Metadata { name: name.into(), uid: uid.clone(), namespace: NAMESPACE.into() }),
            hostname: if network == 0 { name.into() } else { String::new() },
            log_directory: self.dir.path().join("logs").display().to_string(),
            labels: labels.clone(),
            linux: Some(cri::LinuxSandbox {
                cgroup_parent: cgroup_parent(&uid),
                security_context: Some(cri::Security { namespaces: namespaces.clone() }),
            }),
        };
        let sandbox: cri::Id = self.call("RunPodSandbox", cri::RunPodSandbox { config: Some(config.clone()) });
        self.pods.push((sandbox.id.clone(), uid));
        let mut labels = labels;
        labels.insert("io.kubernetes.container.name".into(), container.into());
        let create = cri::CreateContainer {
            pod_sandbox_id: sandbox.id.clone(),
            config: Some(cri::ContainerConfig {
                metadata: Some(cri::Metadata { name: container.into(), ..Default::default() }),
                image: Some(cri::Id { id: IMAGE.into() }),
                command: vec!["sleep".into(), "600".into()],
                labels,
                log_path: format!("{name}.log"),
                linux: Some(cri::LinuxContainer { security_context: Some(cri::ContainerSecurity { namespaces }) }),
            }),
            sandbox_config: Some(config),
        };
        let created: cri::Id = self.call("CreateContainer", create);
        let _: cri::Empty = self.call("StartContainer", created.clone());
        (sandbox.id, created.id)
    }

    fn remove(&self, sandbox: &str) {
        for method in ["StopPodSandbox", "RemovePodSandbox"] {
            let _: Result<cri::Empty, _> = self.try_call(method, cri::Id { id: sandbox.to_owned() });
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for (sandbox, uid) in std::mem::take(&mut self.pods) {
            self.remove(&sandbox);
            // kubelet removes a pod's cgroup; here nobody else does. systemd's slices go with their last unit.
            for mount in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
                for mount in [mount.path(), "/sys/fs/cgroup".into()] {
                    for cgroup in [&format!("kubepods/burstable/pod{uid}"), "kubepods/burstable", "kubepods"] {
                        let _ = std::fs::remove_dir(mount.join(cgroup));
                    }
                }
            }
        }
        let _ = self.containerd.0.kill();
        let _ = self.containerd.0.wait();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        for mount in mounts.lines().filter_map(|l| l.split(' ').nth(1)) {
            if Path::new(mount).starts_with(self.dir.path()) {
                let _ = Command::new("umount").arg("-l").arg(mount).status();
            }
        }
    }
}

#[test]
fn pods_are_shown_as_kubelet_names_them() {
    let Some(mut node) = Node::start() else { return };
    let mut config = nothing();
    config.runtime.containerd.enabled = true;
    config.runtime.containerd.socket = Some(node.dir.path().join("c.sock"));
    let seen = Seen::start(Root::default(), config);
    seen.wait_for_capability(RuntimeKind::Containerd, "yes");
    let (sandbox, app) = node.pod("web", "app", 0);
    let image = format!("docker.io/library/{IMAGE}");

    let c = wait_for("the container", || seen.by_name(&app));
    let i = &c.identity;
    assert_eq!((i.namespace.as_str(), i.pod.as_str(), i.container.as_str()), (NAMESPACE, "web", "app"));
    assert!(i.image == image || i.image == IMAGE, "{}", i.image);
    assert_eq!(c.shares_network_of.as_deref(), Some(sandbox.as_str()), "its network is the sandbox's");
    let (begin, end) = if by_systemd() {
        ("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod", format!("/cri-containerd-{app}.scope"))
    } else {
        ("/kubepods/burstable/pod", format!("/{app}"))
    };
    assert!(i.id.starts_with(begin) && i.id.ends_with(&end), "{}", i.id);
    assert_eq!((c.host_network, c.command.as_slice()), (false, &["sleep".to_owned(), "600".to_owned()][..]));

    // As cAdvisor under kubelet has it: the pause container is of its pod, and no container of it by name.
    let c = wait_for("the sandbox", || seen.by_name(&sandbox));
    let i = &c.identity;
    assert_eq!((i.namespace.as_str(), i.pod.as_str(), i.container.as_str()), (NAMESPACE, "web", ""));
    assert_eq!((i.image.as_str(), c.shares_network_of.as_deref()), (image.as_str(), None));

    let (_, on_the_node) = node.pod("agent", "agent", 2);
    let c = wait_for("the node's", || seen.by_name(&on_the_node));
    assert_eq!((c.host_network, c.shares_network_of.as_deref()), (true, None));

    // Network once a pod, the rest once a container: sums by pod are right.
    let socket = format!("--runtime.containerd.socket={}", node.dir.path().join("c.sock").display());
    let exporter = Exporter::start(&[&socket, "--no-runtime.docker", "--no-runtime.podman"]);
    let scrape = exporter.scrape();
    let of = |family: &str, pod: &str| {
        let found = scrape.select(family, &[]).filter(|s| s.label("namespace") == NAMESPACE && s.label("pod") == pod);
        let mut names: Vec<_> = found.map(|s| s.label("container").to_owned()).collect();
        names.sort();
        names.dedup();
        names
    };
    assert_eq!(of("container_network_receive_bytes_total", "web"), [""]);
    assert!(of("container_network_receive_bytes_total", "agent").is_empty());
    assert_eq!(of("container_memory_working_set_bytes", "web"), ["", "app"]);
    assert_eq!(of("container_cpu_usage_seconds_total", "agent"), ["", "agent"]);

    node.remove(&sandbox);
    wait_for("the pod to go", || (seen.by_name(&sandbox).is_none() && seen.by_name(&app).is_none()).then_some(()));
}
