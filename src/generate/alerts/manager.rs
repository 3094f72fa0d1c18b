//! An Alertmanager configuration that suits these alerts: an example to take the routes and inhibitions from.

use super::super::HEADER;

/// `alerts/alertmanager.yml`.
pub fn file() -> String {
    format!("{HEADER}{BODY}")
}

const BODY: &str = r#"# An example: put your own receivers in; routes, grouping and inhibitions are meant to stay.
route:
  receiver: team
  # One message for an exporter and kind of alert, listing all its containers.
  group_by: [alertname, job, instance]
  group_wait: 30s
  group_interval: 5m
  repeat_interval: 12h
  routes:
    - matchers: ['severity="critical"']
      receiver: on-call
      repeat_interval: 1h
    # Advice and missed targets are read, not answered: once a day, all together.
    - matchers: ['severity="info"']
      receiver: digest
      group_by: [job]
      group_wait: 10m
      group_interval: 1h
      repeat_interval: 24h

inhibit_rules:
  # A dead exporter says nothing: what was said of its containers before is old.
  - source_matchers: ['alertname="KinaExporterDown"']
    target_matchers: ['alertname=~"Kina.+"', 'alertname!="KinaExporterDown"', 'alertname!="KinaExporterAbsent"']
    equal: [job, instance]
  # All are gone: then it matters little which.
  - source_matchers: ['alertname="KinaExporterAbsent"']
    target_matchers: ['alertname=~"Kina.+"', 'alertname!="KinaExporterAbsent"']
  # The worse of two alerts about the same thing.
  - source_matchers: ['severity="critical"', 'alertname=~"Kina.+"']
    target_matchers: ['severity=~"warning|info"', 'alertname=~"Kina.+"']
    equal: [alertname, job, instance, id]
  # A lost source explains why its collector fails.
  - source_matchers: ['alertname="KinaCapabilityLost"']
    target_matchers: ['alertname=~"KinaCollectorFailing|KinaSourceStale"']
    equal: [job, instance]
  # A container that waits for CPU on a hot machine is not the cause.
  - source_matchers: ['alertname="KinaThermalPressure"']
    target_matchers: ['alertname=~"KinaCpuUtilization.+"']
    equal: [job, instance]

receivers:
  - name: team
    webhook_configs:
      - url: http://127.0.0.1:9099/team
  - name: on-call
    webhook_configs:
      - url: http://127.0.0.1:9099/on-call
  - name: digest
    webhook_configs:
      - url: http://127.0.0.1:9099/digest
        send_resolved: false
"#;
