//! The reference of all settings, as Markdown: `docs/configuration.md`.

use std::fmt::Write;

use super::Config;
use super::settings::{Setting, Shape, settings};

const HEAD: &str = "\
# Configuration

Every setting can be given as a flag, as an environment variable, and in the YAML file that `--config.file` names.
A flag goes before the environment, the environment before the file, the file before the default.

Unknown keys and bad values are errors that name the file, the line, the key and what is allowed; nothing starts then.
`kina-exporter check` validates a file without starting anything.

- Switches: `--NAME` and `--no-NAME`; `true` or `false` in the environment and the file.
- Lists: the flag is repeated; commas part the values in the environment.
- Mappings: the flag is repeated as `KEY=VALUE`; line ends part the entries in the environment.
- Patterns are regular expressions over the whole text, as in Prometheus.

`SIGHUP` and `POST /-/reload` read the file again. A bad file changes nothing: the reason is logged and
`kina_config_last_reload_successful` is 0 until a good one is read. Settings marked *at start* need a restart; a reload
that changes one says so in the log.

```yaml
# An example: another port, only the containers of one team, their labels shown.
web:
  listen-address: [\":9090\"]
containers:
  label-include:
    com.example.team: shop|search
labels:
  allow: [com.example.team]
collector:
  energy: false
targets:
  startup_time_p95: 0.5
```

";

/// The whole page.
pub fn reference() -> String {
    let mut out = HEAD.to_owned();
    let default = Config::default();
    let mut section = "";
    for setting in settings() {
        let first = setting.key.split('.').next().unwrap_or_default();
        if first != section {
            section = first;
            let _ = write!(out, "## {section}\n\n");
        }
        describe(&mut out, setting, &default);
    }
    while out.ends_with("\n\n") {
        out.pop();
    }
    out
}

fn describe(out: &mut String, setting: &Setting, default: &Config) {
    let value = if setting.shape == Shape::Switch { String::new() } else { format!(" {}", setting.placeholder) };
    let negative = if setting.shape == Shape::Switch { format!(", `--no-{}`", setting.flag) } else { String::new() };
    let _ = write!(out, "### {}\n\n{}", setting.key, setting.help);
    if setting.at_start && setting.in_file {
        out.push_str(" *At start.*");
    }
    let _ = write!(out, "\n\n- Flag: `--{}{value}`{negative}\n- Environment: `{}`\n", setting.flag, setting.env());
    let _ = writeln!(out, "- Allowed: {}", setting.allowed);
    let values = setting.get(default);
    let shown = if values.is_empty() { "none".to_owned() } else { format!("`{}`", values.join("`, `")) };
    let _ = write!(out, "- Default: {shown}\n\n");
}
