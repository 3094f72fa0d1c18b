//! The same rules as a resource of the Prometheus operator, and a monitor that scrapes the exporter's pods.

use super::{HEADER, Settings, alerts, rules};

const MONITOR: &str = "\
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata:
  name: kina-exporter
  labels:
    app.kubernetes.io/name: kina-exporter
spec:
  selector:
    matchLabels:
      app.kubernetes.io/name: kina-exporter
  podMetricsEndpoints:
    - port: metrics
      relabelings:
        # The node's name says more than the pod's address.
        - sourceLabels: [__meta_kubernetes_pod_node_name]
          targetLabel: instance
";

const RULES: &str = "\
---
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: kina-exporter
  labels:
    app.kubernetes.io/name: kina-exporter
spec:
  groups:
";

pub fn file(s: &Settings) -> String {
    let groups: String = rules::groups(s).iter().map(|g| rules::body(s, g, 4)).collect();
    format!("{HEADER}{MONITOR}{RULES}{groups}{}", alerts::groups(s, 4))
}
