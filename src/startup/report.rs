//! What a tool that knows better says of a start: the body of `POST /api/v1/startups`, and how it joins what the
//! runtime's events tell. The schema is `docs/startup-report.schema.json`.

use std::collections::HashMap;

use serde::Deserialize;

use super::{FailureReason, Moments, Phase, Phases, StartKind, StartRecord};
use crate::root::{Nanos, SECOND, parse_date};
use crate::runtime::{Key, RuntimeKind};

/// A report, checked. Moments are on the clock of whoever holds it: wall as it comes in, boot inside the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    runtime: RuntimeKind,
    id: String,
    name: String,
    image: String,
    pub(super) moments: Moments,
    /// When it ran: as told, or (durations alone are told when a start is over) when the report came.
    pub(super) ran: Option<Nanos>,
    ready: Option<Nanos>,
    phases: Phases,
    total: Option<Nanos>,
    kind: Option<StartKind>,
    image_cached: Option<bool>,
    pool_hit: Option<bool>,
    pub(super) failure: Option<(FailureReason, String)>,
    traceparent: Option<String>,
    /// When the report came.
    told: Nanos,
}

/// Why a report is refused: which one of them, which key, what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("not a start report: {0}")]
    Json(String),
    #[error("report {index}: {why}")]
    Report { index: usize, why: String },
    #[error("{0} reports at once; at most {MAX_REPORTS} are taken")]
    TooMany(usize),
    #[error("no report")]
    Empty,
}

/// Reports in one request.
pub const MAX_REPORTS: usize = 1000;
/// A moment may lie this far back, or (another machine's clock) ahead.
pub(super) const OLDEST: Nanos = 24 * 3600 * SECOND;
const AHEAD: Nanos = 60 * SECOND;
/// Two tellers of one start may differ by this much on when it ran; a container does not start twice so soon.
pub(super) const SAME_START: Nanos = SECOND;
/// Durations without moments are told this soon after the start.
const SOON: Nanos = 60 * SECOND;
const MAX_TEXT: usize = 1024;
/// Rounded figures may disagree by this much.
const ROUNDING: Nanos = SECOND / 1000;

#[derive(Deserialize)]
#[serde(untagged)]
enum Body {
    Many(Vec<serde_json::Value>),
    One(serde_json::Value),
}

/// As it is written. Times are seconds since the Unix epoch or RFC 3339, durations seconds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    id: String,
    runtime: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    image: String,
    requested_at: Option<Time>,
    image_ready_at: Option<Time>,
    kernel_started_at: Option<Time>,
    init_started_at: Option<Time>,
    process_created_at: Option<Time>,
    running_at: Option<Time>,
    ready_at: Option<Time>,
    phases: Option<WrittenPhases>,
    total: Option<f64>,
    start: Option<StartKind>,
    image_cache: Option<Hit>,
    vm_pool: Option<Hit>,
    failure: Option<WrittenFailure>,
    traceparent: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPhases {
    image: Option<f64>,
    vm_create: Option<f64>,
    kernel_boot: Option<f64>,
    init: Option<f64>,
    process: Option<f64>,
    ready: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenFailure {
    reason: Option<FailureReason>,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Time {
    Unix(f64),
    Text(String),
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Hit {
    Hit,
    Miss,
}

/// Reads one report or a list of them; all are good or none is taken. `now` is the wall clock.
pub fn parse(body: &[u8], now: Nanos) -> Result<Vec<Report>, Refused> {
    let body: Body = serde_json::from_slice(body).map_err(|e| Refused::Json(e.to_string()))?;
    let values = match body {
        Body::Many(values) => values,
        Body::One(value) => vec![value],
    };
    if values.is_empty() {
        return Err(Refused::Empty);
    }
    if values.len() > MAX_REPORTS {
        return Err(Refused::TooMany(values.len()));
    }
    let read = |(index, value)| {
        serde_json::from_value::<Written>(value)
            .map_err(|e| e.to_string())
            .and_then(|written| check(written, now))
            .map_err(|why| Refused::Report { index, why })
    };
    values.into_iter().enumerate().map(read).collect()
}

fn check(written: Written, now: Nanos) -> Result<Report, String> {
    let runtime = RuntimeKind::ALL.into_iter().find(|r| r.name() == written.runtime).ok_or_else(|| {
        let allowed: Vec<_> = RuntimeKind::ALL.iter().map(|r| r.name()).collect();
        format!("runtime: {:?} is none of {}", written.runtime, allowed.join(", "))
    })?;
    if written.id.is_empty() {
        return Err("id: the container's id is missing".into());
    }
    for (key, text) in [("id", &written.id), ("name", &written.name), ("image", &written.image)] {
        if text.len() > MAX_TEXT || text.chars().any(char::is_control) {
            return Err(format!("{key}: at most {MAX_TEXT} bytes without control characters are allowed"));
        }
    }
    let time =
        |key: &str, t: Option<Time>| t.map(|t| moment(t, now).map_err(|why| format!("{key}: {why}"))).transpose();
    let moments = Moments {
        requested: time("requested_at", written.requested_at)?,
        image_ready: time("image_ready_at", written.image_ready_at)?,
        kernel_started: time("kernel_started_at", written.kernel_started_at)?,
        init_started: time("init_started_at", written.init_started_at)?,
        process_created: time("process_created_at", written.process_created_at)?,
        running: time("running_at", written.running_at)?,
    };
    let ready = time("ready_at", written.ready_at)?;
    in_order(&moments, ready)?;
    let phases = phases(written.phases.as_ref())?;
    let total = written.total.map(|t| duration("total", t)).transpose()?;
    if total.is_some_and(|t| phases.sum() > t + ROUNDING) {
        return Err("phases: they add up to more than total".into());
    }
    let failure = written.failure.map(|f| {
        let mut message = f.message;
        message.truncate(message.floor_char_boundary(MAX_TEXT));
        (f.reason.unwrap_or_else(|| FailureReason::from_message(&message)), message)
    });
    let told = !phases.is_empty() || total.is_some();
    if failure.is_some() && (moments.running.is_some() || told) {
        return Err("failure: a start that failed has neither running_at nor phases nor total".into());
    }
    if moments == Moments::default() && ready.is_none() && !told && failure.is_none() {
        return Err(
            "nothing is told of a start: give a moment (requested_at … running_at), phases, total or failure".into()
        );
    }
    Ok(Report {
        ran: moments.running.or_else(|| told.then_some(now)),
        told: now,
        runtime,
        id: written.id,
        name: written.name,
        image: written.image,
        moments,
        ready,
        phases,
        total,
        kind: written.start,
        image_cached: written.image_cache.map(|h| h == Hit::Hit),
        pool_hit: written.vm_pool.map(|h| h == Hit::Hit),
        failure,
        traceparent: written.traceparent.map(traceparent).transpose()?,
    })
}

fn moment(time: Time, now: Nanos) -> Result<Nanos, String> {
    let at = match time {
        Time::Unix(seconds) if seconds.is_finite() && seconds.abs() < 1e10 => {
            // Whole seconds apart: a double has no room for both at once.
            seconds.trunc() as Nanos * SECOND + (seconds.fract() * SECOND as f64).round() as Nanos
        }
        Time::Unix(_) => return Err("not a number of seconds since the Unix epoch".into()),
        Time::Text(text) => {
            parse_date(&text).ok_or_else(|| format!("{text:?} is neither seconds since the Unix epoch nor RFC 3339"))?
        }
    };
    if at < now - OLDEST || at > now + AHEAD {
        return Err("more than a day ago, or in the future".into());
    }
    Ok(at)
}

fn in_order(m: &Moments, ready: Option<Nanos>) -> Result<(), String> {
    let all = [
        ("requested_at", m.requested),
        ("image_ready_at", m.image_ready),
        ("kernel_started_at", m.kernel_started),
        ("init_started_at", m.init_started),
        ("process_created_at", m.process_created),
        ("running_at", m.running),
        ("ready_at", ready),
    ];
    let known: Vec<_> = all.into_iter().filter_map(|(k, v)| Some((k, v?))).collect();
    match known.windows(2).find(|w| w[0].1 > w[1].1) {
        Some(w) => Err(format!("{}: before {}", w[1].0, w[0].0)),
        None => Ok(()),
    }
}

fn phases(written: Option<&WrittenPhases>) -> Result<Phases, String> {
    let mut phases = Phases::default();
    let Some(w) = written else { return Ok(phases) };
    let all = [
        (Phase::Image, w.image),
        (Phase::VmCreate, w.vm_create),
        (Phase::KernelBoot, w.kernel_boot),
        (Phase::Init, w.init),
        (Phase::Process, w.process),
        (Phase::Ready, w.ready),
    ];
    for (phase, value) in all {
        phases.set(phase, value.map(|v| duration(phase.name(), v)).transpose()?);
    }
    Ok(phases)
}

fn duration(key: &str, seconds: f64) -> Result<Nanos, String> {
    if !(0.0..86_400.0).contains(&seconds) {
        return Err(format!("{key}: {seconds} is not a duration from 0 to 86400 seconds"));
    }
    Ok((seconds * SECOND as f64).round() as Nanos)
}

/// `00-32 hex-16 hex-2 hex`, trace and parent not all zero (W3C Trace Context).
fn traceparent(text: String) -> Result<String, String> {
    let parts: Vec<_> = text.split('-').collect();
    let hex = |part: &str, len: usize| {
        part.len() == len && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let good = matches!(parts.as_slice(), ["00", trace, parent, flags]
        if hex(trace, 32) && hex(parent, 16) && hex(flags, 2) && trace.contains(|c| c != '0') && parent.contains(|c| c != '0'));
    if good { Ok(text) } else { Err(format!("traceparent: {text:?} is not of the form 00-<32 hex>-<16 hex>-<2 hex>")) }
}

/// Whether this is the cgroup of the container with that id. The exporter knows bare cgroups by their paths; OCI runtimes
/// name the last part after the container: `ID`, or with systemd's driver `PREFIX-ID.scope`.
pub(super) fn is_cgroup_of(key: &Key, id: &str) -> bool {
    let RuntimeKind::Cgroup = key.runtime else { return false };
    let Some((_, own)) = key.id.rsplit_once('/') else { return false };
    let in_scope = |scope: &str| scope == id || scope.split_once('-').is_some_and(|(_, name)| name == id);
    !id.is_empty() && (own == id || own.strip_suffix(".scope").is_some_and(in_scope))
}

impl Report {
    /// Whether it speaks of this container; ids may be cut to twelve characters or more, as runtimes print them.
    pub(super) fn names(&self, key: &Key) -> bool {
        key.runtime == self.runtime
            && (key.id == self.id
                || (self.id.len() >= 12 && key.id.starts_with(&self.id))
                || is_cgroup_of(key, &self.id))
    }

    /// The container's key, as the runtime has it where it is known.
    pub(super) fn key<V>(&self, known: &HashMap<Key, V>) -> Key {
        let exact = Key { runtime: self.runtime, id: self.id.clone() };
        if known.contains_key(&exact) {
            return exact;
        }
        known.keys().find(|k| self.names(k)).cloned().unwrap_or(exact)
    }

    pub(super) fn describe(&self, name: &mut String, image: &mut String) {
        for (known, told) in [(name, &self.name), (image, &self.image)] {
            if known.is_empty() {
                known.clone_from(told);
            }
        }
    }

    /// Whether the start that ran at `running` is the one that it tells of.
    pub(super) fn is_of(&self, running: Nanos) -> bool {
        match (self.moments.running, self.ran) {
            (Some(told), _) => (told - running).abs() < SAME_START,
            (None, Some(told)) => (-SAME_START..SOON).contains(&(told - running)),
            (None, None) => false,
        }
    }

    /// The latest moment that it tells, or else when it came.
    pub(super) fn moment(&self) -> Nanos {
        let m = &self.moments;
        [m.requested, m.image_ready, m.kernel_started, m.init_started, m.process_created, m.running]
            .into_iter()
            .flatten()
            .max()
            .or(self.ran)
            .unwrap_or(self.told)
    }

    /// The same with each moment brought to another clock.
    pub(super) fn on_clock(mut self, bring: impl Fn(Nanos) -> Nanos) -> Self {
        let m = &mut self.moments;
        let all = [
            &mut m.requested,
            &mut m.image_ready,
            &mut m.kernel_started,
            &mut m.init_started,
            &mut m.process_created,
            &mut m.running,
            &mut self.ready,
            &mut self.ran,
        ];
        for moment in all {
            *moment = moment.map(&bring);
        }
        self.told = bring(self.told);
        self
    }

    /// Two reports of one start (hooks report moment by moment): what the later one tells goes before.
    pub(super) fn merge(self, later: Self) -> Self {
        Self {
            moments: later.moments.or(self.moments),
            ran: later.ran.or(self.ran),
            ready: later.ready.or(self.ready),
            phases: if later.phases.is_empty() { self.phases } else { later.phases },
            total: later.total.or(self.total),
            kind: later.kind.or(self.kind),
            image_cached: later.image_cached.or(self.image_cached),
            pool_hit: later.pool_hit.or(self.pool_hit),
            failure: later.failure.or(self.failure),
            traceparent: later.traceparent.or(self.traceparent),
            name: if later.name.is_empty() { self.name } else { later.name },
            image: if later.image.is_empty() { self.image } else { later.image },
            ..later
        }
    }

    /// Puts what is told of durations and kind over what events tell. Moments have gone into the record's own before.
    pub(super) fn apply(&self, record: &mut StartRecord) {
        if !self.phases.is_empty() {
            record.phases = self.phases;
        }
        if !self.phases.is_empty() || self.total.is_some() {
            let total = self.total.or(record.total).unwrap_or(0);
            record.total = Some(total.max(record.phases.sum()));
        }
        if let (Some(ready), Some(running)) = (self.ready, self.ran) {
            record.phases.set(Phase::Ready, Some(ready - running));
        }
        let image_work = record.image_cached == Some(false) || record.phases.get(Phase::Image).is_some();
        let vm_work = record.phases.get(Phase::VmCreate).is_some();
        record.image_cached = self.image_cached.or(record.image_cached);
        record.pool_hit = self.pool_hit.or(record.pool_hit);
        if let Some(kind) = self.kind {
            record.kind = kind;
        } else if self.pool_hit == Some(true) {
            record.kind = StartKind::Warm;
        } else if image_work || vm_work || self.image_cached == Some(false) {
            record.kind = StartKind::Cold;
        }
        if self.traceparent.is_some() {
            record.traceparent.clone_from(&self.traceparent);
        }
        self.describe(&mut record.name, &mut record.image);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Nanos = 1_786_090_541 * SECOND;

    fn one(json: &str) -> Result<Report, String> {
        parse(json.as_bytes(), NOW).map(|mut r| r.remove(0)).map_err(|e| e.to_string())
    }

    #[test]
    fn a_report_of_phases() {
        let r = one(
            r#"{"runtime":"apple","id":"web","image":"nginx","phases":{"vm_create":0.2,"kernel_boot":0.4,"init":0.1,"process":0.3},
                "start":"cold","vm_pool":"miss","image_cache":"hit","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}"#,
        )
        .unwrap();
        assert_eq!(r.phases.sum(), SECOND);
        assert_eq!((r.moments.running, r.ran), (None, Some(NOW)));
        assert_eq!((r.kind, r.pool_hit, r.image_cached), (Some(StartKind::Cold), Some(false), Some(true)));
    }

    #[test]
    fn a_cgroup_is_named_after_its_container() {
        let key = |runtime, id: &str| Key { runtime, id: id.to_owned() };
        for (path, is) in [
            ("/web", true),
            ("/user.slice/web", true),
            ("/system.slice/runc-web.scope", true),
            ("/system.slice/web.scope", true),
            ("/web/below", false),
            ("/my-web", false),
            ("/system.slice/runc-my-web.scope", false),
            ("/system.slice/runc-web.service", false),
            ("web", false),
        ] {
            assert_eq!(is_cgroup_of(&key(RuntimeKind::Cgroup, path), "web"), is, "{path}");
        }
        assert!(!is_cgroup_of(&key(RuntimeKind::Docker, "/web"), "web"));
        assert!(!is_cgroup_of(&key(RuntimeKind::Cgroup, "/"), ""));
    }

    #[test]
    fn times_are_numbers_or_rfc_3339() {
        let r =
            one(r#"{"runtime":"docker","id":"x","requested_at":1786090540.25,"running_at":"2026-08-07T08:15:40.75Z"}"#);
        let m = r.unwrap().moments;
        assert_eq!((m.requested, m.running), (Some(NOW - SECOND * 3 / 4), Some(NOW - SECOND / 4)));
    }

    #[test]
    fn a_bad_report_is_refused_with_its_reason() {
        for (json, why) in [
            ("", "EOF"),
            ("[]", "no report"),
            ("7", "invalid type"),
            ("{}", "missing field `id`"),
            (r#"{"runtime":"lxc","id":"x","total":1}"#, "runtime: \"lxc\" is none of docker, podman"),
            (r#"{"runtime":"docker","id":"","total":1}"#, "id:"),
            (r#"{"runtime":"docker","id":"x"}"#, "nothing is told"),
            (r#"{"runtime":"docker","id":"x","total":-1}"#, "total: -1"),
            (r#"{"runtime":"docker","id":"x","total":1e9}"#, "total:"),
            (r#"{"runtime":"docker","id":"x","totals":1}"#, "unknown field `totals`"),
            (r#"{"runtime":"docker","id":"x","phases":{"boot":1}}"#, "unknown field `boot`"),
            (r#"{"runtime":"docker","id":"x","total":1,"phases":{"init":2}}"#, "more than total"),
            (r#"{"runtime":"docker","id":"x","running_at":5}"#, "running_at: more than a day ago"),
            (r#"{"runtime":"docker","id":"x","running_at":"noon"}"#, "running_at: \"noon\""),
            (
                r#"{"runtime":"docker","id":"x","requested_at":1786090541,"running_at":1786090540}"#,
                "running_at: before requested_at",
            ),
            (r#"{"runtime":"docker","id":"x","failure":{"reason":"bad luck"}}"#, "unknown variant"),
            (r#"{"runtime":"docker","id":"x","failure":{},"total":1}"#, "failure:"),
            (r#"{"runtime":"docker","id":"x","total":1,"traceparent":"00-0-0-0"}"#, "traceparent:"),
            (r#"{"runtime":"docker","id":"x\n","total":1}"#, "control characters"),
        ] {
            let error = one(json).unwrap_err();
            assert!(error.contains(why), "{json}: {error}");
        }
        let second = parse(br#"[{"runtime":"docker","id":"x","total":1},{"runtime":"docker"}]"#, NOW);
        assert!(second.unwrap_err().to_string().starts_with("report 1: "));
    }

    #[test]
    fn no_bytes_break_the_parser() {
        let good = br#"[{"runtime":"docker","id":"x","requested_at":1786090540,"running_at":"2026-08-07T08:15:41Z","phases":{"init":0.5}}]"#;
        let mut seed = 1_u64;
        let mut random = |n: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % n
        };
        let mut taken = 0;
        for _ in 0..30_000 {
            let mut bytes = good.to_vec();
            for _ in 0..=random(4) {
                let at = random(bytes.len());
                match random(3) {
                    0 => bytes[at] = random(256) as u8,
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, b"0\"{}[],:-e9"[random(11)]),
                }
            }
            taken += usize::from(parse(&bytes, NOW).is_ok());
        }
        assert!(taken > 100, "the mutations are too wild to prove anything: {taken}");
    }
}
