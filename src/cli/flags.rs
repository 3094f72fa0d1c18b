//! Settings ↔ clap.

use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config::{Config, Given, Setting, Shape, settings};

/// Shown by `-h`; the rest by `--help`.
const SHORT_HELP: [&str; 4] = ["config.file", "web.listen-address", "web.config.file", "log.level"];

/// Adds every setting as a flag of all commands.
pub fn add(mut command: Command) -> Command {
    let default = Config::default();
    for setting in settings() {
        command = command.arg(flag(setting, &default));
        if setting.shape == Shape::Switch {
            command = command.arg(negative(setting, &default));
        }
    }
    command
}

fn flag(setting: &'static Setting, default: &Config) -> Arg {
    let arg = Arg::new(&setting.flag)
        .long(&setting.flag)
        .global(true)
        .help(help(setting, default))
        .help_heading(heading(setting))
        .next_line_help(true)
        .hide_short_help(!SHORT_HELP.contains(&setting.flag.as_str()));
    match setting.shape {
        // The half of a switch that says what holds anyway is left out of the help.
        Shape::Switch => {
            arg.action(ArgAction::SetTrue).overrides_with(no(setting)).hide(setting.get(default) == ["true"])
        }
        Shape::One => arg.action(ArgAction::Set).value_name(setting.placeholder).overrides_with(&setting.flag),
        Shape::List | Shape::Map => arg.action(ArgAction::Append).value_name(setting.placeholder),
    }
}

fn negative(setting: &'static Setting, default: &Config) -> Arg {
    Arg::new(no(setting))
        .long(no(setting))
        .global(true)
        .action(ArgAction::SetTrue)
        .overrides_with(&setting.flag)
        .help(format!("Not: {}", help(setting, default)))
        .help_heading(heading(setting))
        .next_line_help(true)
        .hide_short_help(true)
        .hide(setting.get(default) == ["false"])
}

fn no(setting: &Setting) -> String {
    format!("no-{}", setting.flag)
}

fn heading(setting: &Setting) -> &'static str {
    match setting.key.split('.').next() {
        Some("web") => "Web",
        Some("log") => "Logging",
        Some("path") => "Paths of the host",
        Some("collector") => "Collectors",
        Some("runtime") => "Runtimes",
        Some("containers" | "labels") => "Containers",
        Some("targets") => "Targets",
        _ => "Settings",
    }
}

fn help(setting: &Setting, default: &Config) -> String {
    let values = setting.get(default);
    let default = match setting.shape {
        Shape::Switch => String::new(),
        _ if values.is_empty() => String::new(),
        _ => format!(" [default: {}]", values.join(", ")),
    };
    format!("{}{default} [env: {}]", setting.help, setting.env())
}

/// What was given: flags by name, and the environment.
pub fn given(matches: &ArgMatches, env: impl Iterator<Item = (OsString, OsString)>) -> Given {
    let mut given = Given::default();
    for setting in settings() {
        if let Some(values) = values(setting, matches) {
            given.flags.insert(setting.flag.clone(), values);
        }
    }
    // Names of settings are ASCII: a name or value that is not text belongs to someone else.
    given.env.extend(env.filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))));
    given
}

fn values(setting: &Setting, matches: &ArgMatches) -> Option<Vec<String>> {
    let on_command_line = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    if setting.shape == Shape::Switch {
        return match (on_command_line(&setting.flag), on_command_line(&no(setting))) {
            (true, _) => Some(vec!["true".into()]),
            (false, true) => Some(vec!["false".into()]),
            (false, false) => None,
        };
    }
    on_command_line(&setting.flag)
        .then(|| matches.get_many::<String>(&setting.flag).unwrap_or_default().cloned().collect())
}
