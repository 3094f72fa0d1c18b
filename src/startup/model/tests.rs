use super::*;
use crate::runtime::RuntimeKind;
use crate::startup::report;

const MS: Nanos = SECOND / 1000;
const BOOT: Nanos = 1000 * SECOND;
const OFFSET: Nanos = 1_786_090_541 * SECOND;

/// A model with a clock that is moved by hand; times are milliseconds since the exporter's start.
struct Bench {
    model: Model,
    offset: Nanos,
    now: Nanos,
    out: Vec<Outcome>,
}

fn key(id: &str) -> Key {
    Key { runtime: RuntimeKind::Docker, id: id.into() }
}

impl Bench {
    fn new() -> Self {
        let now = Sample { wall: BOOT + OFFSET, boot: BOOT };
        Self { model: Model::new(now.wall, now), offset: OFFSET, now: BOOT, out: Vec::new() }
    }

    fn sample(&self) -> Sample {
        Sample { wall: self.now + self.offset, boot: self.now }
    }

    /// An event stamped at `at` and received `late` after.
    fn event(&mut self, id: &str, at: i64, late: i64, kind: EventKind) {
        self.event_with(id, at, late, kind, None);
    }

    fn event_with(&mut self, id: &str, at: i64, late: i64, kind: EventKind, process: Option<i64>) {
        self.now = self.now.max(BOOT + (at + late) * MS);
        let event = Event {
            key: key(id),
            at: BOOT + at * MS + self.offset,
            received: self.now,
            image: "busybox".into(),
            name: format!("name-{id}"),
            kind,
            replayed: false,
        };
        self.model.push(&event, self.sample(), process.map(|p| BOOT + p * MS));
    }

    fn cgroup(&mut self, path: &str, at: i64, late: i64, kind: EventKind) {
        self.now = self.now.max(BOOT + (at + late) * MS);
        let key = Key { runtime: RuntimeKind::Cgroup, id: path.into() };
        let (at, image, name) = (BOOT + at * MS + self.offset, String::new(), "web".into());
        let event = Event { key, at, received: self.now, image, name, kind, replayed: false };
        self.model.push(&event, self.sample(), None);
    }

    /// `docker run`: create requested at `at`, running 300 ms later.
    fn run(&mut self, id: &str, at: i64) {
        self.event(id, at + 5, 1, EventKind::CreateRequested);
        self.event(id, at + 40, 1, EventKind::Created);
        self.event(id, at + 60, 1, EventKind::StartRequested);
        self.event_with(id, at + 305, 1, started(), Some(at + 105));
    }

    fn report(&mut self, json: &str) {
        for r in report::parse(json.as_bytes(), self.sample().wall).unwrap() {
            self.model.report(r, self.sample());
        }
    }

    fn wait(&mut self, ms: i64) -> &mut Self {
        self.now += ms * MS;
        let out = self.model.advance(self.now);
        self.out.extend(out);
        self
    }

    fn starts(&self) -> Vec<&StartRecord> {
        self.out.iter().filter_map(|o| if let Outcome::Started(r) = o { Some(r) } else { None }).collect()
    }

    fn failures(&self) -> Vec<(FailureReason, &str)> {
        let told = self.out.iter().filter_map(|o| match o {
            Outcome::Failed(r) => r.failure.as_ref(),
            _ => None,
        });
        told.map(|(r, m)| (*r, m.as_str())).collect()
    }

    fn exits(&self) -> Vec<&'static str> {
        self.out
            .iter()
            .filter_map(|o| if let Outcome::Exited { reason, .. } = o { Some(*reason) } else { None })
            .collect()
    }
}

fn started() -> EventKind {
    EventKind::Started { pid: 7, started: None }
}

fn phases(r: &StartRecord) -> Vec<(&'static str, i64)> {
    r.phases.iter().map(|(p, d)| (p.name(), (d + MS / 2) / MS)).collect()
}

#[test]
fn a_cold_start_has_phases_that_add_up() {
    let mut b = Bench::new();
    b.run("a", 100);
    b.wait(1100);
    let r = b.starts()[0];
    assert_eq!(r.total, Some(300 * MS));
    assert_eq!(phases(r), [("image", 35), ("init", 65), ("process", 200)]);
    assert_eq!(Some(r.phases.sum()), r.total);
    assert_eq!((r.kind, r.image_cached, r.source), (StartKind::Cold, Some(true), Source::Events));
    assert_eq!((r.name.as_str(), r.image.as_str()), ("name-a", "busybox"));
    assert_eq!(r.running, Some(BOOT + 405 * MS + OFFSET));
}

#[test]
fn any_order_and_repetition_give_one_start() {
    let kinds = [
        (105, EventKind::CreateRequested),
        (140, EventKind::Created),
        (160, EventKind::StartRequested),
        (300, EventKind::TaskCreated { pid: 7 }),
        (405, started()),
    ];
    let mut seed = 11_u64;
    for _ in 0..300 {
        let mut order: Vec<_> = kinds.iter().chain(&kinds).cloned().collect();
        for i in (1..order.len()).rev() {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            order.swap(i, (seed >> 33) as usize % (i + 1));
        }
        let mut b = Bench::new();
        b.now = BOOT + 410 * MS;
        for (at, kind) in order {
            b.event_with("a", at, 0, kind, None);
        }
        b.wait(1100).wait(5000);
        assert_eq!(b.starts().len(), 1);
        assert_eq!(phases(b.starts()[0]), [("image", 35), ("init", 160), ("process", 105)]);
        assert_eq!(b.out.len(), 1);
    }
}

#[test]
fn a_restart_is_warm_and_counts_from_its_request() {
    let mut b = Bench::new();
    b.run("a", 0);
    b.event("a", 5000, 1, EventKind::Exited { code: Some(143) });
    b.event("a", 5010, 1, EventKind::StartRequested);
    b.event_with("a", 5210, 1, started(), Some(5100));
    b.wait(1100);
    let r = b.starts()[1];
    assert_eq!((r.kind, r.image_cached, r.total), (StartKind::Warm, None, Some(200 * MS)));
    assert_eq!(phases(r), [("init", 90), ("process", 110)]);
    assert_eq!(b.exits(), ["signal"]);
}

#[test]
fn a_container_created_before_is_warm_and_without_evidence_of_the_request_has_no_total() {
    let mut b = Bench::new();
    b.event("a", 0, 1, EventKind::Created);
    b.event("a", 9000, 1, EventKind::StartRequested);
    b.event("a", 9250, 1, started());
    b.event("b", 9300, 1, started());
    b.wait(1100);
    assert_eq!(b.starts()[0].total, Some(250 * MS));
    assert_eq!(b.starts()[0].kind, StartKind::Warm);
    assert_eq!((b.starts()[1].total, b.starts()[1].phases), (None, Default::default()));
}

#[test]
fn a_pull_is_a_miss_and_part_of_the_start_where_its_begin_is_known() {
    let mut b = Bench::new();
    let image = |b: &mut Bench, at, kind| {
        b.event("x", at, 1, kind);
    };
    image(&mut b, 0, EventKind::SnapshotPrepared);
    b = Bench::new();
    b.event("docker.io/library/busybox:latest", 100, 1, EventKind::ImagePullStarted);
    b.event("docker.io/library/busybox:latest", 2100, 1, EventKind::ImagePulled);
    b.run("a", 2100);
    b.run("b", 60_000);
    b.wait(1100);
    let r = b.starts()[0];
    assert_eq!((r.image_cached, r.kind, r.total), (Some(false), StartKind::Cold, Some(2305 * MS)));
    assert_eq!(phases(r), [("image", 2040), ("init", 65), ("process", 200)]);
    assert_eq!(b.starts()[1].image_cached, Some(true));
}

#[test]
fn failures_are_counted_once_with_their_reason() {
    let mut b = Bench::new();
    let oci = "OCI runtime create failed: exec: \"x\": not found";
    b.event("a", 10, 1, EventKind::Created);
    b.event("a", 20, 1, EventKind::StartRequested);
    b.event("a", 200, 1, EventKind::StartFailed { message: oci.into() });
    b.event("a", 210, 1, EventKind::StartFailed { message: oci.into() });
    b.event("a", 220, 1, EventKind::Removed);
    b.event("b", 300, 1, EventKind::StartRequested);
    b.event("b", 400, 1, EventKind::Removed);
    b.event("c", 500, 1, EventKind::TaskCreated { pid: 7 });
    b.event("c", 510, 1, EventKind::Exited { code: Some(1) });
    b.wait(1100);
    assert_eq!(
        b.failures(),
        [
            (FailureReason::OciError, oci),
            (FailureReason::Other, "removed before it ran"),
            (FailureReason::ExitAtOnce, "exited with status 1 before it was running"),
        ]
    );
    assert_eq!((b.starts().len(), b.exits().len()), (0, 0));
    // It is started again, and now runs.
    b.event("a", 5000, 1, EventKind::StartRequested);
    b.event("a", 5200, 1, started());
    b.wait(1100);
    assert_eq!((b.starts().len(), b.failures().len()), (1, 3));
}

#[test]
fn a_start_that_never_comes_is_given_up_once() {
    let mut b = Bench::new();
    b.event("a", 0, 1, EventKind::StartRequested);
    b.wait(1100);
    assert_eq!(b.model.next_due(), Some(BOOT + START_TIMEOUT));
    b.wait(599_000).wait(1000).wait(600_000);
    assert_eq!(b.failures().len(), 1);
    assert_eq!(b.failures()[0].0, FailureReason::Timeout);
    assert_eq!(b.model.next_due(), None);
}

#[test]
fn exits_are_counted_once_also_of_those_that_ran_before() {
    let mut b = Bench::new();
    b.run("a", 0);
    b.event("a", 400, 1, EventKind::Oom);
    b.event("a", 410, 1, EventKind::Exited { code: Some(137) });
    b.event("a", 412, 1, EventKind::Exited { code: Some(137) });
    b.model.runs_already(&key("old"), "old", "busybox", Some(OFFSET));
    b.event("old", 500, 1, EventKind::StartRequested);
    b.event("old", 600, 1, EventKind::Exited { code: Some(0) });
    b.event("older", 700, 1, EventKind::Exited { code: Some(2) });
    b.wait(1100).wait(START_TIMEOUT / MS);
    assert_eq!(b.exits(), ["oom", "ok", "error"]);
    assert_eq!(b.failures(), []);
}

#[test]
fn a_kill_for_want_of_memory_may_be_told_after_the_end_it_led_to() {
    let mut b = Bench::new();
    b.run("a", 0);
    b.event("a", 400, 1, EventKind::Exited { code: Some(137) });
    b.event("a", 401, 1, EventKind::Oom);
    // Started anew at once, and ended by somebody else.
    b.run("a", 500);
    b.event("a", 900, 1, EventKind::Exited { code: Some(137) });
    // The kill is that of the next run.
    b.run("b", 1000);
    b.event("b", 1400, 1, EventKind::Exited { code: Some(143) });
    b.run("b", 1500);
    b.event("b", 2000, 1, EventKind::Oom);
    b.event("b", 2010, 1, EventKind::Exited { code: Some(137) });
    b.wait(3000);
    assert_eq!(b.exits(), ["oom", "signal", "signal", "oom"]);
}

#[test]
fn what_was_before_the_exporter_is_not_counted() {
    let mut b = Bench::new();
    b.now = BOOT + 10 * MS;
    for (at, kind) in [(-5000, EventKind::Created), (-4990, EventKind::StartRequested), (-4700, started())] {
        b.event("a", at, 0, kind);
    }
    b.event("b", -600, 0, EventKind::Exited { code: Some(1) });
    // Requested before, running since.
    b.event("c", -100, 0, EventKind::CreateRequested);
    b.event("c", -80, 0, EventKind::Created);
    b.event("c", 5, 0, started());
    b.event("a", 3000, 1, EventKind::Exited { code: Some(0) });
    b.wait(1100);
    assert_eq!(b.starts().len(), 1);
    assert_eq!(b.starts()[0].total, Some(105 * MS));
    assert_eq!(b.exits(), ["ok"], "an exit of now is one, whenever it started");
}

#[test]
fn ready_is_the_first_word_after_running() {
    let mut b = Bench::new();
    b.run("a", 0);
    let at = b.now + 445 * MS;
    b.model.listening(key("a"), at, at);
    b.event("a", 4000, 1, EventKind::Health { healthy: true });
    b.wait(1100);
    let ready: Vec<_> = b.out.iter().filter_map(|o| if let Outcome::Ready(r) = o { Some(r) } else { None }).collect();
    assert_eq!(ready.len(), 1);
    assert_eq!(ready[0].phases.get(Phase::Ready), Some(446 * MS));
    assert_eq!(ready[0].phases.sum(), 300 * MS, "ready is no part of the total");
}

#[test]
fn a_clock_that_leaps_during_a_start_changes_nothing() {
    for leap in [3600 * SECOND, -3600 * SECOND, -SECOND / 4, SECOND / 4] {
        let mut b = Bench::new();
        b.event("a", 5, 1, EventKind::CreateRequested);
        b.event("a", 40, 1, EventKind::Created);
        b.offset += leap;
        b.event("a", 60, 1, EventKind::StartRequested);
        b.event_with("a", 305, 1, started(), Some(105));
        b.wait(1100);
        assert_eq!(b.starts()[0].total, Some(300 * MS), "leap {leap}");
        assert_eq!(phases(b.starts()[0]), [("image", 35), ("init", 65), ("process", 200)]);
    }
}

#[test]
fn a_report_and_the_events_are_one_start_with_the_reports_phases() {
    let told = r#"{"runtime":"docker","id":"a","phases":{"vm_create":0.1,"kernel_boot":0.05,"init":0.05,"process":0.08},
        "vm_pool":"hit","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}"#;
    // Before the events, with them, and long after.
    for (before, after) in [(true, 0), (false, 10), (false, 3000)] {
        let mut b = Bench::new();
        if before {
            b.now = BOOT + 290 * MS;
            b.report(told);
        }
        b.run("a", 0);
        b.wait(after);
        if !before {
            b.report(told);
            b.report(told);
        }
        b.wait(1100).wait(5000);
        assert_eq!(b.starts().len(), 1);
        let last = b.out.iter().rev().find_map(|o| match o {
            Outcome::Started(r) | Outcome::Amended(r) => Some(r),
            _ => None,
        });
        let r = last.unwrap();
        assert_eq!(
            phases(r),
            [("vm_create", 100), ("kernel_boot", 50), ("init", 50), ("process", 80)],
            "{before} {after}"
        );
        assert_eq!((r.pool_hit, r.kind, r.source), (Some(true), StartKind::Warm, Source::EventsAndReport));
        assert_eq!(r.trace_id(), "0af7651916cd43dd8448eb211c80319c");
    }
}

#[test]
fn reports_alone_make_starts_each_once() {
    let mut b = Bench::new();
    b.now = BOOT + 2000 * MS;
    let at = |ms: i64| format!("{:.6}", (BOOT + ms * MS + OFFSET) as f64 / 1e9);
    let one = format!(
        r#"{{"runtime":"apple","id":"vm1","image":"web","requested_at":{},"kernel_started_at":{},"init_started_at":{},"process_created_at":{},"running_at":{}}}"#,
        at(500),
        at(700),
        at(1100),
        at(1200),
        at(1500)
    );
    b.report(&format!("[{one},{one}]"));
    b.wait(1500);
    b.report(&one);
    b.wait(1500);
    assert_eq!(b.starts().len(), 1);
    let r = b.starts()[0];
    assert_eq!(phases(r), [("vm_create", 200), ("kernel_boot", 400), ("init", 100), ("process", 300)]);
    assert_eq!((r.total.map(|t| t / MS), r.kind, r.source), (Some(1000), StartKind::Cold, Source::Report));
    // It is started again: another moment.
    let again = one.replace(&at(500), &at(3500)).replace(&at(700), &at(3600)).replace(&at(1100), &at(3700));
    b.report(&again.replace(&at(1200), &at(3800)).replace(&at(1500), &at(3900)));
    b.wait(1500);
    assert_eq!(b.starts().len(), 2);
}

#[test]
fn hooks_tell_a_start_moment_by_moment() {
    let mut b = Bench::new();
    let at = |ms: i64| (BOOT + ms * MS + OFFSET) as f64 / 1e9;
    for (moment, ms) in [("requested_at", 100), ("process_created_at", 300), ("running_at", 2500)] {
        b.now = BOOT + ms * MS;
        let _ = b.wait(0);
        b.report(&format!(r#"{{"runtime":"cgroup","id":"0123456789abcdef","{moment}":{:.6}}}"#, at(ms)));
    }
    b.wait(1100).wait(5000);
    assert_eq!(b.starts().len(), 1);
    assert_eq!(phases(b.starts()[0]), [("init", 200), ("process", 2200)]);
    assert_eq!(b.starts()[0].total.map(|t| t / MS), Some(2400));
}

#[test]
fn a_reported_failure_is_one() {
    let mut b = Bench::new();
    b.wait(10);
    b.report(r#"{"runtime":"docker","id":"x","failure":{"message":"No such image: nowhere"}}"#);
    b.report(r#"{"runtime":"docker","id":"x","failure":{"reason":"image_missing"}}"#);
    b.wait(1100);
    assert_eq!(b.failures(), [(FailureReason::ImageMissing, "No such image: nowhere")]);
}

#[test]
fn a_storm_loses_none_and_memory_of_the_gone_is_freed() {
    let mut b = Bench::new();
    for i in 0..2000 {
        let id = format!("c{i}");
        b.run(&id, i * 50);
        b.event(&id, i * 50 + 320, 1, EventKind::Exited { code: Some(0) });
        b.event(&id, i * 50 + 330, 1, EventKind::Removed);
        b.wait(0);
    }
    b.wait(1100);
    assert_eq!((b.starts().len(), b.exits().len()), (2000, 2000));
    assert!(b.starts().iter().all(|r| r.total == Some(300 * MS)));
    b.wait(FORGET / MS + 1);
    assert_eq!(b.model.lives.len(), 0);
}

#[test]
fn what_reports_alone_tell_of_is_remembered_for_a_day_and_not_for_good() {
    let mut b = Bench::new();
    let running = |id: &str, b: &Bench| {
        let at = (b.now + OFFSET) as f64 / 1e9;
        format!(r#"{{"runtime":"docker","id":"{id}","total":0.5,"running_at":{at:.3}}}"#)
    };
    // One that runs, by the engine's word, one that ended, and one that was reported.
    b.run("runs", 0);
    b.run("ended", 0);
    b.event("ended", 400, 1, EventKind::Exited { code: Some(0) });
    b.wait(1100);
    let told = running("reported", &b);
    b.report(&told);
    b.wait(1100);
    assert_eq!(b.starts().len(), 3);
    b.wait(OLDEST / MS - 60_000);
    b.report(&told);
    b.wait(1100);
    assert_eq!(b.starts().len(), 3, "told again within the day");
    for _ in 0..3 {
        b.wait(REST / MS);
    }
    assert_eq!(b.model.lives.keys().map(|k| k.id.as_str()).collect::<Vec<_>>(), ["runs"]);
    // However many are told of: the last ones are known, and those whose start is under way are not lost.
    let first = format!(r#"{{"runtime":"docker","id":"begun","requested_at":{:.3}}}"#, (b.now + OFFSET) as f64 / 1e9);
    b.report(&first);
    let before = b.starts().len();
    for n in 0..MAX_REPORTED + 500 {
        let told = running(&format!("r{n}"), &b);
        b.report(&told);
        if n % 500 == 0 {
            b.wait(1100);
        }
    }
    b.wait(1100);
    assert_eq!(b.starts().len(), before + MAX_REPORTED + 500);
    assert_eq!(b.failures(), [(FailureReason::Other, "reported, and nothing more told of it")]);
    assert_eq!(b.model.lives.len(), MAX_REPORTED + 1);
    assert!(b.model.reported.len() <= MAX_REPORTED && b.model.open.is_empty());
}

#[test]
fn what_waits_is_not_said_to_be_counted() {
    let mut b = Bench::new();
    b.run("a", 0);
    let counted = b.model.counted_until(b.now);
    assert!(counted < BOOT + 305 * MS + OFFSET);
    b.wait(1100);
    let counted = b.model.counted_until(b.now);
    let mut next = Model::new(counted, b.sample());
    let mut again = Bench::new();
    std::mem::swap(&mut again.model, &mut next);
    again.now = b.now;
    again.run("a", 0);
    again.wait(1100);
    assert_eq!(again.starts().len(), 0, "the next run of the exporter hears of it again in the history");
}

#[test]
fn a_hook_and_the_cgroup_are_one_start_whichever_is_heard_of_first() {
    let at = |ms: i64| (BOOT + ms * MS + OFFSET) as f64 / 1e9;
    // How long after the first hook the program runs, and the cgroup is seen after that.
    for (ran, seen) in [(100, 1), (100, 1900), (5000, 1), (5000, 1900)] {
        let mut b = Bench::new();
        let cgroup = |b: &mut Bench, at, late, kind| b.cgroup("/user.slice/web", at, late, kind);
        for (moment, ms) in [("requested_at", 50), ("process_created_at", 100), ("running_at", 100 + ran)] {
            b.now = BOOT + ms * MS;
            let _ = b.wait(0);
            b.report(&format!(r#"{{"runtime":"cgroup","id":"web","{moment}":{:.6}}}"#, at(ms)));
        }
        b.wait(seen);
        cgroup(&mut b, 60, 40 + ran + seen, EventKind::Created);
        cgroup(&mut b, 98 + ran, 2 + seen, started());
        b.wait(1100).wait(START_TIMEOUT / MS);
        cgroup(&mut b, 700_000, 1, EventKind::Exited { code: None });
        b.wait(1100);
        assert_eq!((b.starts().len(), b.failures().len(), b.exits().len()), (1, 0, 1), "{ran} {seen}");
        let total = b.starts()[0].total.unwrap();
        assert!((total / MS - 50 - ran).abs() <= 2, "{ran} {seen}: {total}");
        assert_eq!(b.model.open.len(), 0);
    }
}

#[test]
fn a_start_told_by_two_daemons_has_the_process_that_one_of_them_knows() {
    for first_knows in [true, false] {
        let mut b = Bench::new();
        for knows in [first_knows, !first_knows] {
            b.event("a", 5, 1, EventKind::CreateRequested);
            b.event("a", 40, 1, EventKind::Created);
            b.event_with("a", 305, 1, started(), knows.then_some(105));
        }
        b.wait(1100);
        assert_eq!(b.starts().len(), 1);
        assert_eq!(phases(b.starts()[0]), [("image", 35), ("init", 65), ("process", 200)], "{first_knows}");
    }
}

#[test]
fn a_runtime_that_does_not_know_its_containers_cgroup_tells_of_it_alone() {
    let id = "d4fc15ec9904f143bcf624f57a4199dbd0d542c84dd25ebf2cdf90550d8eae12";
    let mut b = Bench::new();
    b.run(id, 0);
    b.wait(1100);
    for path in
        [format!("/system.slice/docker-{id}.scope"), format!("/system.slice/docker-{}.scope", id.replace('d', "e"))]
    {
        b.cgroup(&path, 70, 3000, EventKind::Created);
        b.cgroup(&path, 110, 3000, started());
    }
    b.wait(1100);
    assert_eq!(b.starts().len(), 2, "one of each: {:#?}", b.starts());
    b.event(id, 9000, 1, EventKind::Exited { code: Some(0) });
    b.cgroup(&format!("/system.slice/docker-{id}.scope"), 9000, 1, EventKind::Exited { code: None });
    b.wait(1100);
    assert_eq!(b.exits().len(), 1);
}
